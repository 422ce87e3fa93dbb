//! Which responses may be compressed: by their heads as they leave, and what they answer.

use crate::config::plan::compress::CompressPlan;
use crate::fields::has_token;
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::response_head::{BodyKind, ResponseView};
use http::{HeaderName, Method, header};

/// Why a response stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Of a media type that is not listed, or of none.
    Type,
    /// Known to be shorter than `min`.
    Small,
    /// Compressed already, or encoded otherwise.
    Encoded,
    /// A part, or the answer to a request for one.
    Range,
    /// `Cache-Control: no-transform`.
    NoTransform,
    /// With a digest of its bytes.
    Digest,
    Grpc,
    /// Events, without `streams`.
    Stream,
    /// The client takes no coding of ours.
    NotAccepted,
    /// As many are being compressed as there may be.
    Busy,
}

impl SkipReason {
    pub const ALL: [Self; 10] = [
        Self::Type,
        Self::Small,
        Self::Encoded,
        Self::Range,
        Self::NoTransform,
        Self::Digest,
        Self::Grpc,
        Self::Stream,
        Self::NotAccepted,
        Self::Busy,
    ];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Small => "small",
            Self::Encoded => "encoded",
            Self::Range => "range",
            Self::NoTransform => "no_transform",
            Self::Digest => "digest",
            Self::Grpc => "grpc",
            Self::Stream => "stream",
            Self::NotAccepted => "not_accepted",
            Self::Busy => "busy",
        }
    }
}

/// What a response's head says of compressing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is nothing to compress, whatever it says.
    Bodiless,
    Never(SkipReason),
    /// Whoever takes a coding may have it compressed.
    Eligible,
}

/// Of a response's bytes as they are; the last two are older than RFC 9530.
pub(crate) static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Judges a response by its head, as `edits` have it.
pub(crate) fn judge(
    plan: &CompressPlan,
    request: &RequestView<'_>,
    head: &ResponseView<'_>,
    edits: &Edits<'_>,
) -> Verdict {
    let is_head_request = *request.method == Method::HEAD;
    if matches!(head.status, ..200 | 204 | 205 | 304) || head.body == BodyKind::Empty && !is_head_request {
        return Verdict::Bodiless;
    }
    let length = length(head, edits);
    match skip_reason(plan, request, head, edits) {
        _ if length == Some(0) => Verdict::Bodiless,
        Some(reason) => Verdict::Never(reason),
        None if length.is_some_and(|length| length < plan.min) => Verdict::Never(SkipReason::Small),
        None => Verdict::Eligible,
    }
}

fn skip_reason(
    plan: &CompressPlan,
    request: &RequestView<'_>,
    head: &ResponseView<'_>,
    edits: &Edits<'_>,
) -> Option<SkipReason> {
    let media_type = media_type(head, edits);
    let says_no = |values| has_token(values, "no-transform");
    if is_grpc(media_type) {
        Some(SkipReason::Grpc)
    } else if head.status == 206 && media_type.eq_ignore_ascii_case(b"multipart/byteranges") {
        // Parts do not show whether the whole is of a type that is compressed.
        Some(SkipReason::Range)
    } else if !plan.types.iter().any(|types| types.has(media_type)) {
        Some(SkipReason::Type)
    } else if is_event_stream(media_type) && !plan.streams {
        Some(SkipReason::Stream)
    } else if edits.leaving(head.fields, &header::CONTENT_ENCODING).any(|coding| !is_identity(coding)) {
        Some(SkipReason::Encoded)
    } else if has_token(edits.leaving(head.fields, &header::CACHE_CONTROL), "no-transform")
        || says_no(request.fields.all(&header::CACHE_CONTROL))
    {
        Some(SkipReason::NoTransform)
    } else if DIGESTS.iter().any(|digest| edits.leaves(head.fields, digest)) {
        Some(SkipReason::Digest)
    } else if head.status == 206 || request.fields.has(&header::RANGE) {
        // The last: without a range it would be compressed.
        Some(SkipReason::Range)
    } else {
        None
    }
}

/// Of the body, as far as the head says it.
fn length(head: &ResponseView<'_>, edits: &Edits<'_>) -> Option<u64> {
    if head.is_chunked {
        return None;
    }
    let length = edits.leaving(head.fields, &header::CONTENT_LENGTH).next()?;
    std::str::from_utf8(length).ok()?.parse().ok()
}

/// Without its parameters; empty if it is not said.
fn media_type<'e>(head: &ResponseView<'e>, edits: &'e Edits<'_>) -> &'e [u8] {
    let value = edits.leaving(head.fields, &header::CONTENT_TYPE).next().unwrap_or_default();
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn is_identity(coding: &[u8]) -> bool {
    coding.trim_ascii().eq_ignore_ascii_case(b"identity")
}

/// Server-sent events.
fn is_event_stream(media_type: &[u8]) -> bool {
    media_type.eq_ignore_ascii_case(b"text/event-stream")
}

/// gRPC and gRPC-Web have a compression of their own.
fn is_grpc(media_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    media_type.get(..GRPC.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(GRPC))
}

/// Whether what passes is to be given out with each read, for somebody waits for each event.
pub(crate) fn has_events(head: &ResponseView<'_>, edits: &Edits<'_>) -> bool {
    is_event_stream(media_type(head, edits))
}
