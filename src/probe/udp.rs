//! The `udp` probe: a datagram out, and an answer that contains what is expected.

use super::{Probe, ProbeFailure, ProbeTarget, Steps};
use crate::api::probe::StepKind;
use crate::config::plan::UdpProbe;
use crate::units::Address;
use async_trait::async_trait;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// No datagram is longer.
const LONGEST: usize = 65_535;
/// Of an unexpected answer, so much is shown.
const SHOWN: usize = 80;

/// The `udp` probe.
#[derive(Debug)]
pub struct UdpCheck {
    settings: UdpProbe,
}

impl UdpCheck {
    pub fn new(settings: UdpProbe) -> Self {
        Self { settings }
    }
}

#[async_trait]
impl Probe for UdpCheck {
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let refused = ProbeFailure::from;
        let Address::Inet(address) = &target.address else {
            return Err(ProbeFailure::Connect("a unix socket takes no UDP".to_owned()));
        };
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        steps.begin(StepKind::Request);
        steps.found(|| {
            format!("\"{}\"", self.settings.send[..self.settings.send.len().min(SHOWN)].escape_ascii())
        });
        let socket = UdpSocket::bind(any).await.map_err(refused)?;
        // Connected, it hears of a closed port, and of nobody but the server.
        socket.connect(address).await.map_err(refused)?;
        socket.send(&self.settings.send).await.map_err(refused)?;
        steps.begin(StepKind::Reply);
        let mut buffer = vec![0; LONGEST];
        let length = receive(&socket, &mut buffer).await.map_err(refused)?;
        let answer = &buffer[..length];
        let begins = answer[..length.min(SHOWN)].escape_ascii();
        steps.found(|| format!("{length} bytes, begins \"{begins}\""));
        match &self.settings.expect {
            Some(expected) if !contains(answer, expected) => Err(ProbeFailure::Bytes {
                expected: expected.escape_ascii().to_string(),
                found: begins.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn rule(&self) -> String {
        match &self.settings.expect {
            Some(bytes) => format!("the answer contains \"{}\"", bytes.escape_ascii()),
            None => "an answer comes".to_owned(),
        }
    }
}

/// A closed port shows as an error of the socket, which is no readiness to read.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let interest = if ready.is_readable() { Interest::READABLE } else { Interest::ERROR };
        match socket.try_io(interest, || (&*SockRef::from(socket)).read(buffer)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

fn contains(answer: &[u8], expected: &[u8]) -> bool {
    expected.is_empty() || answer.windows(expected.len()).any(|window| window == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What a probe says of a server that answers so; an empty answer is none.
    async fn check(expect: Option<&str>, answer: &'static [u8]) -> Result<(), ProbeFailure> {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Inet(server.local_addr().unwrap());
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, client)) = server.recv_from(&mut buffer).await {
                assert_eq!(&buffer[..length], b"PING\0");
                server.send_to(answer, client).await.unwrap();
            }
        });
        let settings = UdpProbe { send: b"PING\0".to_vec(), expect: expect.map(|text| text.into()) };
        UdpCheck::new(settings).check(&address.into(), &Steps::default()).await
    }

    #[tokio::test]
    async fn an_answer_passes_if_it_contains_what_is_expected() {
        assert_eq!(check(Some("PONG"), b"+PONG\r\n").await, Ok(()));
        assert_eq!(check(None, b"anything").await, Ok(()));
        let wrong = check(Some("PONG"), b"-ERR\x01").await.unwrap_err();
        assert_eq!(wrong.to_string(), "reply does not contain \"PONG\"; it begins \"-ERR\\x01\"");
    }

    #[tokio::test]
    async fn a_closed_port_fails_at_once() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (probe, closed) =
            (UdpCheck::new(UdpProbe { send: Vec::new(), expect: None }), Address::Inet(closed).into());
        let steps = Steps::default();
        let result = tokio::time::timeout(Duration::from_secs(10), probe.check(&closed, &steps));
        assert_eq!(result.await.unwrap().unwrap_err().label(), "connect");
    }
}
