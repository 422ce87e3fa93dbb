//! evenkeel: a layer-4/7 load balancer with health checking.

pub mod access_log;
pub mod acme;
mod admin;
pub mod cli;
pub mod client_hello;
pub mod config;
mod control;
mod edge;
pub mod fields;
pub mod memory;
pub mod metrics;
pub mod origination;
pub mod pool;
pub mod preview;
pub mod probe;
pub mod proxy_header;
pub mod route;
pub mod select;
mod serve;
mod server;
pub mod snapshot;
mod tls;
pub mod units;
pub mod websocket;
