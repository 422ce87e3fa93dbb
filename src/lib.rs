//! evenkeel: a layer-4/7 load balancer with health checking.

pub mod access_log;
pub mod config;
mod edge;
pub mod metrics;
pub mod pool;
pub mod probe;
pub mod route;
pub mod select;
pub mod snapshot;
pub mod units;
