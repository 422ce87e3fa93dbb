//! Answers that an operator has written.

use super::Variables;
use crate::config::plan::policy::{Page, Respond};
use crate::wire::local_reply::{self, LocalReply};
use bytes::Bytes;
use http::{HeaderValue, header};
use std::borrow::Cow;
use std::path::Path;

/// The answer.
pub(crate) fn respond(respond: &Respond, variables: &Variables<'_>) -> LocalReply {
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    let is_bodiless = matches!(respond.status, 204 | 205 | 304);
    let (body, kind) = match &respond.page {
        Page::Status => (is_bodiless.then(Bytes::new), None),
        Page::Text(text) => (Some(Bytes::copy_from_slice(text.as_bytes())), None),
        Page::File(file) => (Some(file.content.clone()), Some(media_type(&file.path))),
    };
    let mut reply = local_reply::with_status(respond.status, None, body);
    if is_bodiless {
        reply.fields.remove(header::CONTENT_TYPE);
    }
    if let Some(kind) = kind {
        reply.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for field in &respond.fields {
        let Some(value) = field.value() else { continue };
        let value = value.render(variables);
        // As everywhere: one whose variables leave nothing of its value is not there.
        if matches!(&value, Cow::Owned(rendered) if rendered.trim_ascii().is_empty()) {
            continue;
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            reply.fields.insert(&field.name, value);
        }
    }
    reply
}

/// By the name's ending, as web servers tell it.
pub(crate) fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        Some("svg") => "image/svg+xml",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}
