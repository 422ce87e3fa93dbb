//! A server's response head: judged as strictly as a client's request, and written as the client gets it.

use super::request::field;
use crate::edge::date;
use crate::fields::{MOST_OPTIONS, count_members, has_token, tokens};
use crate::serve::answer::Persistence;
use crate::serve::exchange::WEBSOCKET;
use crate::wire::chunked::Chunks;
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{Error, Header, ParserConfig, Response, Status};
use std::mem::MaybeUninit;
use std::time::SystemTime;

/// As many fields as a request may have.
const MAX_FIELDS: usize = 256;

/// How a response's body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Body {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// What of a head the relay goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Form {
    /// Bytes of the head, its empty line included.
    pub(in crate::serve) length: usize,
    pub(in crate::serve) status: u16,
    pub(in crate::serve) body: Body,
    /// Whether the server keeps the connection.
    pub(in crate::serve) keeps: bool,
    /// Whether the client's connection goes on after it.
    pub(in crate::serve) goes_on: bool,
    /// Of a 101: what follows is a WebSocket's.
    pub(in crate::serve) is_websocket: bool,
    /// Seconds for which it does, as `Keep-Alive: timeout=5` says.
    pub(in crate::serve) hint: Option<u32>,
}

impl Form {
    /// An interim response, which another one follows (RFC 9110 section 15.2).
    pub(in crate::serve) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::serve) enum Verdict {
    /// More bytes are needed.
    Partial,
    Complete(Form),
    /// It must not go on; the text says why.
    Refused(&'static str),
}

/// How the response is to be passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'a> {
    /// It answers a HEAD request, so it has no body.
    pub(super) head_request: bool,
    /// What the connection may switch to, as Upgrade has it.
    pub(super) upgrade: Option<&'a str>,
    /// The client speaks HTTP/1.1, not 1.0.
    pub(super) is_http_11: bool,
    /// The client's connection may bring another request.
    pub(super) may_go_on: bool,
    /// The value of Strict-Transport-Security, unless the server says that itself.
    pub(super) hsts: Option<&'a str>,
    /// For its Date, unless the server says that itself.
    pub(super) now: SystemTime,
}

/// Judges a head, and writes it to `out` as the client gets it. Fields keep their order and the capitalization
/// they came with.
pub(super) fn read(bytes: &[u8], to: To<'_>, out: &mut Vec<u8>) -> Verdict {
    parse(bytes, to, |head| {
        let status = head.form.status;
        if head.form.is_interim() && !to.is_http_11 {
            // HTTP/1.0 knows none (RFC 9110 section 15.2).
            return;
        }
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        for part in [b"HTTP/1.1 ", &digits[..], b" ", head.reason.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        for (name, value) in head.staying() {
            // Nor chunks, which it gets without their framing (RFC 9112 section 6.1).
            if to.is_http_11 || !name.eq_ignore_ascii_case("transfer-encoding") {
                field(name.as_bytes(), value, out);
            }
        }
        if status >= 200 {
            if let Some(hsts) = to.hsts
                && !head.has("strict-transport-security")
            {
                field(b"Strict-Transport-Security", hsts.as_bytes(), out);
            }
            if !head.seen.has_date {
                field(b"Date", date(to.now).as_bytes(), out);
            }
            let persistence = Persistence::of(head.form.goes_on, to.is_http_11);
            let has_upgrade = names_upgrades(status) && head.has("upgrade");
            out.extend_from_slice(persistence.field(has_upgrade).as_bytes());
        } else if status == 101 {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
        }
        out.extend_from_slice(b"\r\n");
    })
}

/// Judges a head, and adds its fields to `map`, without those that frame a body in HTTP/1.1.
pub(in crate::serve) fn read_map(bytes: &[u8], head_request: bool, map: &mut HeaderMap) -> Verdict {
    let to = To {
        head_request,
        upgrade: None,
        is_http_11: true,
        may_go_on: true,
        hsts: None,
        now: SystemTime::UNIX_EPOCH,
    };
    parse(bytes, to, |head| {
        map.reserve(head.fields.len());
        for (name, value) in head.staying() {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("transfer-encoding") {
                continue;
            }
            // The parser has let nothing else pass.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
    })
}

/// A head that may go on.
struct Head<'h, 'b> {
    fields: &'h [Header<'b>],
    reason: &'b str,
    seen: Seen,
    form: Form,
}

impl<'b> Head<'_, 'b> {
    /// What is for the client: not what is about the server's own connection, nor a framing that the response has not.
    fn staying(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        let status = self.form.status;
        // RFC 9110 section 8.6, RFC 9112 section 6.1.
        let is_unframed = status < 200 || status == 204;
        self.fields.iter().map(|header| (header.name, header.value)).filter(move |(name, _)| {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                7 if is("upgrade") => return names_upgrades(status),
                10 if is("connection") || is("keep-alive") => return false,
                16 if is("proxy-connection") => return false,
                // Where both are given, chunks are what counts (RFC 9112 section 6.3).
                14 if is("content-length") => return !is_unframed && !self.seen.is_chunked,
                17 if is("transfer-encoding") => return !is_unframed && status != 304,
                _ => {}
            }
            // What a 101 nominates is what it switches to.
            let is_nominated = || {
                tokens(values(self.fields, "connection"))
                    .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
            };
            !(self.seen.has_connection && status != 101 && is_nominated())
        })
    }

    fn has(&self, name: &str) -> bool {
        values(self.fields, name).next().is_some()
    }
}

/// Whether a response with this status says what its sender could switch to (RFC 9110 sections 15.2.2 and 15.5.22), which
/// its Upgrade field otherwise says of one connection only.
pub(in crate::serve) fn names_upgrades(status: u16) -> bool {
    matches!(status, 101 | 426)
}

/// Judges a head, and hands it on if it may.
fn parse(bytes: &[u8], to: To<'_>, take: impl FnOnce(&Head<'_, '_>)) -> Verdict {
    if bytes.starts_with(b"\r\n\r\n") {
        return Verdict::Refused("more than one empty line");
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Verdict::Partial,
        Err(Error::TooManyHeaders) => return Verdict::Refused("too many fields"),
        Err(_) => return Verdict::Refused("malformed response head"),
    };
    let status = response.code.unwrap_or_default();
    let is_http_11 = response.version == Some(1);
    let seen = match Seen::new(response.headers) {
        Ok(seen) => seen,
        Err(detail) => return Verdict::Refused(detail),
    };
    match status {
        101 if !is_asked_for(response.headers, to.upgrade) => {
            return Verdict::Refused("an upgrade nobody asked for");
        }
        // What is beyond 599 is as good as 5xx (RFC 9110 section 15), and servers do use it.
        100..1000 => {}
        _ => return Verdict::Refused("unknown status"),
    }
    let body = match () {
        () if to.head_request || status < 200 || status == 204 || status == 304 => Body::Length(0),
        () if seen.is_chunked && !is_http_11 => return Verdict::Refused("Transfer-Encoding in HTTP/1.0"),
        () if seen.is_chunked => Body::Chunked(Chunks::new()),
        () => seen.length.map_or(Body::UntilClose, Body::Length),
    };
    let connection = || values(response.headers, "connection");
    let keeps = match is_http_11 {
        true => !(seen.has_connection && has_token(connection(), "close")),
        false => seen.has_connection && has_token(connection(), "keep-alive"),
    };
    let has_end = match body {
        Body::Length(_) => true,
        Body::Chunked(_) => to.is_http_11,
        Body::UntilClose => false,
    };
    let goes_on = to.may_go_on && has_end;
    let is_websocket = status == 101 && is_upgrade_to(response.headers, to.upgrade, WEBSOCKET);
    let form = Form { length, status, body, keeps, goes_on, is_websocket, hint: seen.hint };
    let reason = response.reason.unwrap_or_default();
    take(&Head { fields: response.headers, reason, seen, form });
    Verdict::Complete(form)
}

/// Whether what a server switches to was asked for; it may leave it out where there is one choice only.
fn is_asked_for(headers: &[Header<'_>], asked: Option<&str>) -> bool {
    let Some(asked) = asked else { return false };
    let mut chosen = tokens(values(headers, "upgrade")).peekable();
    match chosen.peek() {
        None => !asked.contains(','),
        Some(_) => chosen.all(|chosen| {
            tokens([asked.as_bytes()].into_iter()).any(|asked| asked.eq_ignore_ascii_case(chosen))
        }),
    }
}

/// Whether a server that has been asked for these switches to this protocol.
fn is_upgrade_to(headers: &[Header<'_>], asked: Option<&str>, protocol: &str) -> bool {
    match values(headers, "upgrade").next() {
        None => asked.is_some_and(|asked| asked.eq_ignore_ascii_case(protocol)),
        Some(_) => has_token(values(headers, "upgrade"), protocol),
    }
}

fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// What the fields say of the body and of the connection.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    is_chunked: bool,
    has_connection: bool,
    options: usize,
    has_date: bool,
    hint: Option<u32>,
}

impl Seen {
    /// Two readers must not disagree on where the body ends (RFC 9112 section 6).
    fn new(headers: &[Header<'_>]) -> Result<Self, &'static str> {
        let mut seen = Self::default();
        for header in headers {
            let is = |other: &str| header.name.eq_ignore_ascii_case(other);
            match header.name.len() {
                4 if is("date") => seen.has_date = true,
                10 if is("connection") => {
                    seen.has_connection = true;
                    seen.options += count_members(header.value);
                    if seen.options > MOST_OPTIONS {
                        return Err("too many connection options");
                    }
                }
                10 if is("keep-alive") => seen.hint = timeout(header.value),
                14 if is("content-length") => {
                    if seen.length.is_some() {
                        return Err("more than one Content-Length");
                    }
                    let digits = std::str::from_utf8(header.value).ok();
                    let digits = digits.filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
                    let length = digits.and_then(|digits| digits.parse().ok());
                    seen.length = Some(length.ok_or("Content-Length is not a number")?);
                }
                17 if is("transfer-encoding") => {
                    if seen.is_chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err("Transfer-Encoding other than one chunked");
                    }
                    seen.is_chunked = true;
                }
                _ => {}
            }
        }
        Ok(seen)
    }
}

/// `timeout=5` of a Keep-Alive field, in seconds.
fn timeout(value: &[u8]) -> Option<u32> {
    let value = std::str::from_utf8(value).ok()?;
    value.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse().ok())
}

#[cfg(test)]
mod tests;
