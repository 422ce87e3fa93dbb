//! Connections to hosts that URLs name, off the way of requests: by the machine's own names, or by the resolvers that
//! the configuration has.

use super::dns_answer::{DnsAnswer, DnsRecord, RecordKind};
use super::resolver;
use crate::config::plan::DnsPlan;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// An address that says nothing must leave time for the next one.
const EACH: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("{0} cannot be found: {1}")]
    Name(String, String),
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
}

/// The first of a host's addresses that lets itself be connected to.
///
/// # Errors
/// It has no address, or the last one's refusal.
pub(crate) async fn connect(
    dns: &DnsPlan,
    host: &str,
    port: u16,
) -> Result<(SocketAddr, TcpStream), ConnectFailure> {
    let nothing = |why: String| ConnectFailure::Name(host.to_owned(), why);
    let mut failure = nothing("it has no address".to_owned());
    for address in addresses(dns, host).await.map_err(nothing)? {
        let address = SocketAddr::new(address, port);
        let connected = tokio::time::timeout(EACH, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok((address, stream)),
            Err(error) => failure = ConnectFailure::Connect(address, error),
        }
    }
    Err(failure)
}

async fn addresses(dns: &DnsPlan, host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let own = resolver::own_addresses(&host).await;
    if !own.is_empty() {
        return Ok(own);
    }
    let lookup = resolver::look_up(dns, &host, &[RecordKind::Ipv4, RecordKind::Ipv6]).await?;
    let (mut found, mut why) = (Vec::new(), None);
    for result in lookup.results {
        match result {
            Ok(DnsAnswer::Records { records, .. }) => {
                found.extend(records.into_iter().filter_map(|record| match record {
                    DnsRecord::Address(address) => Some(address),
                    DnsRecord::Service(_) => None,
                }));
            }
            Ok(_) => {}
            Err(failure) => why = Some(failure.to_string()),
        }
    }
    match why.filter(|_| found.is_empty()) {
        Some(why) => Err(why),
        None => Ok(found),
    }
}
