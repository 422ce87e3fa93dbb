//! What answers of our own say.

use super::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

static GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// An answer of our own, whichever version of HTTP it goes out by.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    /// What it tells a gRPC client.
    pub(crate) grpc_status: Option<u8>,
}

impl LocalReply {
    /// Its head.
    pub(crate) fn head(&self) -> ResponseView<'_> {
        let body = if self.body.is_empty() { BodyKind::Empty } else { BodyKind::Length };
        ResponseView::of_map(self.status, &self.fields, body)
    }

    /// Says after how many seconds to ask again: to a gRPC client in its own field (gRFC A6, "Pushback").
    pub(crate) fn ask_again_after(&mut self, seconds: u32) {
        match self.grpc_status {
            None => self.fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds)),
            Some(_) => self.fields.insert(&GRPC_RETRY_PUSHBACK, HeaderValue::from(u64::from(seconds) * 1000)),
        };
    }
}

/// An answer with this status; `location` is where the client is sent instead, `body` what stands in place of the status in
/// words.
pub(crate) fn with_status(status: u16, location: Option<&str>, body: Option<Bytes>) -> LocalReply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = body.unwrap_or_else(|| {
        let reason = status.canonical_reason().unwrap_or("Error");
        format!("{} {reason}\n", status.as_u16()).into()
    });
    let mut fields = HeaderMap::with_capacity(8);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(location).ok()) {
        fields.insert(header::LOCATION, location);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    LocalReply { status, fields, body, grpc_status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_is_and_whether_to_try_again() {
        let answer = with_status(503, None, None);
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::SERVICE_UNAVAILABLE, &b"503 Service Unavailable\n"[..])
        );
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-length", "24"),
            ("cache-control", "no-store"),
            ("retry-after", "1"),
        ] {
            assert_eq!(answer.fields[name], value);
        }
        assert!(!with_status(404, None, None).fields.contains_key("retry-after"));
        let redirect = with_status(308, Some("https://a/"), None);
        assert_eq!(
            (redirect.status.as_u16(), &redirect.fields["location"]),
            (308, &HeaderValue::from_static("https://a/"))
        );
        let mut again = with_status(503, None, None);
        again.ask_again_after(7);
        assert_eq!(again.fields["retry-after"], "7");
        let mut call = LocalReply { grpc_status: Some(14), ..with_status(200, None, None) };
        call.ask_again_after(7);
        assert_eq!(call.fields["grpc-retry-pushback-ms"], "7000");
        let proof = with_status(200, None, Some(Bytes::from_static(b"proof")));
        assert_eq!(
            (&proof.body[..], &proof.fields["content-length"]),
            (&b"proof"[..], &HeaderValue::from_static("5"))
        );
    }
}
