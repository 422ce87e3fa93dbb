//! What compression changes of heads. A compressed response is another representation than the server's, so a strong ETag of the
//! server's would be wrong for it (RFC 9110 section 8.8.3.3): clients get a weak one, and servers that compare strictly get back
//! what they have said.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::config::plan::compress::Encoding;
use crate::fields::{FieldList, has_token};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::{Method, header};

static ETAG: FieldName = FieldName::new(header::ETAG, "ETag");
static VARY: FieldName = FieldName::new(header::VARY, "Vary");
static IF_NONE_MATCH: FieldName = FieldName::new(header::IF_NONE_MATCH, "If-None-Match");
static CONTENT_ENCODING: FieldName = FieldName::new(header::CONTENT_ENCODING, "Content-Encoding");

#[derive(Debug)]
pub(super) struct Compress;

impl Filter for Compress {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        let is_on = facts.policy.is_some_and(|applied| applied.policy.plan.compress.get().is_some());
        if !is_on || !matches!(*request.method, Method::GET | Method::HEAD) {
            return;
        }
        if let Some(value) = with_strong(edits, request.fields) {
            edits.remove(request.fields, &IF_NONE_MATCH.name);
            edits.add_bytes(&IF_NONE_MATCH, value);
        }
    }

    /// That a client's copy is still good is said of the copy that it has. It and a part say that others have other bytes, as the whole would
    /// (RFC 9110 sections 15.3.7 and 15.4.5); of a server's 304 nobody knows whether that may be compressed, and then it is said as well.
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        let is_on = facts.policy.is_some_and(|applied| applied.policy.plan.compress.get().is_some());
        if !is_on || !matches!(response.status, 206 | 304) {
            return;
        }
        let is_compressible = facts.cache.and_then(|cache| cache.is_compressible);
        if is_compressible.unwrap_or(response.status == 304) {
            vary(response, edits);
        }
        if response.status != 304 {
            return;
        }
        let Some(request) = facts.request else { return };
        let Some(tag) = response.fields.first(&header::ETAG) else { return };
        let is_weakened = |(is_weak, asked): (bool, &[u8])| is_weak && asked == tag;
        if request.fields.all(&header::IF_NONE_MATCH).flat_map(tags).any(is_weakened) {
            weaken(response, edits);
        }
    }
}

/// The tags that a client has copies of, with the strong form behind each weak one; `None` where there is nothing to add.
fn with_strong(edits: &Edits<'_>, fields: FieldList<'_>) -> Option<Vec<u8>> {
    let mut asked: Vec<(bool, &[u8])> = Vec::new();
    for value in edits.leaving(fields, &header::IF_NONE_MATCH) {
        let before = asked.len();
        asked.extend(tags(value));
        // `*`, or nothing that could be read.
        if asked.len() == before && !value.trim_ascii().is_empty() {
            return None;
        }
    }
    let is_strong = |tag: &[u8]| asked.contains(&(false, tag));
    if !asked.iter().any(|(is_weak, tag)| *is_weak && !is_strong(tag)) {
        return None;
    }
    let mut written = Vec::new();
    let mut write = |parts: [&[u8]; 2]| {
        written.extend_from_slice(if written.is_empty() { b"" } else { b", " });
        parts.iter().for_each(|part| written.extend_from_slice(part));
    };
    for (is_weak, tag) in &asked {
        write([if *is_weak { b"W/" } else { b"" }, tag]);
        if *is_weak && !is_strong(tag) {
            write([b"", tag]);
        }
    }
    Some(written)
}

/// The entity tags of a list (RFC 9110 section 8.8.3), each with its quotes and whether it is weak; none of one that is no such list.
fn tags(value: &[u8]) -> Vec<(bool, &[u8])> {
    let (mut rest, mut tags) = (value.trim_ascii(), Vec::new());
    while !rest.is_empty() {
        let (is_weak, quoted) = rest.strip_prefix(b"W/").map_or((false, rest), |quoted| (true, quoted));
        let end = quoted.iter().skip(1).position(|byte| *byte == b'"').map(|at| at + 2);
        let Some((tag, behind)) = end.and_then(|end| quoted.split_at_checked(end)) else { return Vec::new() };
        let behind = behind.trim_ascii_start();
        let next = if behind.is_empty() { Some(behind) } else { behind.strip_prefix(b",") };
        let Some(next) = next.filter(|_| tag.starts_with(b"\"")) else { return Vec::new() };
        tags.push((is_weak, tag));
        rest = next.trim_ascii_start();
    }
    tags
}

/// Says that who takes other codings gets other bytes.
pub(crate) fn vary<'a>(head: &ResponseView<'a>, edits: &mut Edits<'a>) {
    let varies = |by| has_token(edits.leaving(head.fields, &header::VARY), by);
    if !varies("accept-encoding") && !varies("*") {
        edits.add_judged(&VARY, "Accept-Encoding");
    }
}

/// Has the head speak of compressed bytes, of which nobody knows how many there will be, nor has parts of them.
pub(crate) fn encode<'a>(head: &ResponseView<'a>, edits: &mut Edits<'a>, encoding: Encoding) {
    for name in [&CONTENT_ENCODING.name, &header::CONTENT_LENGTH, &header::ACCEPT_RANGES] {
        edits.remove(head.fields, name);
    }
    edits.add_judged(&CONTENT_ENCODING, encoding.label());
    weaken(head, edits);
}

/// One that is no tag is left out.
fn weaken<'a>(head: &ResponseView<'a>, edits: &mut Edits<'a>) {
    let Some(tag) = edits.leaving(head.fields, &header::ETAG).next().map(<[u8]>::to_vec) else { return };
    if tag.starts_with(b"W/") {
        return;
    }
    edits.remove(head.fields, &header::ETAG);
    if tags(&tag).len() == 1 {
        edits.add_bytes(&ETAG, [b"W/", &tag[..]].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_server_is_asked_for_the_tag_that_it_has_given() {
        for (asked, sent) in [
            (&[r#"W/"x""#][..], Some(r#"W/"x", "x""#)),
            (&[r#""x""#], None),
            (&[r#"W/"x", "x""#], None),
            (&[r#""a",W/"b" , W/"c,d""#], Some(r#""a", W/"b", "b", W/"c,d", "c,d""#)),
            (&[r#"W/"a""#, r#""b""#], Some(r#"W/"a", "a", "b""#)),
            (&[r#"W/"""#], Some(r#"W/"", """#)),
            (&["*"], None),
            (&[r#"W/"x"#], None),
            (&[r#"W/x"#], None),
            (&[r#"W/"x" "y""#], None),
            (&[r#"w/"x""#], None),
            (&[r#"W/""#], None),
            (&["W/"], None),
            (&[""], None),
        ] {
            let mut map = HeaderMap::new();
            for value in asked {
                map.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            }
            let written = with_strong(&Edits::default(), FieldList::Map(&map));
            let written = written.map(|value| String::from_utf8(value).expect("text"));
            assert_eq!(written.as_deref(), sent, "{asked:?}");
        }
    }
}
