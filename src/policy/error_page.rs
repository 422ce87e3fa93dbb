//! Pages in place of a status in words.

use crate::config::plan::policy::{ErrorPages, PageFile};
use crate::fields::{FieldList, tokens};
use crate::wire::local_reply::LocalReply;
use bytes::Bytes;
use http::{HeaderValue, header};

/// Gives an answer of our own the page that its status has, in the form that the client likes better.
pub(crate) fn give_page(
    errors: &ErrorPages,
    reply: &mut LocalReply,
    fields: FieldList<'_>,
    request_id: &str,
) -> bool {
    let status = reply.status.as_u16();
    let Some(page) = errors.page(status) else { return false };
    let is_json_liked = quality(fields, "application", "json") > quality(fields, "text", "html");
    let (file, is_json) = match (&page.html, &page.json) {
        (Some(_), Some(json)) if is_json_liked => (json, true),
        (Some(html), _) => (html, false),
        (None, Some(json)) => (json, true),
        (None, None) => return false,
    };
    set_body(reply, filled(file, status, request_id, is_json), if is_json { JSON } else { HTML });
    reply.fields.insert(header::VARY, HeaderValue::from_static("Accept"));
    true
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Gives it the text of one file.
pub(crate) fn give_file(reply: &mut LocalReply, file: &PageFile, request_id: &str) {
    let kind = super::respond::media_type(&file.path);
    let body = filled(file, reply.status.as_u16(), request_id, kind == JSON);
    set_body(reply, body, kind);
}

fn set_body(reply: &mut LocalReply, body: Bytes, kind: &'static str) {
    reply.fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    reply.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.body = body;
}

/// The file's text with `{status}` and `{request_id}` as they are. The latter may be a stranger's, so nothing of it is markup.
fn filled(file: &PageFile, status: u16, request_id: &str, is_json: bool) -> Bytes {
    let Ok(text) = std::str::from_utf8(&file.content) else { return file.content.clone() };
    if !text.contains("{status}") && !text.contains("{request_id}") {
        return file.content.clone();
    }
    let id: String = request_id
        .chars()
        .map(|c| match c {
            '"' | '\\' if is_json => format!("\\{c}"),
            '<' | '>' | '&' | '"' | '\'' if !is_json => format!("&#{};", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    text.replace("{status}", &status.to_string()).replace("{request_id}", &id).into()
}

/// How much a client likes a type, in thousandths (RFC 9110 section 12.5.1): the nearest of what it names counts.
fn quality(fields: FieldList<'_>, kind: &str, subtype: &str) -> u16 {
    let mut best = (0, if fields.has(&header::ACCEPT) { 0 } else { 1000 });
    for range in tokens(fields.all(&header::ACCEPT)) {
        let Ok(range) = std::str::from_utf8(range) else { continue };
        let mut parts = range.split(';').map(str::trim);
        let nearness = match parts.next().and_then(|name| name.split_once('/')) {
            Some((a, b)) if a.eq_ignore_ascii_case(kind) && b.eq_ignore_ascii_case(subtype) => 3,
            Some((a, "*")) if a.eq_ignore_ascii_case(kind) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
        if nearness > best.0 {
            best = (nearness, (weight.clamp(0.0, 1.0) * 1000.0) as u16);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::policy::ErrorPage;
    use crate::wire::local_reply::with_status;
    use http::HeaderMap;

    fn file(name: &str, content: &'static str) -> PageFile {
        PageFile { path: name.into(), content: Bytes::from_static(content.as_bytes()) }
    }

    fn check(accept: Option<&'static str>, id: &str, page: &str) {
        let errors = ErrorPages {
            pages: vec![ErrorPage {
                statuses: 502..=504,
                html: Some(file("a.html", "<p>{status} {request_id}")),
                json: Some(file("a.json", r#"{"status": {status}, "id": "{request_id}"}"#)),
            }],
            intercept: Vec::new(),
        };
        let mut fields = HeaderMap::new();
        if let Some(accept) = accept {
            fields.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let mut reply = with_status(503, None, None);
        assert!(give_page(&errors, &mut reply, FieldList::Map(&fields), id));
        assert_eq!(std::str::from_utf8(&reply.body), Ok(page), "{accept:?}");
        assert_eq!(reply.fields[header::CONTENT_LENGTH], page.len().to_string());
        let mut other = with_status(404, None, None);
        assert!(!give_page(&errors, &mut other, FieldList::Map(&fields), id));
    }

    #[test]
    fn a_client_gets_the_form_that_it_likes_better() {
        for html in [
            None,
            Some("*/*"),
            Some("text/html,application/json"),
            Some("text/html, application/json;q=0.9, */*;q=0.1"),
            Some("text/*"),
        ] {
            check(html, "r1", "<p>503 r1");
        }
        for json in [
            Some("application/json"),
            Some("text/html;q=0.5, application/json"),
            Some("application/*, */*;q=0.1"),
        ] {
            check(json, "r1", r#"{"status": 503, "id": "r1"}"#);
        }
    }

    #[test]
    fn what_a_stranger_calls_a_request_is_no_markup() {
        check(None, "<b>'\"&", "<p>503 &#60;b&#62;&#39;&#34;&#38;");
        check(Some("application/json"), "\"\\", r#"{"status": 503, "id": "\"\\"}"#);
    }
}
