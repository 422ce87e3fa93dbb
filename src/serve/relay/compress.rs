//! A response's body on its way through an encoder, in time slices: a core has others to serve as well.

use super::Relay;
use crate::access_log::Why;
use crate::compress::{self, Encoder, SkipReason, Verdict, acceptable};
use crate::config::plan::compress::{CompressPlan, Encoding};
use crate::filter::compress::{encode, vary};
use crate::serve::client::ClientSide;
use crate::serve::compressors::Compressor;
use crate::serve::exchange::{Compressed, Exchange};
use crate::serve::piece::Piece;
use crate::serve::recoding::Job;
use crate::serve::server::Stored;
use crate::serve::time_slices::{Place, poll_time_slice};
use crate::store::{CodedBody, StoredResponse};
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What is compressed in a time slice, at most.
const SLICE: usize = 16 * 1024;

thread_local! {
    /// Where encoders write to, so that what waits for a client is as large as it must be and no larger.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What becomes of a response.
pub(super) enum Chosen {
    /// It stays as it is.
    Plain,
    /// Its head speaks of compressed bytes, and there are none.
    HeadOnly,
    Compressed(Box<Compression>),
    /// It is kept so.
    Kept(Encoding, CodedBody),
}

/// A body that is being compressed.
#[derive(Debug)]
pub(super) struct Compression {
    /// Until it has given out all: others are waiting for one.
    compressor: Option<Compressor>,
    /// Has come, and is not compressed yet.
    input: Option<Piece>,
    /// Nothing comes behind that but trailers.
    is_ending: bool,
    trailers: Option<HeaderMap>,
    /// The encoder may have something that the client has not.
    holds: bool,
    /// What comes is given out at once, for each is an event that somebody waits for.
    has_events: bool,
    /// It has had a slice.
    has_begun: bool,
    /// Bytes that it may still take in that.
    left: usize,
    /// Where it waits for the next.
    place: Option<Place>,
    /// For the client.
    waiting: Vec<u8>,
    /// The encoder has given out all.
    is_over: bool,
}

/// Decides on a response by its head as it leaves, and edits that; `kept` is one that lies in memory. Of a part it may be known whether
/// the whole would be compressed.
pub(super) fn choose<'a>(
    exchange: &Exchange,
    plan: &CompressPlan,
    request: &RequestView<'_>,
    (head, kept, is_compressible): (&ResponseView<'a>, Option<&Arc<StoredResponse>>, Option<bool>),
    edits: &mut Edits<'a>,
) -> Chosen {
    let skip = |reason| {
        exchange.live.metrics.compression.skipped(reason);
        Chosen::Plain
    };
    match compress::judge(plan, request, head, edits) {
        Verdict::Bodiless => return Chosen::Plain,
        Verdict::Never(SkipReason::Range) => {
            // The whole is another for who takes other codings (RFC 9110 section 15.3.7).
            if is_compressible != Some(false) {
                vary(head, edits);
            }
            return skip(SkipReason::Range);
        }
        Verdict::Never(reason) => return skip(reason),
        Verdict::Eligible => vary(head, edits),
    }
    let encodings = acceptable(&plan.encodings, request.fields);
    let Some(best) = encodings.first() else { return skip(SkipReason::NotAccepted) };
    if *request.method == Method::HEAD {
        encode(head, edits, *best);
        return Chosen::HeadOnly;
    }
    let most = exchange.live.snapshot().plan.process.compressors;
    if let Some(body) = kept.filter(|_| most > 0).and_then(|kept| kept.coded.body(*best)) {
        encode(head, edits, *best);
        return Chosen::Kept(*best, body.clone());
    }
    let Some(compressor) = Compressor::take(&encodings, plan, most) else { return skip(SkipReason::Busy) };
    let has_events = compress::has_events(head, edits);
    encode(head, edits, compressor.encoding());
    Chosen::Compressed(Box::new(Compression {
        compressor: Some(compressor),
        input: None,
        is_ending: false,
        trailers: None,
        holds: false,
        has_events,
        has_begun: false,
        left: 0,
        place: None,
        waiting: Vec::new(),
        is_over: false,
    }))
}

/// The head of a body that is compressed, of which it may be known how long it is then.
pub(super) fn recoded<'a>(head: &ResponseView<'a>, length: Option<u64>) -> ResponseView<'a> {
    let body = length.map_or(BodyKind::Recoded, BodyKind::RecodedLength);
    ResponseView { body, is_chunked: false, ..*head }
}

impl Compression {
    /// Takes the next of the body, when all before was compressed.
    pub(super) fn put(&mut self, piece: Piece, is_last: bool) {
        debug_assert!(self.input.is_none() && !self.is_ending);
        self.input = Some(piece).filter(|piece| !piece.is_empty());
        self.is_ending = is_last;
    }

    /// Nothing more comes. Trailers with a digest are of bytes that nobody gets.
    pub(super) fn end(&mut self, mut trailers: Option<HeaderMap>) {
        if let Some(trailers) = &mut trailers {
            compress::DIGESTS.iter().for_each(|digest| _ = trailers.remove(digest));
        }
        (self.is_ending, self.trailers) = (true, trailers);
    }

    /// Compresses as much of what has come as is left of the slice, and returns how much that was.
    fn work(&mut self) -> Result<u64, Why> {
        let mut piece = self.input.take();
        let came = piece.as_ref().map_or(0, |piece| piece.data().len());
        let taken = came.min(self.left);
        let is_all = taken == came;
        let (ends, gives_out) = (is_all && self.is_ending, is_all && self.has_events);
        self.encode(|encoder, out| {
            if let Some(piece) = &piece {
                encoder.put(&piece.data()[..taken], out)?;
            }
            match (ends, gives_out) {
                (true, _) => encoder.finish(out),
                (false, true) => encoder.flush(out),
                (false, false) => Some(()),
            }
        })?;
        if let Some(piece) = &mut piece {
            piece.consume(taken);
        }
        self.input = piece.filter(|piece| !piece.is_empty());
        self.left -= taken;
        self.holds = !gives_out;
        self.is_over = ends;
        self.compressor.take_if(|_| ends);
        Ok(taken as u64)
    }

    /// Has the encoder do something; what comes of that waits for the client.
    fn encode(&mut self, work: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Option<()>) -> Result<(), Why> {
        let encoder = self.compressor.as_mut().and_then(Compressor::encoder).ok_or(Why::Internal)?;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            work(encoder, scratch).ok_or(Why::Internal)?;
            self.waiting.extend_from_slice(scratch);
            Ok(())
        })
    }
}

impl<C: ClientSide> Relay<'_, C> {
    /// Compresses what has come. Ready when that has brought something for the client (true), which takes it before the next call,
    /// or when there is nothing more to do before more comes.
    pub(super) fn poll_compress(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Why>> {
        let Some(compression) = self.compression.as_deref_mut() else { return Poll::Ready(Ok(false)) };
        if compression.is_over {
            // Whoever reads trailers has the last byte before them.
            let trailers = compression.trailers.take();
            let has_trailers = trailers.is_some();
            return Poll::Ready(
                trailers.map_or(Ok(()), |trailers| self.client.end(Some(trailers))).map(|()| has_trailers),
            );
        }
        if compression.input.is_none() && !compression.is_ending {
            return Poll::Ready(Ok(false));
        }
        // All of a piece before the client takes any of that: what waits for a slow one is small then, and no buffer of the core's.
        loop {
            if compression.left == 0 {
                ready!(poll_time_slice(cx, &mut compression.place, !compression.has_begun));
                (compression.left, compression.has_begun) = (SLICE, true);
            }
            let taken = compression.work()?;
            if let Some(compressed) = &mut self.exchange.compressed {
                compressed.plain += taken;
            }
            if compression.input.is_none() {
                break;
            }
        }
        let is_last = compression.is_over && compression.trailers.is_none();
        self.send_compressed(is_last);
        Poll::Ready(Ok(true))
    }

    /// Gives out what the encoder has, as nothing more comes for now; false if it has nothing.
    pub(super) fn give_out(&mut self) -> Result<bool, Why> {
        let Some(compression) = self.compression.as_deref_mut().filter(|compression| compression.holds)
        else {
            return Ok(false);
        };
        compression.holds = false;
        compression.encode(Encoder::flush)?;
        self.send_compressed(false);
        Ok(true)
    }

    fn send_compressed(&mut self, is_last: bool) {
        let Some(compression) = self.compression.as_deref_mut() else { return };
        compression.waiting.shrink_to_fit();
        let waiting = Bytes::from(std::mem::take(&mut compression.waiting));
        let length = waiting.len() as u64;
        self.send_body(Piece::Bytes(waiting), length, is_last);
    }

    /// How the response is compressed that has begun. What comes is its body, if that is kept so.
    pub(super) fn compress(
        &mut self,
        chosen: Chosen,
        kept: Option<&Arc<StoredResponse>>,
    ) -> Option<CodedBody> {
        let (compression, encoding) = match chosen {
            Chosen::Plain | Chosen::HeadOnly => (None, None),
            Chosen::Compressed(compression) => {
                let encoding = compression.compressor.as_ref().map(Compressor::encoding);
                (Some(compression), encoding)
            }
            Chosen::Kept(encoding, body) => {
                let plain = kept.map_or(0, |kept| kept.length);
                (self.compression, self.exchange.compressed) =
                    (None, Some(Compressed { encoding, plain, is_kept: true }));
                return Some(body);
            }
        };
        self.compression = compression;
        self.exchange.compressed = encoding.map(|encoding| Compressed { encoding, plain: 0, is_kept: false });
        if let (Some(encoding), Some(kept)) = (encoding, kept)
            && kept.coded.is_due(encoding)
            && let Some(rule) = self.exchange.cache()
        {
            let (live, response) = (Arc::clone(&self.exchange.live), Arc::clone(kept));
            let key = self.key(&rule.plan, rule.scope).0;
            Job { live, store: rule.store, key, response, encoding }.begin();
        }
        None
    }

    /// What is kept in memory of a response that is served as it is kept, if its rule compresses any.
    pub(super) fn kept_for_coding(&self, side: &Stored) -> Option<Arc<StoredResponse>> {
        let compress = self.exchange.policy()?.plan.compress.get();
        compress.and_then(|_| side.kept()).map(Arc::clone)
    }
}
