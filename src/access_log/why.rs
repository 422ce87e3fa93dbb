//! Why an exchange ended: one list for the access log, the metrics and the answers to clients.

use crate::pool::{NoServer, Refusal, TryResult};

/// Who or what a reason speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The client got what the configuration has for it.
    AsWanted,
    /// The servers, or the lack of them, are to blame.
    OfServers,
    Other,
}

/// A reason has one row: its text in logs and metrics, the status that tells the client, whom it speaks of, and what it
/// says of the server whose try it ended, if neither a response nor a connection speaks for the server.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $status:literal, $kind:ident, $result:ident;)*) => {
        /// Why an exchange ended as it did; the access log's `why` field and the reason in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Why {
            $($(#[$doc])* $name,)*
        }

        impl Why {
            /// In the order of their bytes.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$name),*];

            /// The value in logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The status that tells the client.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }

            /// What it says of the server whose try it ended, if neither a response nor a connection speaks for the server.
            pub fn result(self) -> TryResult {
                match self {
                    $(Self::$name => TryResult::$result,)*
                }
            }
        }
    };
}

reasons! {
    /// A response was delivered, whatever its status.
    Ok: "ok", 200, AsWanted, NotServersFault;
    /// The client was sent to ask again over TLS.
    // Unlike 301 its status keeps the method and the body.
    Redirect: "redirect", 308, AsWanted, NotServersFault;
    /// The rule has an answer of our own.
    Respond: "respond", 200, AsWanted, NotServersFault;
    /// The rule is in maintenance.
    Maintenance: "maintenance", 503, AsWanted, NotServersFault;
    /// A browser asked whether pages of another origin may read responses.
    CorsPreflight: "cors_preflight", 204, AsWanted, NotServersFault;
    /// The rule's `fault` made it fail on purpose.
    Fault: "fault", 500, AsWanted, NotServersFault;
    /// An authority asked whether a name is ours, and was answered.
    AcmeChallenge: "acme_challenge", 200, AsWanted, NotServersFault;
    /// The client wants what is kept, and nothing is.
    OnlyIfCached: "only_if_cached", 504, AsWanted, NotServersFault;
    /// The client has purged what is kept.
    Purge: "purge", 200, AsWanted, NotServersFault;
    /// No route matches.
    NoRoute: "no_route", 404, Other, NotServersFault;
    /// The pool's servers are all unhealthy and the pool refuses then.
    AllUnhealthy: "all_unhealthy", 503, OfServers, NotServersFault;
    /// Every usable server is at `max_connections`, and nobody waits.
    AllFull: "all_full", 503, OfServers, NotServersFault;
    /// Every usable server is at `max_connections`, and as many wait as may.
    QueueFull: "queue_full", 503, OfServers, NotServersFault;
    /// The pool's `queue.timeout` passed.
    QueueTimeout: "queue_timeout", 503, OfServers, NotServersFault;
    /// It waited, and had to leave for a request of a higher class.
    QueueShed: "queue_shed", 503, OfServers, NotServersFault;
    /// Every server is drained or in maintenance.
    NoneReady: "none_ready", 503, OfServers, NotServersFault;
    /// The pool has no server: its source has named none.
    NoServers: "no_servers", 503, OfServers, NotServersFault;
    /// No connection to the server could be opened.
    ConnectFailed: "connect_failed", 502, OfServers, ConnectFailed;
    /// `timeouts.connect` passed.
    ConnectTimeout: "connect_timeout", 504, OfServers, TimedOut;
    /// TLS with the server failed, or its certificate is not good.
    ServerTls: "server_tls", 502, OfServers, ConnectFailed;
    /// The server closed or reset the connection before its response was complete.
    ServerReset: "server_reset", 502, OfServers, Reset;
    /// The server's response is not HTTP.
    ServerMalformed: "server_malformed", 502, OfServers, Reset;
    /// `timeouts.response_header` passed.
    ResponseHeaderTimeout: "response_header_timeout", 504, OfServers, TimedOut;
    /// `timeouts.request` passed.
    RequestTimeout: "request_timeout", 504, OfServers, TimedOut;
    /// `timeouts.stream_idle` passed.
    StreamIdle: "stream_idle", 504, Other, NotServersFault;
    /// `timeouts.tunnel_idle` passed.
    TunnelIdle: "tunnel_idle", 504, Other, NotServersFault;
    /// The server went down or left and `drain_timeout` passed.
    Drained: "drained", 502, Other, NotServersFault;
    /// The client went away.
    // 499 is nginx's word for it.
    ClientAborted: "client_aborted", 499, Other, NotServersFault;
    /// A connection from a proxy does not begin with a PROXY header, or with one that is malformed.
    ProxyHeader: "proxy_header", 400, Other, NotServersFault;
    /// The listener's `timeouts.tls_handshake` passed before the protocol began.
    HandshakeTimeout: "handshake_timeout", 408, Other, NotServersFault;
    /// The TLS handshake failed.
    TlsHandshake: "tls_handshake", 400, Other, NotServersFault;
    /// The client has shown no certificate, or one that is not accepted.
    ClientCertificate: "client_certificate", 400, Other, NotServersFault;
    /// A connection to be passed on by its TLS server name does not begin with a readable ClientHello.
    ClientHello: "client_hello", 400, Other, NotServersFault;
    /// The client's request is not HTTP as RFC 9112 has it.
    Malformed: "malformed", 400, Other, NotServersFault;
    /// An HTTP/2 client did too much of what costs us work and brings nobody anything.
    // It has no answer: there is no telling which request it would be for.
    Http2Abuse: "http2_abuse", 400, Other, NotServersFault;
    /// The listener's `timeouts.request_header` passed.
    RequestHeaderTimeout: "request_header_timeout", 408, Other, NotServersFault;
    /// The listener's `timeouts.request_body` passed.
    RequestBodyTimeout: "request_body_timeout", 408, Other, NotServersFault;
    /// The listener's `limits.uri` is exceeded.
    UriTooLong: "uri_too_long", 414, Other, NotServersFault;
    /// The listener's `limits.request_headers`, `header_count` or `header_line` is exceeded.
    HeadersTooLarge: "headers_too_large", 431, Other, NotServersFault;
    /// The listener's `limits.request_body` is exceeded.
    BodyTooLarge: "body_too_large", 413, Other, NotServersFault;
    /// A rate, or the number of requests at once, is beyond what a policy allows.
    RateLimited: "rate_limited", 429, Other, NotServersFault;
    /// The client may not ask.
    Denied: "denied", 403, Other, NotServersFault;
    /// The client is banned.
    Banned: "banned", 403, Other, NotServersFault;
    /// The client may not ask, and was let wait.
    Tarpit: "tarpit", 403, Other, NotServersFault;
    /// The listener's `limits.connections_per_client` or `new_connections_per_client` is reached.
    ClientLimit: "client_limit", 503, Other, NotServersFault;
    /// Evenkeel has no file, port or memory left for a connection to a server.
    OwnResources: "own_resources", 503, Other, NotServersFault;
    /// The process stopped.
    Shutdown: "shutdown", 503, Other, NotServersFault;
    /// A fault of our own.
    Internal: "internal", 500, Other, Unknown;
}

impl Why {
    /// Whether the client got what the configuration has for it.
    pub fn is_as_wanted(self) -> bool {
        self.kind() == Kind::AsWanted
    }

    /// Whether that is an answer of our own.
    pub fn is_own_answer(self) -> bool {
        self.is_as_wanted() && self != Self::Ok
    }

    /// Whether the servers, or the lack of them, are to blame.
    pub fn is_of_servers(self) -> bool {
        self.kind() == Kind::OfServers
    }

    /// Whether waiting for a server has come to nothing.
    pub fn is_of_queue(self) -> bool {
        matches!(self, Self::QueueFull | Self::QueueTimeout | Self::QueueShed)
    }

    /// The reason a byte stands for; the inverse of `self as u8`.
    pub(crate) fn from_u8(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Internal)
    }
}

impl From<NoServer> for Why {
    fn from(none: NoServer) -> Self {
        match none {
            NoServer::AllUnhealthy | NoServer::Unproven => Self::AllUnhealthy,
            // A first try meets the latter only when a server has come back while the others were counted.
            NoServer::AllFull | NoServer::AllTried => Self::AllFull,
            NoServer::NoneReady => Self::NoneReady,
            NoServer::NoServers => Self::NoServers,
        }
    }
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::None(none) => none.into(),
            Refusal::QueueFull => Self::QueueFull,
            Refusal::QueueTimeout => Self::QueueTimeout,
            Refusal::QueueShed => Self::QueueShed,
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

    #[test]
    fn operators_are_told_of_every_reason_and_of_no_other() {
        let page = include_str!("../../docs/operations.md");
        let row = page.lines().find(|line| line.starts_with("| `why` |")).expect("it has a row");
        let mut told =
            row.trim_start_matches("| `why` | `ok`, or what ended it: ").trim_end_matches(" |").to_owned();
        // What stands in brackets explains.
        while let (Some(open), Some(close)) = (told.find(" ("), told.find(')')) {
            told.replace_range(open..=close, "");
        }
        let told: Vec<_> = ["ok"].into_iter().chain(told.split(", ")).collect();
        let mut reasons = Why::ALL.map(Why::as_str);
        reasons.sort_unstable();
        let mut told = told;
        told.sort_unstable();
        assert_eq!(told, reasons);
    }
}
