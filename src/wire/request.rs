//! A request's head in whichever form it has, and as its server gets it.

use super::edit::{Edits, write_field};
use super::request_head::{self, Head};
use crate::fields::{FieldList, has_token};
use crate::host;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version, header};
use std::borrow::Cow;

/// What is known of a request's body before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    Empty,
    /// As many bytes as Content-Length says.
    Length(u64),
    /// In chunks.
    Chunked,
    /// In HTTP/2's frames, without a length.
    Framed,
}

/// A request's head, whichever form it has, as routing, balancing, filters and the log see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestView<'a> {
    pub(crate) method: &'a Method,
    /// What it is for: an absolute target's authority, else the Host field, which HTTP/1.0 may lack.
    pub(crate) host: Option<&'a str>,
    /// The target names the host, which then outranks the Host field (RFC 9112 section 3.2.2).
    pub(crate) is_absolute: bool,
    /// Without the query.
    pub(crate) path: &'a str,
    /// It may lack its slash (`?q`), if it came absolute, and be empty if nothing is left of its query.
    pub(crate) path_and_query: &'a str,
    /// Without its question mark.
    pub(crate) query: &'a str,
    pub(crate) version: Version,
    pub(crate) body: RequestBody,
    pub(crate) fields: FieldList<'a>,
}

impl<'a> RequestView<'a> {
    /// One of HTTP/2.
    pub(crate) fn of_parts(head: &'a Parts, has_body: bool) -> Self {
        let fields = FieldList::Map(&head.headers);
        let length = fields.text(&header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Self {
            method: &head.method,
            // The judge has let no two disagree.
            host: head.uri.authority().map(|host| host.as_str()).or_else(|| fields.text(&header::HOST)),
            is_absolute: false,
            path: head.uri.path(),
            path_and_query: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            query: head.uri.query().unwrap_or_default(),
            version: head.version,
            body: match length {
                Some(length) if has_body => RequestBody::Length(length),
                _ if has_body => RequestBody::Framed,
                _ => RequestBody::Empty,
            },
            fields,
        }
    }

    /// Its length, if it is said.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.body {
            RequestBody::Empty => Some(0),
            RequestBody::Length(length) => Some(length),
            RequestBody::Chunked | RequestBody::Framed => None,
        }
    }

    /// Whether it asks that its connection switches to another protocol (RFC 9110 section 7.8), which HTTP/1.1 alone has. Of one
    /// with a body nobody could tell what the bytes after its head are.
    pub(crate) fn asks_for_upgrade(&self) -> bool {
        self.version == Version::HTTP_11
            && self.body == RequestBody::Empty
            && self.fields.has(&header::UPGRADE)
            && has_token(self.fields.all(&header::CONNECTION), "upgrade")
    }

    /// Its version, as the log has it.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    /// In origin-form.
    fn target(&self) -> Cow<'a, str> {
        match self.path_and_query.is_empty() || self.path_and_query.starts_with('?') {
            true => Cow::Owned(format!("/{}", self.path_and_query)),
            false => Cow::Borrowed(self.path_and_query),
        }
    }
}

impl<'a> From<&'a Head> for RequestView<'a> {
    fn from(head: &'a Head) -> Self {
        let path_and_query = head.path_and_query();
        let (path, query) = match memchr::memchr(b'?', path_and_query.as_bytes()) {
            Some(mark) => (&path_and_query[..mark], &path_and_query[mark + 1..]),
            None => (path_and_query, ""),
        };
        Self {
            method: &head.method,
            host: head.host(),
            is_absolute: head.is_absolute(),
            path: if path.is_empty() { "/" } else { path },
            path_and_query,
            query,
            version: if head.is_http_11() { Version::HTTP_11 } else { Version::HTTP_10 },
            body: match head.body() {
                request_head::RequestBodyLength::Length(0) => RequestBody::Empty,
                request_head::RequestBodyLength::Length(length) => RequestBody::Length(length),
                request_head::RequestBodyLength::Chunked => RequestBody::Chunked,
            },
            fields: head.fields(),
        }
    }
}

/// Whether servers may ask for a length where such a request has no body (RFC 9110 section 8.6): IIS and lighttpd answer 411.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Writes a head as a server of HTTP/1.1 gets it. Fields that came over HTTP/1 keep their order and their capitals. `own_host`
/// is for a request that names none.
pub(crate) fn write_http1(head: &RequestView<'_>, edits: &Edits<'_>, own_host: &str, out: &mut Vec<u8>) {
    for part in [head.method.as_str(), " ", &head.target(), " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if head.is_absolute || head.host.is_none() {
        // RFC 9112 section 3.2.2: made anew from the target.
        write_field(b"Host", head.host.unwrap_or(own_host).as_bytes(), out);
    }
    let mut has_length = false;
    edits.write_staying(head.fields, out, |field| match field.name_length() {
        2 => field.is("te"),
        4 => head.is_absolute && field.is("host"),
        14 => {
            has_length |= field.is("content-length");
            false
        }
        _ => false,
    });
    edits.write_added(out);
    match head.body {
        RequestBody::Framed => write_field(b"Transfer-Encoding", b"chunked", out),
        RequestBody::Empty if !has_length && expects_body(head.method) => {
            write_field(b"Content-Length", b"0", out);
        }
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Why a head has no form in HTTP/2, as the codec has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHttp2Form {
    /// The target has bytes that must be percent-encoded (RFC 3986 section 2). HTTP/1.1 has a place for them.
    Target,
    /// The target is too long.
    LongTarget,
    /// The host is none.
    Host,
}

impl NoHttp2Form {
    /// For the access log's `detail`.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Target => "target has bytes that must be percent-encoded, for servers of HTTP/2",
            Self::LongTarget => "target longer than 65,534 bytes, for servers of HTTP/2",
            Self::Host => "host that HTTP/2 has no form for",
        }
    }
}

/// What the type of a target has room for.
const LONGEST_TARGET: usize = 65_534;

/// Why a head has no form in HTTP/2, if it has none. Nearly all have one, which their bytes alone show.
pub(crate) fn misses_http2_form(head: &RequestView<'_>) -> Option<NoHttp2Form> {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'-' | b'.' | b'_' | b'~' | b'?' | b'=' | b'&' | b'%' | b'+' | b',' | b':' | b';'
            )
    };
    let target = head.path_and_query;
    // One that lacks its slash gets it.
    if (target.len() >= LONGEST_TARGET || !target.bytes().all(is_plain))
        && let Err(missing) = http2_target(head)
    {
        return Some(missing);
    }
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let host = head.host.filter(|host| host.is_empty() || !host::without_port(host).bytes().all(is_usual));
    host.and_then(|host| http2_authority(host).err())
}

fn http2_target(head: &RequestView<'_>) -> Result<PathAndQuery, NoHttp2Form> {
    let target = head.target();
    PathAndQuery::try_from(&*target).map_err(|_| match target.len() > LONGEST_TARGET {
        true => NoHttp2Form::LongTarget,
        false => NoHttp2Form::Target,
    })
}

fn http2_authority(host: &str) -> Result<Authority, NoHttp2Form> {
    Authority::try_from(host).map_err(|_| NoHttp2Form::Host)
}

/// A head as a server of HTTP/2 gets it (RFC 9113 section 8.3.1).
pub(crate) fn http2(
    head: &RequestView<'_>,
    edits: &Edits<'_>,
    own_host: &str,
    is_secured: bool,
) -> Result<Request<()>, NoHttp2Form> {
    let uri = Uri::builder()
        .scheme(if is_secured { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(http2_authority(head.host.unwrap_or(own_host))?)
        .path_and_query(http2_target(head)?)
        .build();
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri.map_err(|_| NoHttp2Form::Target)?;
    *request.version_mut() = Version::HTTP_2;
    let fields = request.headers_mut();
    fields.reserve(head.fields.count() + edits.added_count());
    for field in edits.staying(head.fields) {
        if !field.is("host") && !field.is("transfer-encoding") {
            field.append_to(fields);
        }
    }
    edits.append_added(fields);
    Ok(request)
}

#[cfg(test)]
mod tests;
