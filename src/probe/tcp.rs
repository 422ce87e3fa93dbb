//! The `tcp` probe: a connection that opens is a pass.

use super::dial::dial;
use super::{Failure, Probe};
use crate::units::Address;
use async_trait::async_trait;

/// The `tcp` probe.
#[derive(Debug)]
pub struct TcpCheck {
    /// Goes first on each connection.
    pub introduction: Option<Vec<u8>>,
}

#[async_trait]
impl Probe for TcpCheck {
    async fn check(&self, address: &Address) -> Result<(), Failure> {
        let opened = dial(address, self.introduction.as_deref()).await;
        opened.map(drop).map_err(|error| Failure::Connect(error.to_string()))
    }
}
