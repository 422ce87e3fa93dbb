//! evenkeel: a layer-4/7 load balancer with health checking.

pub mod config;
pub mod pool;
pub mod route;
pub mod select;
pub mod snapshot;
pub mod units;
