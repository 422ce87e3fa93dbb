//! Judges an HTTP/1 request head before anybody acts on it: complete, still coming, or refused.
//!
//! Many implementations accept heads that two of them may read differently (bare line feeds, both
//! kinds of body length, a missing Host). Such heads are how requests are smuggled (RFC 9112 section
//! 11.2), so they end here. A pure function of bytes: the caller owns the
//! socket, the limit and the clock.

use crate::fields::{FieldList, FieldSpan, MOST_OPTIONS, Span, count_members, has_token, is_name};
use crate::host;
use http::{Method, header};
use httparse::{Header, ParserConfig, Request, Status};
use std::mem::MaybeUninit;

/// More fields than any honest request has.
pub(crate) const MAX_FIELDS: usize = 256;

/// HTTP/2 by prior knowledge begins with this (RFC 9113 section 3.4).
pub(crate) const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestHeadVerdict {
    /// More bytes are needed.
    Partial,
    /// An HTTP/2 connection.
    H2,
    /// A head that may go on.
    Complete(RequestHeadForm),
    /// A head that must not go on.
    Refused(Refusal),
}

/// How the bytes after the head belong to this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBodyLength {
    /// Exactly so many bytes, zero for none.
    Length(u64),
    /// Until the last chunk's end.
    Chunked,
}

impl RequestBodyLength {
    /// Its length, where the head says it.
    pub(crate) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked => None,
        }
    }
}

/// Where the parts of a head lie in its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHeadForm {
    /// Bytes of the head, its empty line included.
    pub(crate) length: usize,
    pub(crate) body: RequestBodyLength,
    is_http_11: bool,
    method: Span,
    /// Of an absolute target; empty for one that is none.
    authority: Span,
    /// The target without that.
    path: Span,
    /// The Host field's value.
    host: Option<Span>,
    has_connection: bool,
    fields: Vec<FieldSpan>,
}

/// A head that was judged, with its bytes.
#[derive(Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    form: RequestHeadForm,
    pub(crate) method: Method,
}

impl Head {
    /// `bytes` are those that `form` was found in, without what follows the head.
    pub(crate) fn new(bytes: Vec<u8>, form: RequestHeadForm) -> Self {
        let method = Method::from_bytes(form.method.in_bytes(&bytes)).unwrap_or_default();
        Self { bytes, form, method }
    }

    /// A part of it of which the judge lets visible ASCII pass only.
    fn text(&self, part: Span) -> &str {
        std::str::from_utf8(part.in_bytes(&self.bytes)).unwrap_or_default()
    }

    /// What the request is for: an absolute target's authority, else the Host field, which HTTP/1.0 may lack.
    pub(crate) fn host(&self) -> Option<&str> {
        match self.is_absolute() {
            true => Some(self.text(self.form.authority)),
            false => self.form.host.map(|host| self.text(host)),
        }
    }

    /// Whether the target names the host, which then outranks the Host field (RFC 9112 section 3.2.2).
    pub(crate) fn is_absolute(&self) -> bool {
        self.form.authority.length() > 0
    }

    /// The target in origin-form; it may lack its slash (`?q`) or be empty, if it came absolute.
    pub(crate) fn path_and_query(&self) -> &str {
        match self.text(self.form.path) {
            "" => "/",
            path => path,
        }
    }

    pub(crate) fn body(&self) -> RequestBodyLength {
        self.form.body
    }

    /// HTTP/1.1, not 1.0.
    pub(crate) fn is_http_11(&self) -> bool {
        self.form.is_http_11
    }

    pub(crate) fn fields(&self) -> FieldList<'_> {
        FieldList::Raw { bytes: &self.bytes, fields: &self.form.fields }
    }

    /// Whether the client sends nothing more on this connection (RFC 9112 sections 9.3 and 9.6).
    pub(crate) fn is_last(&self) -> bool {
        let fields = self.fields();
        let says = |option| self.form.has_connection && has_token(fields.all(&header::CONNECTION), option);
        says("close") || !self.is_http_11() && !says("keep-alive")
    }
}

/// The authority of an absolute target, `http://host/path` (RFC 9112 section 3.2.2).
fn authority_of(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    let (_, rest) = target.split_once("://")?;
    Some(&rest[..rest.find(['/', '?']).unwrap_or(rest.len())])
}

/// The scheme of an absolute target.
fn scheme_of(target: &str) -> &str {
    target.split_once("://").map_or("", |(scheme, _)| scheme)
}

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status that answers it: 400, 405, 431, 501 or 505.
    pub(crate) status: u16,
    /// The RFC's objection, for the access log's `detail`.
    pub(crate) detail: &'static str,
}

/// Of one that did not come to its end.
pub(crate) const HALF_A_HEAD: &str = "head incomplete";
/// Of a head beyond its limit.
pub(crate) const TOO_LONG: Refusal =
    Refusal { status: 431, detail: "a head longer than limits.request_headers" };
/// Of a PURGE's beyond its own.
pub(crate) const TOO_LONG_FOR_PURGE: Refusal =
    Refusal { status: 431, detail: "a PURGE's head longer than 256 KiB; name fewer tags, or use the API" };
/// Of one beyond its listener's, as so many others are just now.
pub(crate) const TOO_MANY_LONG: Refusal =
    Refusal { status: 431, detail: "too many PURGE requests with heads longer than limits.request_headers" };

const fn refuse(status: u16, detail: &'static str) -> RequestHeadVerdict {
    RequestHeadVerdict::Refused(Refusal { status, detail })
}

/// Whether what has arrived begins with this method; the empty line that may stand before a request is passed over.
pub(crate) fn has_method(bytes: &[u8], method: &[u8]) -> bool {
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    line.strip_prefix(method).is_some_and(|rest| rest.starts_with(b" "))
}

/// Whether a refused line is of three words and yet of no version of HTTP/1, whose targets or protocol have a slash. To a
/// listener that takes HTTP/2 without notice it is a broken preface then, and no request to be answered in HTTP/1.1.
pub(crate) fn is_of_no_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    line.split(|byte| *byte == b' ').count() == 3
        && line.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/' || *byte == b' ')
}

/// Judges the beginning of a connection or of its next request; `limit` bounds the head in bytes.
pub(crate) fn judge(bytes: &[u8], limit: usize) -> RequestHeadVerdict {
    if bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
        return match bytes.len() {
            n if n < H2_PREFACE.len() && H2_PREFACE.starts_with(bytes) => RequestHeadVerdict::Partial,
            _ if bytes.starts_with(H2_PREFACE) => RequestHeadVerdict::H2,
            _ => refuse(400, "broken HTTP/2 preface"),
        };
    }
    // One empty line before a request line is forgiven (RFC 9112 section 2.2), and not one after the other.
    if bytes.starts_with(b"\r\n\r\n") {
        return refuse(400, "more than one empty line");
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) if length > limit => return RequestHeadVerdict::Refused(TOO_LONG),
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() >= limit => return RequestHeadVerdict::Refused(TOO_LONG),
        Ok(Status::Partial) => return RequestHeadVerdict::Partial,
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "too many fields"),
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            return refuse(505, "unknown HTTP version");
        }
        Err(_) => return refuse(400, "malformed head"),
    };
    if has_bare_line_feed(&bytes[..length]) {
        return refuse(400, "bare line feed");
    }
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let http_11 = request.version == Some(1);
    if let Some(refusal) = judge_target(method, target) {
        return RequestHeadVerdict::Refused(refusal);
    }
    let authority = authority_of(target);
    match authority {
        // RFC 9110 section 4.2.1.
        Some("") => return refuse(400, "target has no host"),
        Some(authority) if !is_host(authority.as_bytes()) => {
            return refuse(400, "target's host is not a host");
        }
        _ => {}
    }
    if let Some(authority) = authority
        && let Some(host) = request.headers.iter().find(|field| is(field, "host"))
        && !std::str::from_utf8(host.value)
            .is_ok_and(|host| host::is_same(authority, host, scheme_of(target)))
    {
        // The target would count (RFC 9112 section 3.2.2), but who wrote both may mean either.
        return refuse(400, "target and Host disagree");
    }
    let seen = match judge_fields(request.headers, http_11) {
        Ok(seen) => seen,
        Err(refusal) => return RequestHeadVerdict::Refused(refusal),
    };
    let span = |part: &[u8]| Span::of(part, bytes);
    let field =
        |field: &Header<'_>| FieldSpan { name: span(field.name.as_bytes()), value: span(field.value) };
    let (authority, path) = match authority {
        Some(authority) => {
            let path = authority.as_ptr().addr() + authority.len() - target.as_ptr().addr();
            (span(authority.as_bytes()), &target[path..])
        }
        None => (Span::default(), target),
    };
    RequestHeadVerdict::Complete(RequestHeadForm {
        length,
        body: seen.body,
        is_http_11: http_11,
        method: span(method.as_bytes()),
        authority,
        path: span(path.as_bytes()),
        host: seen.host.map(span),
        has_connection: seen.has_connection,
        fields: request.headers.iter().map(field).collect(),
    })
}

/// Whether the first line ends as a request's of some version of HTTP would.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty());
    let mut words = line.unwrap_or_default().split(|&byte| byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// RFC 9112 section 3.2: origin-form, absolute-form, or `*` for OPTIONS.
pub(crate) fn judge_target(method: &str, target: &str) -> Option<Refusal> {
    if method == "CONNECT" {
        return Some(Refusal { status: 405, detail: "CONNECT is not proxied" });
    }
    if target.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'#') {
        return Some(Refusal { status: 400, detail: "target has bytes that must be percent-encoded" });
    }
    let well_formed = target.starts_with('/')
        || target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
        || target.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
        || (target == "*" && method == "OPTIONS");
    (!well_formed).then_some(Refusal { status: 400, detail: "target is not a path" })
}

fn is(field: &Header<'_>, name: &str) -> bool {
    is_name(field.name.as_bytes(), name.as_bytes())
}

/// What a request's fields say of how it is read.
struct Seen<'a> {
    body: RequestBodyLength,
    host: Option<&'a [u8]>,
    has_connection: bool,
}

/// RFC 9112 sections 3.2 (Host) and 6 (message body length).
fn judge_fields<'a>(fields: &[Header<'a>], http_11: bool) -> Result<Seen<'a>, Refusal> {
    let bad = |detail| Err(Refusal { status: 400, detail });
    let (mut hosts, mut length, mut chunked, mut options) = (0, None, false, 0);
    let (mut host, mut has_connection) = (None, false);
    for field in fields {
        let value = field.value;
        match field.name.len() {
            4 if is(field, "host") => {
                hosts += 1;
                host = Some(value);
                if value.is_empty() {
                    return bad("Host is empty");
                }
                if !is_host(value) {
                    return bad("Host is not a host");
                }
            }
            10 if is(field, "connection") => {
                has_connection = true;
                options += count_members(value);
                if options > MOST_OPTIONS {
                    return bad("too many connection options");
                }
            }
            14 if is(field, "content-length") => {
                if length.is_some() {
                    return bad("more than one Content-Length");
                }
                let digits = std::str::from_utf8(value).ok();
                let digits = digits.filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
                match digits.and_then(|digits| digits.parse::<u64>().ok()) {
                    Some(n) => length = Some(n),
                    None => return bad("Content-Length is not a number"),
                }
            }
            17 if is(field, "transfer-encoding") => {
                if chunked {
                    return bad("more than one Transfer-Encoding");
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal { status: 501, detail: "Transfer-Encoding other than chunked" });
                }
                chunked = true;
            }
            _ => {}
        }
    }
    match (http_11, hosts) {
        (true, 0) => return bad("no Host"),
        (_, 2..) => return bad("more than one Host"),
        _ => {}
    }
    if chunked && length.is_some() {
        return bad("both Content-Length and Transfer-Encoding");
    }
    if chunked && !http_11 {
        return bad("Transfer-Encoding in HTTP/1.0");
    }
    let body =
        if chunked { RequestBodyLength::Chunked } else { RequestBodyLength::Length(length.unwrap_or(0)) };
    Ok(Seen { body, host, has_connection })
}

/// RFC 9110 section 7.2: `uri-host [ ":" port ]`. A host of HTTP is not empty (section 4.2.1), nor is a label of its name (RFC 1035
/// section 2.3.1).
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => match value.iter().position(|&byte| byte == b']') {
            Some(end) => (&value[..=end], &value[end + 1..]),
            None => return false,
        },
        _ => match value.iter().position(|&byte| byte == b':') {
            Some(colon) => value.split_at(colon),
            None => (value, &b""[..]),
        },
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let host_is_good = match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|&byte| byte == b':' || is_host_byte(byte))
        }
        // A dot may end a name; the root alone, and a label without letters, are no host's.
        b"" | b"." => false,
        host => {
            let mut before = 0;
            host.iter().all(|&byte| {
                is_host_byte(byte) && (std::mem::replace(&mut before, byte), byte) != (b'.', b'.')
            })
        }
    };
    port_is_good && host_is_good
}

/// RFC 3986 section 3.2.2, `reg-name`: looked up, for each byte of each request's host is asked for.
fn is_host_byte(byte: u8) -> bool {
    const IN_HOST: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"-._~%!$&'*+;=";
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    IN_HOST[usize::from(byte)]
}

/// The head of a request that a test has written.
#[cfg(test)]
pub(crate) fn sample_head(text: &str) -> Head {
    let RequestHeadVerdict::Complete(form) = judge(text.as_bytes(), 4096) else {
        panic!("{text:?} is refused")
    };
    Head::new(text.into(), form)
}

#[cfg(test)]
mod tests;
