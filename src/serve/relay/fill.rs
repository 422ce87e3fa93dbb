//! The cache's part in an exchange once a server has answered: what the response does to what is kept, and whether it is kept
//! itself, while it goes on to the client.

use super::Relay;
use super::caching::{Caching, DiskFill, Filling, MemoryFill, Unkept};
use super::local_reply::keep_if_whole;
use crate::access_log::{CacheRecord, CacheResult, Why};
use crate::cache::{self, CacheStatus, Exchanged, NotStored, Terms};
use crate::edge::HttpDate;
use crate::filter;
use crate::serve::client::ClientSide;
use crate::serve::exchange::{LeasedServer, moment};
use crate::serve::server::{Failure, Part, ResponseStart, ServerSide};
use crate::store::{Fetched, Fetching, StoredBody, StoredResponse};
use crate::wire::response_head::ResponseView;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

/// Of a response that was purged, or changed, as it came.
const PURGED: CacheRecord = CacheRecord { result: CacheResult::Miss, age: None, reason: Some("purged") };

/// Of one that was kept as it was.
const STORED: &str = "stored";

/// What becomes of a response that has begun.
#[derive(Debug)]
pub(super) enum Answer {
    PassOn,
    /// The client gets what is made of all of it.
    PassWhole,
    /// What is kept goes to the client in its place.
    Stored(Box<(Arc<StoredResponse>, CacheStatus, CacheResult)>),
    /// It says nothing of what was asked: the request goes again, as it came or without conditions.
    Again,
}

impl<C: ClientSide> Relay<'_, C> {
    /// Whether its response may have to do with what is kept.
    pub(super) fn concerns_store(&self) -> bool {
        self.caching.is_some() || self.is_change()
    }

    /// Whether it may change what is there.
    fn is_change(&self) -> bool {
        !matches!(
            *self.request.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
        )
    }

    /// Holds a response's head against what is kept.
    pub(super) fn judge_answer(&mut self, head: &ResponseView<'_>) -> Answer {
        if self.is_change() {
            // RFC 9111 section 4.4.
            if (200..400).contains(&head.status) {
                let named = [header::LOCATION, header::CONTENT_LOCATION];
                let locations: Vec<_> = named.iter().filter_map(|name| head.fields.first(name)).collect();
                self.exchange.invalidate(&self.request, &locations);
            }
            return Answer::PassOn;
        }
        let Some(mut caching) = self.caching.take() else { return Answer::PassOn };
        let answer = match caching.is_fill {
            true => self.judge_fill(&mut caching, head),
            false => Answer::PassOn,
        };
        if caching.plan.status_field {
            self.cache_fields.status = Some(caching.status.text());
        }
        self.caching = Some(caching);
        answer
    }

    fn judge_fill(&mut self, caching: &mut Caching, head: &ResponseView<'_>) -> Answer {
        let received = moment();
        let edits = filter::connection(head);
        let fields = cache::kept(edits.staying(head.fields));
        let is_authorized = self.request.fields.has(&header::AUTHORIZATION);
        let exchanged = Exchanged { asked: caching.asked, received };
        let failed = matches!(head.status, 500 | 502 | 503 | 504);
        match caching.stored.take() {
            Some(stored) if head.status == 304 => {
                if !cache::is_about(head.fields, &stored.fields) {
                    // Of a variant that is not kept.
                    caching.validators = Some(filter::cache::Validators::default());
                    return Answer::Again;
                }
                let mut fresh_fields = fields;
                // It is of now, not of when what it renews was sent.
                date(&mut fresh_fields);
                let mut fields = cache::updated(&stored.fields, &fresh_fields);
                let judged =
                    cache::judge(&caching.plan, is_authorized, (stored.status.as_u16(), &fields), exchanged);
                let terms = match &judged {
                    Ok(terms) => terms.clone(),
                    Err(_) => stored.terms.clone(),
                };
                let is_less = leave_out(&mut fields, &terms);
                let selected = self.selected(&terms.vary).into();
                let tags = match cache::tags_of(&caching.plan.tags, &fresh_fields) {
                    tags if tags.is_empty() => stored.tags.clone(),
                    tags => tags,
                };
                let (status, body, length) = (stored.status, stored.body.clone(), stored.length);
                let fresh = caching.stored_as(status, (fields, terms, tags), (body, length), selected);
                // Its bytes are the same.
                let fresh = Arc::new(StoredResponse { coded: Arc::clone(&stored.coded), ..fresh });
                match &judged {
                    Ok(_) => caching.renew(&stored, &fresh),
                    Err(_) => caching.remove(&stored),
                }
                self.fill_ended(judged.as_ref().err().map_or("renewed", |reason| reason.label()));
                caching.tell(&match judged {
                    Ok(_) => Fetched::Stored(Arc::clone(&fresh)),
                    Err(_) => Fetched::NotStored,
                });
                let status = CacheStatus {
                    forwarded_status: Some(304),
                    is_stored: judged.is_ok(),
                    left: Some(fresh.terms.left(received)),
                    ..caching.status
                };
                let answer = match is_less {
                    // Its own client gets what is kept for nobody.
                    true => Arc::new(fresh.with_fields(cache::updated(&stored.fields, &fresh_fields))),
                    false => fresh,
                };
                return Answer::Stored(Box::new((answer, status, CacheResult::Revalidated)));
            }
            Some(stored) if failed && stored.terms.is_good_on_error(received) => {
                caching.tell(&Fetched::Stored(Arc::clone(&stored)));
                self.fill_ended("failed");
                let status = CacheStatus { forwarded_status: Some(head.status), ..caching.status };
                return Answer::Stored(Box::new((stored, status, CacheResult::Stale)));
            }
            // What is kept is not what is there any more. Until this is whole it is better than nothing.
            Some(stored) if !failed && !cache::is_about_request(head.status) => {
                caching.replaced = Some(stored);
            }
            _ => {}
        }
        match self.begin_fill(caching, head, fields, exchanged) {
            Ok(filling) => {
                // Of what may prove too long nothing is promised in a head that leaves before.
                let is_stored = filling.has_length();
                caching.status = CacheStatus { is_stored, detail: None, ..caching.status };
                self.exchange.cached = Some(CacheResult::Miss.into());
                let waits = match &filling {
                    Filling::Memory(fill) => {
                        self.waits_for_whole(head, &fill.fields) && !self.exchange.intercepts(head.status)
                    }
                    Filling::Disk(_) => false,
                };
                caching.filling = Some(filling);
                if waits { Answer::PassWhole } else { Answer::PassOn }
            }
            Err(reason) => {
                caching.remove_replaced();
                // Of one that was asked for again the first reason holds.
                if self.exchange.cached.is_none_or(|record| record.reason.is_none()) {
                    caching.status.detail = Some(reason.label());
                    self.exchange.cached = Some(Unkept::NotStored(reason).record());
                    self.fill_ended(reason.label());
                }
                caching.tell(&Fetched::NotStored);
                if head.status < 500 && !cache::is_about_request(head.status) {
                    caching.mark(reason);
                }
                // Who asked for a part is not given all that there is.
                let is_whole = caching.validators.is_some() && head.status == 200;
                let is_part = is_whole && self.request.fields.has(&header::RANGE);
                caching.pass();
                if is_part { Answer::Again } else { Answer::PassOn }
            }
        }
    }

    fn begin_fill(
        &self,
        caching: &mut Caching,
        head: &ResponseView<'_>,
        mut fields: HeaderMap,
        exchanged: Exchanged,
    ) -> Result<Filling, NotStored> {
        let is_authorized = self.request.fields.has(&header::AUTHORIZATION);
        let terms = cache::judge(&caching.plan, is_authorized, (head.status, &fields), exchanged)?;
        let length = head.fields.text(&header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if caching.plan.min_uses > 1 {
            let count = || caching.store.count_use(&caching.key);
            if *caching.uses.get_or_insert_with(count) < caching.plan.min_uses {
                return Err(NotStored::TooFewUses);
            }
        }
        let tags = cache::tags_of(&caching.plan.tags, &fields);
        leave_out(&mut fields, &terms);
        date(&mut fields);
        let status = StatusCode::from_u16(head.status).map_err(|_| NotStored::Status)?;
        match length.filter(|length| caching.store.forbids(*length).is_some()) {
            Some(length) => self.begin_on_disk(caching, head, length, (status, fields, terms, tags)),
            None => {
                let mut body = caching.store.writer(length);
                // Nobody could be given a part of what has no room in the middle.
                if let Some(length) = length.filter(|_| self.waits_for_whole(head, &fields))
                    && !body.claim(length)
                {
                    return Err(NotStored::NoRoom);
                }
                let fill = MemoryFill { status, fields, terms, tags, body, length };
                Ok(Filling::Memory(Box::new(fill)))
            }
        }
    }

    /// Begins to keep what is too long for memory, if the disk takes it. Nobody waits until it is there: whoever asks for a part, or whether
    /// it is the same still, is served as without a cache.
    fn begin_on_disk(
        &self,
        caching: &Caching,
        head: &ResponseView<'_>,
        length: u64,
        (status, fields, terms, tags): (StatusCode, HeaderMap, Terms, Box<[u64]>),
    ) -> Result<Filling, NotStored> {
        let most = self.exchange.live.snapshot().plan.cache.max_object;
        let disk = match &caching.disk {
            _ if length > most => return Err(NotStored::TooLarge),
            None => return Err(NotStored::TooLargeForMemory),
            Some(_) if self.request.fields.has(&header::RANGE) => return Err(NotStored::Ranged),
            Some(_) if self.waits_for_whole(head, &fields) => return Err(NotStored::Conditional),
            Some(disk) => disk,
        };
        let selected = self.selected(&terms.vary).into();
        let body = (StoredBody::Memory(Arc::from([])), length);
        let response = caching.stored_as(status, (fields, terms, tags), body, selected);
        let writer = disk.begin(&caching.key, response)?;
        Ok(Filling::Disk(DiskFill::new(writer)))
    }

    /// The response is not kept after all: nobody is to wait for it, and who has it as it comes is told why no more does.
    pub(super) fn not_kept(&mut self, unkept: Unkept) {
        let Some(caching) = &mut self.caching else { return };
        // Before it ends: who comes now does not follow it any more.
        caching.tell(&Fetched::NotStored);
        let Some(filling) = caching.filling.take() else { return };
        self.exchange.live.metrics.cache_fills.count(unkept.record().reason.unwrap_or_default());
        self.exchange.cached = Some(unkept.record());
        caching.status = CacheStatus { is_stored: false, detail: unkept.record().reason, ..caching.status };
        if caching.plan.status_field {
            // For a head that has not gone.
            self.cache_fields.status = Some(caching.status.text());
        }
        if let Unkept::NotStored(reason) = unkept {
            caching.remove_replaced();
            caching.mark(reason);
        }
        match filling {
            Filling::Memory(fill) => fill.body.break_off(unkept.told()),
            Filling::Disk(fill) => fill.writer.break_off(unkept.told()),
        }
    }

    /// Counts what has become of what was fetched for the cache.
    fn fill_ended(&self, end: &'static str) {
        self.exchange.live.metrics.cache_fills.count(end);
    }

    /// Whether others wait for the response.
    pub(super) fn is_awaited(&self) -> bool {
        let fetching = self.caching.as_ref().and_then(|caching| caching.fetching.as_ref());
        fetching.is_some_and(Fetching::is_awaited)
    }

    /// Whether the response is being kept.
    pub(super) fn is_filling(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.filling.is_some())
    }

    /// Whether the client is to have something that is made of the whole: a part of it, or that it has it already.
    fn waits_for_whole(&self, head: &ResponseView<'_>, kept: &HeaderMap) -> bool {
        let fields = self.request.fields;
        let has_length = head.fields.has(&header::CONTENT_LENGTH);
        let is_asked = || fields.has(&header::RANGE) || cache::is_not_modified(&fields, kept);
        head.status == 200 && has_length && is_asked()
    }

    /// Waits for the disk that the response is kept on, and not for long: then it is not kept.
    pub(super) fn poll_keeping(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(caching) = &mut self.caching else { return Poll::Ready(()) };
        let Some(Filling::Disk(fill)) = &mut caching.filling else { return Poll::Ready(()) };
        if self.is_fed {
            // It goes to its client by that way alone.
            return fill.writer.poll_ready(cx);
        }
        if !ready!(fill.poll_ready(cx)) {
            fill.writer.give_up();
            self.not_kept(Unkept::NotStored(NotStored::DiskBehind));
        }
        Poll::Ready(())
    }

    /// Keeps what has come of the body, too. What there is no room for is not kept.
    pub(super) fn keep(&mut self, data: &[u8]) {
        let Some(caching) = &mut self.caching else { return };
        let Some(filling) = &mut caching.filling else { return };
        if let Err(reason) = filling.push(data) {
            self.not_kept(Unkept::NotStored(reason));
        }
    }

    /// All of the response has come: it is kept from now on.
    pub(super) fn kept(&mut self) -> Option<Arc<StoredResponse>> {
        let caching = self.caching.as_mut()?;
        if caching.filling.is_some() {
            caching.remove_replaced();
        }
        let MemoryFill { status, mut fields, terms, tags, body, .. } = match caching.filling.take()? {
            Filling::Memory(fill) => *fill,
            Filling::Disk(DiskFill { writer, .. }) => {
                let mut end = STORED;
                if writer.is_outdated() {
                    (self.exchange.cached, end) = (Some(PURGED), "purged");
                }
                // Those who wait look again when it can be found.
                let fetching = caching.fetching.take();
                if let Err(reason) = writer.finish(move || drop(fetching)) {
                    (self.exchange.cached, end) = (Some(Unkept::NotStored(reason).record()), reason.label());
                }
                self.fill_ended(end);
                return None;
            }
        };
        let length = body.length();
        if status == StatusCode::NO_CONTENT {
            fields.remove(header::CONTENT_LENGTH);
        } else {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let selected = self.selected(&terms.vary).into();
        let body = StoredBody::Memory(body.finish());
        let caching = self.caching.as_mut()?;
        let stored = Arc::new(caching.stored_as(status, (fields, terms, tags), (body, length), selected));
        let is_outdated = caching.store.is_outdated(&stored);
        if is_outdated {
            self.exchange.cached = Some(PURGED);
        }
        caching.put(&stored);
        caching.tell(&Fetched::Stored(Arc::clone(&stored)));
        self.fill_ended(if is_outdated { "purged" } else { STORED });
        Some(stored)
    }

    /// Keeps the rest of a response, which is not for the client as it comes.
    pub(super) async fn keep_rest(
        &mut self,
        server: &mut Option<ServerSide>,
        leased: Option<&LeasedServer>,
    ) -> Result<Option<Arc<StoredResponse>>, Failure> {
        let kept: Result<_, Failure> = poll_fn(|cx| {
            loop {
                self.state.watch.heed_now(cx)?;
                self.share_on_disk(cx);
                ready!(self.poll_keeping(cx));
                let (Some(sending), true) = (server.as_mut(), self.is_filling()) else {
                    return Poll::Ready(Ok(None));
                };
                let part = ready!(sending.poll_part(cx, false))?;
                self.state.watch.touch();
                let is_over = match part {
                    Part::Data { piece, is_last, .. } => {
                        self.keep(piece.data());
                        is_last
                    }
                    Part::End(_) => true,
                };
                if is_over {
                    self.release(server, leased);
                    return Poll::Ready(Ok(self.kept()));
                }
            }
        })
        .await;
        kept.inspect_err(|failure| self.not_kept(Unkept::BrokenOff(*failure)))
    }

    /// Reads all of a response, keeps it, and serves what was asked for of it.
    pub(super) async fn serve_when_whole(
        &mut self,
        server: ServerSide,
        start: ResponseStart,
        leased: &LeasedServer,
    ) {
        self.exchange.answered(start.status, start.hint);
        self.exchange.judge();
        let told = self.caching.as_ref().map(|caching| (caching.status, caching.plan.status_field));
        let mut server = Some(server);
        self.share();
        let stored = self.keep_rest(&mut server, Some(leased)).await;
        drop(server);
        match (stored, told) {
            (Ok(Some(stored)), Some((status, says_so))) => {
                self.serve_stored(&stored, status, (CacheResult::Miss, says_so)).await;
            }
            (kept, _) => {
                // Without a failure it is for want of room.
                let failure = kept.err().unwrap_or(Why::OwnResources.into());
                self.exchange.detail = failure.detail.or(self.exchange.detail);
                self.exchange.first_byte = None;
                self.reply(failure.why).await;
            }
        }
    }

    /// Serves what is kept in place of a server's response.
    pub(super) async fn serve_instead(
        &mut self,
        server: ServerSide,
        start: ResponseStart,
        leased: &LeasedServer,
        (stored, status, result): (Arc<StoredResponse>, CacheStatus, CacheResult),
    ) {
        self.exchange.answered(start.status, start.hint);
        self.exchange.judge();
        keep_if_whole(server, start, leased);
        self.exchange.give_back();
        let says_so = self.caching.as_ref().is_some_and(|caching| caching.plan.status_field);
        self.serve_stored(&stored, status, (result, says_so)).await;
    }

    /// Answers a request that no server has answered: with what is kept, if that is good enough.
    pub(super) async fn fail(&mut self, why: Why) {
        let stale = self.caching.as_mut().and_then(|caching| {
            let is_good =
                |stored: &Arc<StoredResponse>| why.is_of_servers() && stored.terms.is_good_on_error(moment());
            let stored = caching.stored.take().filter(is_good);
            // Those who wait would fare no better, unless it is only this client that has left.
            match &stored {
                Some(stored) => caching.tell(&Fetched::Stored(Arc::clone(stored))),
                None if why != Why::ClientAborted => caching.tell(&Fetched::NotStored),
                None => {}
            }
            Some((stored?, caching.status, caching.plan.status_field))
        });
        if self.caching.as_ref().is_some_and(|caching| caching.is_fill) {
            self.fill_ended(why.as_str());
        }
        let Some((stored, status, says_so)) = stale else { return self.reply(why).await };
        self.exchange.try_failed(why);
        if let Some(interrupted) = self.state.watch.interrupted()
            && !self.state.watch.resume_after(why)
        {
            return self.reply(interrupted).await;
        }
        let status = CacheStatus { detail: Some(why.as_str()), ..status };
        self.serve_stored(&stored, status, (CacheResult::Stale, says_so)).await;
    }
}

/// Takes out what is not kept with the rest.
/// Takes out what is not to be kept; whether there was any of it.
fn leave_out(fields: &mut HeaderMap, terms: &Terms) -> bool {
    terms.without.iter().filter(|name| fields.remove(name.as_str()).is_some()).count() > 0
}

/// Dates a head that has no date (RFC 9110 section 6.6.1).
fn date(fields: &mut HeaderMap) {
    if !fields.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(HttpDate::of(SystemTime::now()).as_str())
    {
        fields.insert(header::DATE, date);
    }
}
