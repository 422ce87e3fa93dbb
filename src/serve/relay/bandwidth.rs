//! Holds a response's body back, so that it leaves no faster than it may.

use super::Relay;
use crate::policy::{Leave, Pace};
use crate::serve::client::ClientSide;
use crate::serve::piece::Piece;
use bytes::Bytes;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The longest sleep: between two of them it shows that it has not stalled.
const NAP: Duration = Duration::from_secs(1);

/// A response that may not leave as fast as it comes.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    sleep: Option<Pin<Box<Sleep>>>,
    held: Option<Held>,
}

/// What has come and may not leave yet.
#[derive(Debug)]
struct Held {
    bytes: Bytes,
    /// Without its framing.
    length: u64,
    is_last: bool,
}

impl<C: ClientSide> Relay<'_, C> {
    /// Begins to hold the response back, if its policy has it so.
    pub(super) fn pace(&mut self) {
        self.pacing = self.exchange.pace().map(|pace| Box::new(Pacing { pace, sleep: None, held: None }));
    }

    /// Has the client get the next of the body, when it may.
    pub(super) fn send_body(&mut self, piece: Piece, length: u64, is_last: bool) {
        match &mut self.pacing {
            None => self.client.send(piece, length, is_last),
            Some(pacing) => pacing.held = Some(Held { bytes: piece.into_bytes(), length, is_last }),
        }
    }

    /// Whether something waits that may not leave yet.
    pub(super) fn holds_back(&self) -> bool {
        self.pacing.as_ref().is_some_and(|pacing| pacing.held.is_some())
    }

    /// Ready when as much of what waits as may leave is on its way.
    pub(super) fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pacing) = &mut self.pacing else { return Poll::Ready(()) };
        let Some(held) = &mut pacing.held else { return Poll::Ready(()) };
        loop {
            if let Some(sleep) = &mut pacing.sleep {
                ready!(sleep.as_mut().poll(cx));
                pacing.sleep = None;
                self.state.watch.touch();
            }
            let (now, rates) = (Instant::now(), || &self.exchange.live.limiter().rates);
            let debt = pacing.pace.shared.map_or_else(|| pacing.pace.debt(now), |key| rates().debt(key, now));
            match pacing.pace.leave(held.bytes.len() as u64, debt) {
                Leave::Now { bytes, cost } => {
                    match pacing.pace.shared {
                        Some(key) => _ = rates().owe(key, cost, now),
                        None => pacing.pace.owe(cost, now),
                    }
                    let part = held.bytes.split_to(bytes as usize);
                    let is_all = held.bytes.is_empty();
                    // Of chunks that go on as they are it is not known which bytes are framing; together it is right.
                    let length = if is_all { held.length } else { held.length.min(bytes) };
                    held.length -= length;
                    let is_last = is_all && held.is_last;
                    if is_all {
                        pacing.held = None;
                    }
                    self.client.send(Piece::Bytes(part), length, is_last);
                    return Poll::Ready(());
                }
                Leave::After(wait) => {
                    self.exchange.is_paced = true;
                    // Others of the client that wake at the same time have their turn, too.
                    let turn = if pacing.pace.shared.is_some() { fastrand::f64() / 2.0 } else { 0.0 };
                    pacing.sleep = Some(Box::pin(tokio::time::sleep(wait.mul_f64(1.0 + turn).min(NAP))));
                }
            }
        }
    }
}
