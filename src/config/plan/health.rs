//! How servers are probed.

use crate::units::Percent;
use http::Method;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Probes of one pool under way at once. At start and after a reload all are due together; more would only be a burst of
/// open files and of connections.
pub const PROBES_AT_ONCE: usize = 256;

/// How a pool's servers are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthPlan {
    pub probe: ProbePlan,
    /// Another port than the server's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    pub fall: NonZeroU32,
    pub rise: NonZeroU32,
    /// Up to this share of the interval is added or taken away by chance.
    pub jitter: Percent,
    pub initial: Initial,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProbePlan {
    Http(HttpProbe),
    Tcp(TcpProbe),
    Tls(TlsProbe),
    Grpc(GrpcProbe),
    Udp(UdpProbe),
}

/// A connection that opens is a pass, unless more is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpProbe {
    /// Never without `expect`.
    pub send: Option<String>,
    /// A text that the first 64 KiB of the reply must contain.
    pub expect: Option<String>,
}

/// The standard health service must say SERVING.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcProbe {
    /// `None` asks about the whole server.
    pub service: Option<String>,
}

/// A handshake that completes is a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsProbe {
    /// `None` is the server's address, which is not sent.
    pub server_name: Option<String>,
    /// Whether the certificate must be good for that name, by the machine's own authorities.
    pub verify: bool,
}

/// A datagram, and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    pub send: Vec<u8>,
    /// Bytes that the answer must contain; `None` is any answer.
    pub expect: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    pub path: String,
    pub method: Method,
    /// The Host field; `None` is the server's address.
    pub host: Option<String>,
    /// Never empty.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// A text that the first 64 KiB of the body must contain.
    pub expect_body: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Not used until the first pass.
    Probing,
    Up,
}
