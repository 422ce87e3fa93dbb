//! Serves requests and connections: the adapter between Pingora's hooks, or bare sockets, and the pure core.

mod call;
mod engine;
mod exchange;
mod forwarding;
mod http;
mod introduction;
mod key;
mod refused;
mod response;
mod tcp;

pub(crate) use http::Proxy;
pub(crate) use refused::Reporter;
pub(crate) use tcp::Carrier;
