//! Why an exchange ended: one list for the access log, the metrics and the answers to clients.

use crate::pool::{NoServer, TryResult};

/// Why an exchange ended as it did; the access log's `why` field and the reason in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// A response was delivered, whatever its status.
    Ok,
    /// The client was sent to ask again over TLS.
    Redirect,
    /// An authority asked whether a name is ours, and was answered.
    AcmeChallenge,
    /// No route matches.
    NoRoute,
    /// The pool's servers are all unhealthy and the pool refuses then.
    AllUnhealthy,
    /// Every usable server is at `max_connections`.
    AllFull,
    /// Every server was tried and failed.
    AllTried,
    /// Every server is drained or in maintenance.
    NoneReady,
    /// The pool has no server: its source has named none.
    NoServers,
    /// No connection to the server could be opened.
    ConnectFailed,
    /// `timeouts.connect` passed.
    ConnectTimeout,
    /// TLS with the server failed, or its certificate is not good.
    ServerTls,
    /// The server closed or reset the connection before its response was complete.
    ServerReset,
    /// The server's response is not HTTP.
    ServerMalformed,
    /// `timeouts.response_header` passed.
    ResponseHeaderTimeout,
    /// `timeouts.request` passed.
    RequestTimeout,
    /// `timeouts.stream_idle` passed.
    StreamIdle,
    /// `timeouts.tunnel_idle` passed.
    TunnelIdle,
    /// The server went down or left and `drain_timeout` passed.
    Drained,
    /// The client went away.
    ClientAborted,
    /// A connection from a proxy does not begin with a PROXY header, or with one that is malformed.
    ProxyHeader,
    /// The listener's `timeouts.tls_handshake` passed before the protocol began.
    HandshakeTimeout,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The client has shown no certificate, or one that is not accepted.
    ClientCertificate,
    /// A connection to be passed on by its TLS server name does not begin with a readable ClientHello.
    ClientHello,
    /// The client's request is not HTTP as RFC 9112 has it.
    Malformed,
    /// An HTTP/2 client did too much of what costs us work and brings nobody anything.
    Http2Abuse,
    /// The listener's `timeouts.request_header` passed.
    RequestHeaderTimeout,
    /// The listener's `timeouts.request_body` passed.
    RequestBodyTimeout,
    /// The listener's `limits.request_headers` is exceeded.
    HeadersTooLarge,
    /// The listener's `limits.request_body` is exceeded.
    BodyTooLarge,
    /// The listener's `limits.connections_per_client` is reached.
    ClientLimit,
    /// Evenkeel has no file, port or memory left for a connection to a server.
    OwnResources,
    /// The process stopped.
    Shutdown,
    /// A fault of our own.
    Internal,
}

impl Why {
    /// Whether the client got what the configuration has for it.
    pub fn is_as_wanted(self) -> bool {
        matches!(self, Self::Ok | Self::Redirect | Self::AcmeChallenge)
    }

    /// Whether the servers, or the lack of them, are to blame.
    pub fn is_of_servers(self) -> bool {
        (Self::AllUnhealthy as u8..=Self::RequestTimeout as u8).contains(&(self as u8))
    }

    /// What it says of the server whose try it ended, if neither a response nor a connection speaks for the server.
    pub fn result(self) -> TryResult {
        match self {
            Self::ConnectFailed | Self::ServerTls => TryResult::ConnectFailed,
            Self::ConnectTimeout | Self::ResponseHeaderTimeout | Self::RequestTimeout => TryResult::TimedOut,
            Self::ServerReset | Self::ServerMalformed => TryResult::Reset,
            Self::Internal => TryResult::Unknown,
            _ => TryResult::NotItsDoing,
        }
    }

    /// In the order of their bytes.
    pub const ALL: [Self; 35] = [
        Self::Ok,
        Self::Redirect,
        Self::AcmeChallenge,
        Self::NoRoute,
        Self::AllUnhealthy,
        Self::AllFull,
        Self::AllTried,
        Self::NoneReady,
        Self::NoServers,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::ServerTls,
        Self::ServerReset,
        Self::ServerMalformed,
        Self::ResponseHeaderTimeout,
        Self::RequestTimeout,
        Self::StreamIdle,
        Self::TunnelIdle,
        Self::Drained,
        Self::ClientAborted,
        Self::ProxyHeader,
        Self::HandshakeTimeout,
        Self::TlsHandshake,
        Self::ClientCertificate,
        Self::ClientHello,
        Self::Malformed,
        Self::Http2Abuse,
        Self::RequestHeaderTimeout,
        Self::RequestBodyTimeout,
        Self::HeadersTooLarge,
        Self::BodyTooLarge,
        Self::ClientLimit,
        Self::OwnResources,
        Self::Shutdown,
        Self::Internal,
    ];

    /// The value in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Redirect => "redirect",
            Self::AcmeChallenge => "acme_challenge",
            Self::NoRoute => "no_route",
            Self::AllUnhealthy => "all_unhealthy",
            Self::AllFull => "all_full",
            Self::AllTried => "all_tried",
            Self::NoneReady => "none_ready",
            Self::NoServers => "no_servers",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ServerTls => "server_tls",
            Self::ServerReset => "server_reset",
            Self::ServerMalformed => "server_malformed",
            Self::ResponseHeaderTimeout => "response_header_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::StreamIdle => "stream_idle",
            Self::TunnelIdle => "tunnel_idle",
            Self::Drained => "drained",
            Self::ClientAborted => "client_aborted",
            Self::ProxyHeader => "proxy_header",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TlsHandshake => "tls_handshake",
            Self::ClientCertificate => "client_certificate",
            Self::ClientHello => "client_hello",
            Self::Malformed => "malformed",
            Self::Http2Abuse => "http2_abuse",
            Self::RequestHeaderTimeout => "request_header_timeout",
            Self::RequestBodyTimeout => "request_body_timeout",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientLimit => "client_limit",
            Self::OwnResources => "own_resources",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    /// The status that tells the client. 499 is nginx's word for a client that went away.
    pub fn status(self) -> u16 {
        match self {
            Self::Ok | Self::AcmeChallenge => 200,
            // Unlike 301 it keeps the method and the body.
            Self::Redirect => 308,
            Self::NoRoute => 404,
            Self::AllUnhealthy | Self::AllFull | Self::NoneReady | Self::NoServers => 503,
            Self::Shutdown | Self::OwnResources => 503,
            Self::AllTried
            | Self::ConnectFailed
            | Self::ServerTls
            | Self::ServerReset
            | Self::ServerMalformed => 502,
            Self::Drained => 502,
            Self::ConnectTimeout | Self::ResponseHeaderTimeout | Self::RequestTimeout => 504,
            Self::StreamIdle | Self::TunnelIdle => 504,
            Self::ClientAborted => 499,
            Self::ProxyHeader | Self::TlsHandshake | Self::ClientHello | Self::Malformed => 400,
            Self::ClientCertificate => 400,
            // It has no answer: there is no telling which request it would be for.
            Self::Http2Abuse => 400,
            Self::HandshakeTimeout => 408,
            Self::RequestHeaderTimeout | Self::RequestBodyTimeout => 408,
            Self::HeadersTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::ClientLimit => 503,
            Self::Internal => 500,
        }
    }

    /// The reason a byte stands for; the inverse of `self as u8`.
    pub(crate) fn from_u8(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Internal)
    }
}

impl From<NoServer> for Why {
    fn from(none: NoServer) -> Self {
        match none {
            NoServer::AllUnhealthy => Self::AllUnhealthy,
            NoServer::AllFull => Self::AllFull,
            NoServer::AllTried => Self::AllTried,
            NoServer::NoneReady => Self::NoneReady,
            NoServer::NoServers => Self::NoServers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_byte() {
        for why in Why::ALL {
            assert_eq!(Why::from_u8(why as u8), why);
        }
    }
}
