//! evenkeel: a layer-4/7 load balancer with health checking.

pub mod config;
pub mod units;
