//! The `tcp` probe: a connection that opens is a pass.

use super::{Failure, Probe};
use crate::units::Address;
use async_trait::async_trait;
use tokio::net::{TcpStream, UnixStream};

/// The `tcp` probe.
#[derive(Debug)]
pub struct TcpCheck;

#[async_trait]
impl Probe for TcpCheck {
    async fn check(&self, address: &Address) -> Result<(), Failure> {
        match address {
            Address::Inet(address) => TcpStream::connect(address).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
        .map_err(|error| Failure::Connect(error.to_string()))
    }
}
