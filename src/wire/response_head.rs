//! A server's response head: judged as strictly as a client's request, and written as a client gets it.

use super::chunked::Chunks;
use super::edit::{Edits, write_field};
use crate::fields::{FieldList, FieldSpan, MOST_OPTIONS, Span, count_members, has_token, is_name, tokens};
use http::{HeaderMap, Response, StatusCode, header};
use httparse::{Error, Header, ParserConfig, Status};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// As many fields as a request may have.
const MAX_FIELDS: usize = 256;

/// What connections switch to where no rule says otherwise.
pub(crate) const WEBSOCKET: &str = "websocket";

/// How a response's body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseBodyEnd {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// Where the parts of a head lie in its bytes, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHeadForm {
    /// Bytes of the head, its empty line included.
    pub(crate) length: usize,
    pub(crate) status: u16,
    pub(crate) body: ResponseBodyEnd,
    /// Whether the server keeps the connection.
    pub(crate) keeps: bool,
    /// Of a 101: what follows is a WebSocket's.
    pub(crate) is_websocket: bool,
    /// Seconds for which it does, as `Keep-Alive: timeout=5` says.
    pub(crate) hint: Option<u32>,
    is_chunked: bool,
    reason: Span,
}

/// As many interim responses (RFC 9110 section 15.2) before another bring nobody anything more.
pub(crate) const MOST_INTERIMS: u32 = 64;

/// Where the fields of a head lie in its bytes.
pub(crate) type FieldSpans = SmallVec<[FieldSpan; 24]>;

impl ResponseHeadForm {
    /// An interim response, which another one follows (RFC 9110 section 15.2).
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The head, whose bytes and fields these are.
    pub(crate) fn view<'a>(&self, bytes: &'a [u8], fields: &'a [FieldSpan]) -> ResponseView<'a> {
        ResponseView {
            status: self.status,
            reason: self.reason.in_bytes(bytes),
            body: match self.body {
                ResponseBodyEnd::Length(0) => BodyKind::Empty,
                ResponseBodyEnd::Length(_) => BodyKind::Length,
                ResponseBodyEnd::Chunked(_) => BodyKind::Streamed,
                ResponseBodyEnd::UntilClose => BodyKind::UntilClose,
            },
            is_chunked: self.is_chunked,
            fields: FieldList::Raw { bytes, fields },
        }
    }
}

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ResponseHeadVerdict {
    /// More bytes are needed.
    Partial,
    Complete(ResponseHeadForm),
    /// It must not go on; the text says why.
    Refused(&'static str),
}

/// What of a request says how its response is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseTo<'a> {
    /// It is a HEAD request, so the response has no body.
    pub(crate) is_head_request: bool,
    /// What the connection may switch to, as Upgrade has it.
    pub(crate) upgrade: Option<&'a str>,
}

/// What is known of a response's body before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// Nothing comes.
    Empty,
    /// As much as Content-Length says.
    Length,
    /// Parts, each with its length: chunks or HTTP/2's frames.
    Streamed,
    /// What comes before the connection ends.
    UntilClose,
    /// Other bytes than its fields speak of, however many: what frames them is for the side that they go to.
    Recoded,
    /// The same, so many.
    RecodedLength(u64),
}

/// A response's head, whichever form it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseView<'a> {
    pub(crate) status: u16,
    /// As the server has it; empty if it has none.
    pub(crate) reason: &'a [u8],
    pub(crate) body: BodyKind,
    /// Its fields speak of chunks.
    pub(crate) is_chunked: bool,
    pub(crate) fields: FieldList<'a>,
}

impl<'a> ResponseView<'a> {
    /// One in http's map, which has no chunks.
    pub(crate) fn of_map(status: StatusCode, fields: &'a HeaderMap, body: BodyKind) -> Self {
        Self { status: status.as_u16(), reason: b"", body, is_chunked: false, fields: FieldList::Map(fields) }
    }

    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether such a response has neither a body nor a field about one (RFC 9110 section 8.6, RFC 9112 section 6.1).
    fn is_unframed(&self) -> bool {
        self.status < 200 || self.status == 204
    }

    /// Whether it has no body, whatever a server may send (RFC 9112 section 6.3).
    pub(crate) fn is_bodiless(&self, is_head_request: bool) -> bool {
        is_head_request || self.is_unframed() || self.status == 304
    }
}

/// How a response's end is told to an HTTP/1 client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// It has no body, whatever a server may send.
    Bodiless,
    Length,
    Chunked,
    /// By the connection's end: HTTP/1.0 has no chunks (RFC 9112 section 6.1).
    UntilClose,
}

impl Framing {
    pub(crate) fn of(head: &ResponseView<'_>, is_head_request: bool, is_http_11: bool) -> Self {
        match head.body {
            _ if head.is_bodiless(is_head_request) => Self::Bodiless,
            BodyKind::Empty | BodyKind::Length | BodyKind::RecodedLength(_) => Self::Length,
            BodyKind::Streamed if !head.is_chunked && head.fields.has(&header::CONTENT_LENGTH) => {
                Self::Length
            }
            BodyKind::Streamed | BodyKind::Recoded if is_http_11 => Self::Chunked,
            BodyKind::Streamed | BodyKind::Recoded | BodyKind::UntilClose => Self::UntilClose,
        }
    }
}

/// What becomes of the client's connection after an HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    Stays,
    /// HTTP/1.0 must be told (RFC 9112 section 9.3).
    StaysOpenly,
    Ends,
}

impl Persistence {
    fn of(may_go_on: bool, is_http_11: bool) -> Self {
        match (may_go_on, is_http_11) {
            (false, _) => Self::Ends,
            (true, true) => Self::Stays,
            (true, false) => Self::StaysOpenly,
        }
    }

    /// The field that says so, of a response that has an Upgrade field or not.
    fn field(self, has_upgrade: bool) -> &'static str {
        match (self, has_upgrade) {
            (Self::Stays, false) => "",
            (Self::Stays, true) => "Connection: Upgrade\r\n",
            (Self::StaysOpenly, false) => "Connection: keep-alive\r\n",
            (Self::StaysOpenly, true) => "Connection: keep-alive, Upgrade\r\n",
            (Self::Ends, false) => "Connection: close\r\n",
            (Self::Ends, true) => "Connection: close, Upgrade\r\n",
        }
    }
}

/// How an HTTP/1 client gets a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http1Terms {
    /// It speaks HTTP/1.1, not 1.0.
    pub(crate) is_http_11: bool,
    pub(crate) framing: Framing,
    /// Its connection may bring another request.
    pub(crate) may_go_on: bool,
}

/// Writes a head as an HTTP/1 client gets it. Fields that came over HTTP/1 keep their order and their capitals.
pub(crate) fn write_http1(head: &ResponseView<'_>, edits: &Edits<'_>, terms: Http1Terms, out: &mut Vec<u8>) {
    let Http1Terms { is_http_11, framing, may_go_on } = terms;
    let status = head.status;
    let reason = match (head.reason, StatusCode::from_u16(status)) {
        (b"", Ok(status)) if matches!(head.fields, FieldList::Map(_)) => {
            status.canonical_reason().unwrap_or_default().as_bytes()
        }
        (reason, _) => reason,
    };
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    for part in [b"HTTP/1.1 ", &digits[..], b" ", reason, b"\r\n"] {
        out.extend_from_slice(part);
    }
    // HTTP/1.0 gets their data without the framing (RFC 9112 section 6.1).
    let keeps_chunks = head.is_chunked && is_http_11 && !head.is_unframed() && status != 304;
    let (mut has_length, mut has_upgrade) = (false, false);
    // Where both are given, chunks are what counts (RFC 9112 section 6.3).
    let keeps_length = !head.is_unframed() && !head.is_chunked;
    edits.write_staying(head.fields, out, |field| match field.name_length() {
        7 => {
            has_upgrade |= field.is("upgrade");
            false
        }
        14 if field.is("content-length") => {
            has_length = keeps_length;
            !keeps_length
        }
        17 => !keeps_chunks && field.is("transfer-encoding"),
        _ => false,
    });
    edits.write_added(out);
    match framing {
        Framing::Length if !has_length => {
            let length = match head.body {
                BodyKind::RecodedLength(length) => length,
                _ => 0,
            };
            out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        Framing::Chunked if !head.is_chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    if status >= 200 {
        let persistence = Persistence::of(may_go_on, is_http_11);
        out.extend_from_slice(persistence.field(has_upgrade).as_bytes());
    } else if status == 101 {
        write_field(b"Connection", b"Upgrade", out);
    }
    out.extend_from_slice(b"\r\n");
}

/// A head as an HTTP/2 client gets it; `None` if it has no form there.
pub(crate) fn http2(head: &ResponseView<'_>, edits: &Edits<'_>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    let fields = response.headers_mut();
    fields.reserve(head.fields.count() + edits.added_count());
    for field in edits.staying(head.fields) {
        let is_left_out = match field.name_length() {
            // RFC 9113 section 8.6.
            7 => field.is("upgrade"),
            14 => (head.is_unframed() || head.is_chunked) && field.is("content-length"),
            17 => field.is("transfer-encoding"),
            _ => false,
        };
        if !is_left_out {
            field.append_to(fields);
        }
    }
    edits.append_added(fields);
    if let BodyKind::RecodedLength(length) = head.body {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    Some(response)
}

/// Judges a head; of one that may go on `fields` has the fields then.
pub(crate) fn judge(bytes: &[u8], to: ResponseTo<'_>, fields: &mut FieldSpans) -> ResponseHeadVerdict {
    if bytes.starts_with(b"\r\n\r\n") {
        return ResponseHeadVerdict::Refused("more than one empty line");
    }
    let mut parsed_fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut parsed_fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return ResponseHeadVerdict::Partial,
        Err(Error::TooManyHeaders) => return ResponseHeadVerdict::Refused("too many fields"),
        Err(_) => return ResponseHeadVerdict::Refused("malformed response head"),
    };
    let status = response.code.unwrap_or_default();
    let is_http_11 = response.version == Some(1);
    let seen = match Seen::new(response.headers) {
        Ok(seen) => seen,
        Err(detail) => return ResponseHeadVerdict::Refused(detail),
    };
    match status {
        101 if !is_asked_for(response.headers, to.upgrade) => {
            return ResponseHeadVerdict::Refused("an upgrade nobody asked for");
        }
        // What is beyond 599 is as good as 5xx (RFC 9110 section 15), and servers do use it.
        100..1000 => {}
        _ => return ResponseHeadVerdict::Refused("unknown status"),
    }
    let body = match () {
        () if to.is_head_request || status < 200 || status == 204 || status == 304 => {
            ResponseBodyEnd::Length(0)
        }
        () if seen.is_chunked && !is_http_11 => {
            return ResponseHeadVerdict::Refused("Transfer-Encoding in HTTP/1.0");
        }
        () if seen.is_chunked => ResponseBodyEnd::Chunked(Chunks::of_response()),
        () => seen.length.map_or(ResponseBodyEnd::UntilClose, ResponseBodyEnd::Length),
    };
    let connection = || values(response.headers, "connection");
    let keeps = match is_http_11 {
        true => !(seen.has_connection && has_token(connection(), "close")),
        false => seen.has_connection && has_token(connection(), "keep-alive"),
    };
    let span = |part: &[u8]| Span::of(part, bytes);
    let field =
        |field: &Header<'_>| FieldSpan { name: span(field.name.as_bytes()), value: span(field.value) };
    fields.clear();
    fields.extend(response.headers.iter().map(field));
    ResponseHeadVerdict::Complete(ResponseHeadForm {
        length,
        status,
        body,
        keeps,
        is_websocket: status == 101 && is_upgrade_to(response.headers, to.upgrade, WEBSOCKET),
        hint: seen.hint,
        is_chunked: seen.is_chunked,
        // One that is missing lies nowhere.
        reason: response
            .reason
            .filter(|reason| !reason.is_empty())
            .map_or(Span::default(), |r| span(r.as_bytes())),
    })
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
    headers
        .iter()
        .filter(move |header| is_name(header.name.as_bytes(), name.as_bytes()))
        .map(|header| header.value)
}

/// What the fields say of the body and of the connection.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    is_chunked: bool,
    has_connection: bool,
    options: usize,
    hint: Option<u32>,
}

impl Seen {
    /// Two readers must not disagree on where the body ends (RFC 9112 section 6).
    fn new(headers: &[Header<'_>]) -> Result<Self, &'static str> {
        let mut seen = Self::default();
        for header in headers {
            let is = |other: &str| is_name(header.name.as_bytes(), other.as_bytes());
            match header.name.len() {
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
