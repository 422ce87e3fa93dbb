//! The server's side of an exchange, whichever protocol it speaks.

use super::over_h1::OverH1;
use super::over_h2::OverH2;
use crate::access_log::Why;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use std::task::{Context, Poll};
use std::time::Duration;

/// What a server answers with: the response's head, or an interim one.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// Nothing follows.
    pub(super) is_over: bool,
    /// Seconds for which the server keeps the connection, if it says so.
    pub(super) hint: Option<u32>,
}

/// What follows a head.
#[derive(Debug)]
pub(super) enum Data {
    Some { bytes: Bytes, is_last: bool },
    End(Option<HeaderMap>),
}

/// Why a server's side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: Why,
    pub(super) detail: Option<&'static str>,
    /// The server has said that it has done nothing for the request: it does no harm elsewhere.
    pub(super) is_untouched: bool,
}

impl Failure {
    pub(super) fn malformed(detail: &'static str) -> Self {
        Self { why: Why::ServerMalformed, detail: Some(detail), is_untouched: false }
    }
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Self { why, detail: None, is_untouched: false }
    }
}

/// One exchange with a server.
#[derive(Debug)]
pub(super) enum Server {
    H1(Box<OverH1>),
    H2(Box<OverH2>),
}

impl Server {
    /// Whether more of the request's body may be put.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::H1(server) => server.has_room(),
            Self::H2(server) => server.has_room(),
        }
    }

    /// Takes more of the request's body, to be sent by `poll_flush`.
    pub(super) fn put(&mut self, bytes: Bytes) {
        match self {
            Self::H1(server) => server.put(&bytes),
            Self::H2(server) => server.put(bytes),
        }
    }

    /// The request is whole: to be called when what was put is sent.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        match self {
            Self::H1(server) => server.finish(),
            Self::H2(server) => server.finish(trailers),
        }
    }

    /// Ready when the connection has taken what was put.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::H1(server) => server.poll_flush(cx),
            Self::H2(server) => server.poll_flush(cx),
        }
    }

    pub(super) fn uploaded(&mut self) {
        if let Self::H1(server) = self {
            server.uploaded();
        }
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        match self {
            Self::H1(server) => server.poll_head(cx),
            Self::H2(server) => server.poll_head(cx),
        }
    }

    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Data, Failure>> {
        match self {
            Self::H1(server) => server.poll_data(cx),
            Self::H2(server) => server.poll_data(cx),
        }
    }

    /// The response is whole: the connection is for others, who may come within this time.
    pub(super) fn done(self, keepalive: Duration) {
        if let Self::H1(server) = self {
            server.done(keepalive);
        }
    }

    /// The server has not answered in time.
    pub(super) fn doubt(&self) {
        if let Self::H2(server) = self {
            server.doubt();
        }
    }
}

/// Fields that are about one connection (RFC 9110 section 7.6.1) or its proxy (section 11.7.2).
pub(super) fn is_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "proxy-authorization"
            | "http2-settings"
            | "transfer-encoding"
    )
}
