//! Serves requests: the adapter between Pingora's hooks and the pure core.

mod engine;
mod exchange;
mod forwarding;
mod http;
mod key;
mod refused;
mod response;

pub(crate) use http::Proxy;
pub(crate) use refused::Reporter;
