//! What the fuzz targets (`fuzz/`) call of this room, in types of their own: the judges keep theirs to themselves.

use super::chunked::Chunks;
use super::frame_judge::Judge;
use super::header_blocks::{HeaderBlocks, Sender};
use super::request::RequestView;
use super::{http2_head, request_head as head};
use http::{HeaderMap, HeaderValue, Method, Uri};

/// What a judge says of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged<H> {
    /// More bytes are needed.
    Partial,
    Complete(H),
    /// An HTTP/2 connection begins.
    Http2,
    Refused(&'static str),
}

/// A request's head that may go on, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes of the head, its empty line included.
    pub length: usize,
    /// Of the body; one in chunks has none.
    pub body: Option<u64>,
    pub is_http_11: bool,
    pub method: Method,
    pub is_absolute: bool,
    pub path_and_query: String,
    pub path: String,
    pub query: String,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Judges a request's head that may have `limit` bytes.
pub fn request_head(bytes: &[u8], limit: usize) -> Judged<RequestHead> {
    match head::judge(bytes, limit) {
        head::RequestHeadVerdict::Partial => Judged::Partial,
        head::RequestHeadVerdict::H2 => Judged::Http2,
        head::RequestHeadVerdict::Refused(refusal) => Judged::Refused(refusal.detail),
        head::RequestHeadVerdict::Complete(form) => {
            let length = form.length;
            let head = head::Head::new(bytes[..length].to_vec(), form);
            let view = RequestView::from(&head);
            Judged::Complete(RequestHead {
                length,
                body: head.body().length(),
                is_http_11: head.is_http_11(),
                method: head.method.clone(),
                is_absolute: head.is_absolute(),
                path_and_query: view.path_and_query.to_owned(),
                path: view.path.to_owned(),
                query: view.query.to_owned(),
                fields: head
                    .fields()
                    .each()
                    .map(|field| (field.name().to_vec(), field.value().to_vec()))
                    .collect(),
            })
        }
    }
}

/// A body in chunks, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkedBody {
    /// Bytes that belong to it, their framing included.
    pub length: usize,
    pub data: Vec<u8>,
    /// Bytes of data, those included that the last chunk announces.
    pub announced: u64,
    pub is_over: bool,
    pub is_broken: bool,
}

/// Reads a body that comes in these pieces, data and framing by turns, as a relay does that keeps the data.
pub fn chunked_body<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> ChunkedBody {
    let mut chunks = Chunks::new();
    let mut body = ChunkedBody::default();
    for mut rest in pieces {
        loop {
            let (data, after) = rest.split_at(chunks.take_data(rest));
            body.data.extend_from_slice(data);
            let framing = chunks.take_framing(after);
            body.length += data.len() + framing;
            if data.len() + framing == 0 {
                break;
            }
            rest = &after[framing..];
        }
        if !rest.is_empty() {
            break;
        }
    }
    ChunkedBody { announced: chunks.data(), is_over: chunks.is_over(), is_broken: chunks.is_broken(), ..body }
}

/// How many of these bytes belong to a body in chunks, as a relay finds it that passes them on.
pub fn chunked_length(bytes: &[u8]) -> usize {
    Chunks::new().take(bytes)
}

/// What is left of a body's pieces without its framing, and without its trailers alone.
pub fn chunked_stripped<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>) {
    let (mut strip, mut trailers) = (Chunks::new(), Chunks::new());
    let (mut data, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let (_, kept) = strip.strip(&mut bytes);
        data.extend_from_slice(&bytes[..kept]);
        let mut bytes = piece.to_vec();
        let (_, kept) = trailers.take_without_trailers(&mut bytes);
        body.extend_from_slice(&bytes[..kept]);
    }
    (data, body)
}

/// Bytes that pass the judge of an HTTP/2 connection's frames, at a time in milliseconds.
#[derive(Clone, Copy, Debug)]
pub enum Passing<'a> {
    Read(&'a [u8], u64),
    Written(&'a [u8], u64),
}

/// What that judge says, and what it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramesJudged {
    pub verdict: Option<&'static str>,
    pub blame: Option<&'static str>,
    pub owed_since: Option<u64>,
    pub opened: u64,
    pub refused: u64,
    pub errors: u64,
}

/// Judges a connection whose client has written these bytes, and we those.
pub fn frames<'a>(passing: impl IntoIterator<Item = Passing<'a>>) -> FramesJudged {
    let mut judge = Judge::new(0);
    for bytes in passing {
        match bytes {
            Passing::Read(bytes, now) => judge.read(&mut bytes.to_vec(), now),
            Passing::Written(bytes, now) => judge.written(bytes, now),
        }
    }
    let tally = judge.tally();
    FramesJudged {
        verdict: judge.verdict().map(|abuse| abuse.label()),
        blame: judge.blame().map(|abuse| abuse.label()),
        owed_since: judge.owed_since(),
        opened: tally.opened,
        refused: tally.refused,
        errors: tally.errors,
    }
}

/// Which pseudo-fields a header block has before its other fields, and whether it has what HTTP/2 forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockFound {
    pub has_status: bool,
    pub has_others: bool,
    pub is_malformed: bool,
}

/// What is found in each of the header blocks that one side of a connection sends, in pieces.
pub fn header_blocks<'a, P>(blocks: impl IntoIterator<Item = P>) -> Vec<BlockFound>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let mut reader = HeaderBlocks::new(Sender::Server);
    let read = |pieces: P| {
        reader.begin();
        pieces.into_iter().for_each(|piece| reader.read(piece));
        let found = reader.found();
        BlockFound {
            has_status: found.has_status,
            has_others: found.has_others,
            is_malformed: found.fault.is_some(),
        }
    };
    blocks.into_iter().map(read).collect()
}

/// Judges the head of an HTTP/2 request, which may be as large as it likes; what it says is why the head is refused.
pub fn h2_head(method: &Method, uri: &Uri, fields: &HeaderMap) -> Option<&'static str> {
    http2_head::judge(method, uri, fields, usize::MAX).map(|refusal| refusal.detail)
}

/// The Host and Cookie fields that such a head gets for HTTP/1.1 in place of its own, where it needs one.
pub fn h2_head_for_http1(uri: &Uri, fields: &HeaderMap) -> (Option<HeaderValue>, Option<HeaderValue>) {
    (http2_head::missing_host(uri, fields), http2_head::joined_cookies(fields))
}
