//! Which pages of other origins may read responses (the Fetch standard, sections "CORS protocol" and "CORS-preflight fetch").

use crate::config::plan::policy::{Cors, OriginPattern};
use crate::fields::tokens;
use crate::wire::local_reply::{self, LocalReply};
use crate::wire::request::RequestView;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

impl Cors {
    /// Whether pages of this origin may read.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|pattern| match pattern {
            OriginPattern::Any => true,
            OriginPattern::Exact(one) => origin == one.as_bytes(),
            OriginPattern::Below(before, behind) => {
                let name = origin
                    .strip_prefix(before.as_bytes())
                    .and_then(|rest| rest.strip_suffix(behind.as_bytes()));
                let is_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                name.is_some_and(|name| !name.is_empty() && name.iter().all(is_label))
            }
        })
    }

    /// Whether every origin is allowed, whatever it is.
    pub(crate) fn allows_any(&self) -> bool {
        self.origins.contains(&OriginPattern::Any) && !self.credentials
    }

    fn allows_fields(&self, request: &RequestView<'_>) -> bool {
        let asked = tokens(request.fields.all(&header::ACCESS_CONTROL_REQUEST_HEADERS));
        let Some(allowed) = &self.headers else { return true };
        let is_allowed = |name: &[u8]| {
            HeaderName::from_bytes(name).is_ok_and(|name| allowed.contains(&name) || is_simple(&name))
        };
        asked.into_iter().all(is_allowed)
    }
}

/// Fields that need no leave, whatever a browser asks ("CORS-safelisted request-header").
fn is_simple(name: &HeaderName) -> bool {
    matches!(*name, header::ACCEPT | header::ACCEPT_LANGUAGE | header::CONTENT_LANGUAGE)
}

/// The answer to a preflight; `None` if the request is none. Who may read it is told as for every other response.
pub(crate) fn preflight(cors: &Cors, request: &RequestView<'_>) -> Option<LocalReply> {
    let origin = request.fields.first(&header::ORIGIN)?;
    let method = request.fields.first(&header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if *request.method != Method::OPTIONS {
        return None;
    }
    // The first three need no leave ("CORS-safelisted method"); whoever may GET may ask for the head alone.
    let is_allowed = matches!(method, b"GET" | b"HEAD" | b"POST") && cors.methods.is_empty()
        || method == b"HEAD" && cors.methods.contains(&Method::GET)
        || cors.methods.iter().any(|allowed| allowed.as_str().as_bytes() == method);
    if !cors.allows(origin) || !is_allowed || !cors.allows_fields(request) {
        return Some(local_reply::with_status(403, None, None));
    }
    let mut reply = local_reply::with_status(204, None, Some(Bytes::new()));
    reply.fields.remove(header::CONTENT_TYPE);
    let methods = cors.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let asked = request.fields.text(&header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let fields = match &cors.headers {
        // With credentials `*` would be a name.
        None => asked.to_owned(),
        Some(names) => names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", "),
    };
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            reply.fields.insert(name, value);
        }
    };
    set(header::ACCESS_CONTROL_ALLOW_METHODS, &methods);
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, &fields);
    set(header::ACCESS_CONTROL_MAX_AGE, &cors.max_age.as_secs().to_string());
    Some(reply)
}
