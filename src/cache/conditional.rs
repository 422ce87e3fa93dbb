//! Conditions of requests, held against a stored response (RFC 9110 section 13, RFC 9111 section 4.3.2).

use super::date;
use super::directives::members;
use crate::fields::Fields;
use http::{HeaderMap, header};

/// Whether a client has what is stored already, so that it is told nothing but that.
pub(crate) fn is_not_modified(request: &impl Fields, stored: &HeaderMap) -> bool {
    let mut tags = request.all(&header::IF_NONE_MATCH).flat_map(members).peekable();
    if tags.peek().is_some() {
        let own = stored.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
        return tags.any(|tag| tag == b"*" || Some(opaque(tag)) == own);
    }
    let Some(since) = request.first(&header::IF_MODIFIED_SINCE).and_then(date::parse) else { return false };
    let changed = stored.get(header::LAST_MODIFIED).or_else(|| stored.get(header::DATE));
    changed.and_then(|changed| date::parse(changed.as_bytes())).is_some_and(|changed| changed <= since)
}

/// What of an entity tag is compared weakly (RFC 9110 section 8.8.3.2).
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a part of what is stored goes with the parts that a client has (RFC 9110 section 13.1.5).
pub(crate) fn range_applies(request: &impl Fields, stored: &HeaderMap) -> bool {
    let Some(condition) = request.first(&header::IF_RANGE) else { return true };
    let value = |name| stored.get(name).map(http::HeaderValue::as_bytes);
    if condition.starts_with(b"\"") {
        return value(header::ETAG) == Some(condition);
    }
    // A time is strong if it was well in the past when the response was made (section 8.8.2.2).
    let (Some(changed), Some(date)) = (value(header::LAST_MODIFIED), value(header::DATE)) else {
        return false;
    };
    match (date::parse(changed), date::parse(date), date::parse(condition)) {
        (Some(changed), Some(date), Some(condition)) => changed == condition && date.since(changed) >= 1000,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Sun, 06 Nov 1994 08:49:47 GMT";

    #[test]
    fn a_tag_outranks_a_time_and_is_compared_weakly() {
        for (request, stored, is_same) in [
            (&[("if-none-match", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("if-none-match", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "\"b\", \"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("if-none-match", "\"b,\\\"\"")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "\"a,b\"")], &[("etag", "\"a,b\"")], true),
            (&[("if-none-match", "*")], &[], true),
            (
                &[("if-none-match", "\"b\""), ("if-modified-since", NEW)],
                &[("etag", "\"a\""), ("last-modified", OLD)],
                false,
            ),
            (
                &[("if-none-match", "\"a\""), ("if-modified-since", OLD)],
                &[("etag", "\"a\""), ("last-modified", NEW)],
                true,
            ),
            (&[("if-modified-since", NEW)], &[("last-modified", OLD)], true),
            (&[("if-modified-since", OLD)], &[("last-modified", OLD)], true),
            (&[("if-modified-since", OLD)], &[("last-modified", NEW)], false),
            (&[("if-modified-since", OLD)], &[("date", NEW)], false),
            (&[("if-modified-since", NEW)], &[("date", OLD)], true),
            (&[("if-modified-since", "yesterday")], &[("last-modified", OLD)], false),
            (&[("if-modified-since", NEW)], &[], false),
            (&[], &[("etag", "\"a\"")], false),
        ] {
            assert_eq!(is_not_modified(&map(request), &map(stored)), is_same, "{request:?} {stored:?}");
        }
    }

    #[test]
    fn parts_go_together_that_are_of_one_whole() {
        for (condition, stored, applies) in [
            ("\"a\"", &[("etag", "\"a\"")][..], true),
            ("\"a\"", &[("etag", "W/\"a\"")], false),
            ("W/\"a\"", &[("etag", "W/\"a\"")], false),
            ("\"b\"", &[("etag", "\"a\"")], false),
            (OLD, &[("last-modified", OLD), ("date", NEW)], true),
            (OLD, &[("last-modified", OLD), ("date", OLD)], false),
            (NEW, &[("last-modified", OLD), ("date", NEW)], false),
            (OLD, &[("last-modified", OLD)], false),
        ] {
            assert_eq!(range_applies(&map(&[("if-range", condition)]), &map(stored)), applies, "{condition}");
        }
        assert!(range_applies(&map(&[]), &map(&[])));
    }
}
