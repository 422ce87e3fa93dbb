//! What is kept, on its way to a client: all of it, parts, or that the client has it already.

use super::Relay;
use crate::access_log::{CacheRecord, CacheResult};
use crate::cache::{self, CacheStatus, Parts};
use crate::compress::{self, SkipReason, Verdict};
use crate::serve::client::ClientSide;
use crate::serve::exchange::moment;
use crate::serve::server::{ServerSide, Stored, StoredPiece};
use crate::store::StoredResponse;
use crate::wire::edit::Edits;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::ops::Range;
use std::sync::Arc;

impl<C: ClientSide> Relay<'_, C> {
    /// Serves what is kept: whole, in parts, or that the client has it already.
    pub(super) async fn serve_stored(
        &mut self,
        stored: &Arc<StoredResponse>,
        status: CacheStatus,
        (result, says_so): (CacheResult, bool),
    ) {
        let age = stored.terms.age(moment()) / 1000;
        let reason = status.detail;
        self.exchange.answered_by_store(CacheRecord { result, age: Some(age), reason });
        self.cache_fields.age = Some(age);
        self.cache_fields.status = says_so.then(|| status.text());
        let side = self.asked_of(stored);
        if matches!(side.head().status, 206 | 304) {
            self.cache_fields.is_compressible = self.is_compressible(stored);
        }
        self.client.refuse_body();
        self.pass_stored(side).await;
    }

    /// Whether all of a response would be compressed for who takes that; `None` if its rule compresses nothing.
    fn is_compressible(&self, stored: &Arc<StoredResponse>) -> Option<bool> {
        let plan = self.exchange.policy()?.plan.compress.get()?;
        let whole = Stored::whole(stored);
        let verdict = compress::judge(plan, &self.request, &whole.head(), &Edits::default());
        Some(matches!(verdict, Verdict::Eligible | Verdict::Never(SkipReason::Range)))
    }

    /// What of a stored response the request asks for.
    fn asked_of(&self, stored: &Arc<StoredResponse>) -> Stored {
        let fields = self.request.fields;
        if !matches!(stored.status.as_u16(), 200 | 203) {
            return Stored::whole(stored);
        }
        if cache::is_not_modified(&fields, &stored.fields) {
            let fields = cache::not_modified(&stored.fields);
            return Stored::made(StatusCode::NOT_MODIFIED, fields, Vec::new());
        }
        match self.parts_of(stored) {
            None | Some(Parts::Whole) => Stored::whole(stored),
            Some(Parts::One(part)) => {
                let range = cache::content_range(&part, stored.length);
                partial(&stored.fields, Some(&range), StoredPiece::of(stored, &part))
            }
            Some(Parts::Several(parts)) => {
                let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
                let content_type =
                    stored.fields.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
                let body = cache::multipart(stored.length, &parts, (content_type, &boundary), |part| {
                    StoredPiece::of(stored, part)
                });
                let mut head = stored.fields.clone();
                set(&mut head, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
                partial(&head, None, body)
            }
            Some(Parts::Unsatisfiable) => {
                let mut head = cache::not_modified(&stored.fields);
                set(&mut head, header::CONTENT_RANGE, &format!("bytes */{}", stored.length));
                set(&mut head, header::CONTENT_LENGTH, "0");
                Stored::made(StatusCode::RANGE_NOT_SATISFIABLE, head, Vec::new())
            }
        }
    }

    /// The parts of a stored response that the request asks for, if it asks for parts.
    fn parts_of(&self, stored: &StoredResponse) -> Option<Parts> {
        let fields = self.request.fields;
        let range = fields.first(&header::RANGE).filter(|_| {
            *self.request.method == Method::GET
                && stored.status == StatusCode::OK
                && cache::range_applies(&fields, &stored.fields)
        });
        range.map(|range| cache::parts(range, stored.length))
    }

    /// Whether the request asks for a part of what comes for others that begins behind all that has come.
    pub(super) fn is_ahead_of(&self, coming: &StoredResponse) -> bool {
        let is_later = |part: &Range<u64>| !coming.has_come(part.start);
        let is_ahead = match self.parts_of(coming) {
            Some(Parts::One(part)) => is_later(&part),
            Some(Parts::Several(parts)) => parts.iter().any(is_later),
            Some(Parts::Whole | Parts::Unsatisfiable) | None => false,
        };
        is_ahead && !cache::is_not_modified(&self.request.fields, &coming.fields)
    }

    /// Passes on what is kept, as if it came from a server.
    async fn pass_stored(&mut self, side: Stored) {
        let start = side.start(*self.request.method == Method::HEAD);
        let kept = self.kept_for_coding(&side);
        let mut side = Box::new(side);
        match self.begin_kept(&side.head(), None, kept.as_ref()) {
            Ok(coded) => side.recode(coded),
            Err(why) => {
                self.exchange.fail(why);
                return self.client.cut();
            }
        }
        let mut server = ServerSide::Stored(side);
        self.is_uploaded = true;
        // Head and body leave by one system call.
        match self.first_part(&mut server, start).await {
            Ok(first) => self.deliver(server, first, start, None).await,
            Err(failure) => {
                self.client.withdraw();
                self.exchange.detail = failure.detail.or(self.exchange.detail);
                // The client has none of it, and gets an answer that tells of none.
                self.exchange.first_byte = None;
                self.exchange.grpc_status = None;
                (self.cache_fields.age, self.cache_fields.status) = (None, None);
                self.reply(failure.why).await;
            }
        }
    }
}

/// A 206 of a stored response with this head.
fn partial(head: &HeaderMap, range: Option<&str>, body: Vec<StoredPiece>) -> Stored {
    let mut head = head.clone();
    let length: u64 = body.iter().map(StoredPiece::length).sum();
    set(&mut head, header::CONTENT_LENGTH, &length.to_string());
    if let Some(range) = range {
        set(&mut head, header::CONTENT_RANGE, range);
    }
    Stored::made(StatusCode::PARTIAL_CONTENT, head, body)
}

fn set(head: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        head.insert(name, value);
    }
}
