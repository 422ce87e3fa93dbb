//! What the fuzz targets (`fuzz/`) call of this room, in types of their own: the judge keeps its own to itself.

use super::response::{self, Body, To, Verdict};
use crate::wire::fuzzed::Judged;
use http::HeaderMap;
use std::time::SystemTime;

/// Who gets a response.
#[derive(Clone, Copy, Debug)]
pub struct Recipient {
    pub has_sent_head: bool,
    /// What its connection may switch to, as Upgrade has it.
    pub upgrade: Option<&'static str>,
    pub is_http_11: bool,
    /// Its connection may bring another request.
    pub may_go_on: bool,
    /// What is said of Strict-Transport-Security.
    pub hsts: Option<&'static str>,
}

/// How a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A response's head that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, its empty line included.
    pub length: usize,
    pub status: u16,
    pub body: ResponseBody,
    pub keeps: bool,
    /// Whether its recipient's connection goes on after it.
    pub goes_on: bool,
    /// What its recipient gets.
    pub written: Vec<u8>,
}

/// Judges a response's head, and writes it.
pub fn response_head(bytes: &[u8], to: Recipient) -> Judged<ResponseHead> {
    let mut written = Vec::new();
    let to = To {
        head_request: to.has_sent_head,
        upgrade: to.upgrade,
        is_http_11: to.is_http_11,
        may_go_on: to.may_go_on,
        hsts: to.hsts,
        now: SystemTime::UNIX_EPOCH,
    };
    match response::read(bytes, to, &mut written) {
        Verdict::Partial => Judged::Partial,
        Verdict::Refused(why) => Judged::Refused(why),
        Verdict::Complete(form) => Judged::Complete(ResponseHead {
            length: form.length,
            status: form.status,
            body: match form.body {
                Body::Length(length) => ResponseBody::Length(length),
                Body::Chunked(_) => ResponseBody::Chunked,
                Body::UntilClose => ResponseBody::UntilClose,
            },
            keeps: form.keeps,
            goes_on: form.goes_on,
            written,
        }),
    }
}

/// Its fields as an HTTP/2 client gets them; none if the head is not whole or is refused.
pub fn response_fields(bytes: &[u8], has_sent_head: bool) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    matches!(response::read_map(bytes, has_sent_head, &mut map), Verdict::Complete(_)).then_some(map)
}
