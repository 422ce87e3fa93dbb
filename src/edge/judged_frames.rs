//! What an HTTP/2 connection's two owners share: the codec has the connection, whose bytes pass the judge here, and the
//! connection's task has the judge's word.
//!
//! Both run in one task, so the lock is never waited for; it is there because the codec's types must be able to
//! change threads, which ours do not.

use super::watch;
use crate::wire::abuse::Abuse;
use crate::wire::frame_judge::{Judge, Tally};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One connection's judge, and how far it is from its end.
#[derive(Debug)]
pub(super) struct JudgedFrames {
    judge: Mutex<Judge>,
    condemned: AtomicBool,
    parting: AtomicBool,
    said_all: AtomicBool,
}

impl JudgedFrames {
    pub(super) fn new() -> Self {
        Self {
            judge: Mutex::new(Judge::new(watch::now())),
            condemned: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            said_all: AtomicBool::new(false),
        }
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, bytes: &mut [u8]) {
        let mut judge = self.judge();
        judge.read(bytes, watch::now());
        self.condemned.store(judge.verdict().is_some(), Relaxed);
    }

    pub(super) fn written(&self, bytes: &[u8]) {
        let mut judge = self.judge();
        judge.written(bytes, watch::now());
        self.condemned.store(judge.verdict().is_some(), Relaxed);
    }

    /// So many requests were refused by the codec; whether the client may go on.
    pub(super) fn refused(&self, requests: u64) -> bool {
        let mut judge = self.judge();
        judge.refused(requests, watch::now());
        let goes_on = judge.verdict().is_none();
        self.condemned.store(!goes_on, Relaxed);
        goes_on
    }

    /// What makes a stream's request malformed that the codec has let pass; told once.
    pub(super) fn take_fault(&self, stream: u32) -> Option<&'static str> {
        self.judge().take_fault(stream)
    }

    /// Nothing more is to be read.
    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.load(Relaxed)
    }

    pub(super) fn verdict(&self) -> Option<Abuse> {
        self.judge().verdict()
    }

    /// What the codec has ended the connection for, if it was the client's fault.
    pub(super) fn blame(&self) -> Option<Abuse> {
        self.judge().blame()
    }

    /// Whether a request has begun whose head is not whole.
    pub(super) fn has_half_a_head(&self) -> bool {
        self.judge().has_half_a_head()
    }

    /// Since when the client owes us what it has begun, and what has passed so far.
    pub(super) fn state(&self) -> (Option<u64>, Tally) {
        let judge = self.judge();
        (judge.owed_since(), judge.tally())
    }

    /// The client sends nothing more, and may still read.
    pub(super) fn client_has_said_all(&self) {
        self.said_all.store(true, Relaxed);
    }

    pub(super) fn has_client_said_all(&self) -> bool {
        self.said_all.load(Relaxed)
    }

    /// We have said our last word.
    pub(super) fn part(&self) {
        self.parting.store(true, Relaxed);
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.load(Relaxed)
    }
}

/// What is wrong with the request of one stream, found beside the codec.
#[derive(Debug)]
pub(crate) struct StreamFaults {
    passing: Arc<JudgedFrames>,
    stream: u32,
}

impl StreamFaults {
    pub(super) fn new(passing: &Arc<JudgedFrames>, stream: u32) -> Self {
        Self { passing: Arc::clone(passing), stream }
    }

    /// With what has come of it by now; told once.
    pub(crate) fn take(&self) -> Option<&'static str> {
        self.passing.take_fault(self.stream)
    }
}
