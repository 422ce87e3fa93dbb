//! Holds a response's body back, so that it leaves no faster than it may.

use super::Relay;
use crate::access_log::Why;
use crate::policy::Pace;
use crate::serve::client::ClientSide;
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
}

impl<C: ClientSide> Relay<'_, C> {
    /// Begins to hold the response back, if its policy has it so.
    pub(super) fn pace(&mut self) {
        self.pacing = self.exchange.pace().map(|pace| Box::new(Pacing { pace, sleep: None }));
    }

    /// Has what was sent paid for, of a response that is over.
    pub(super) fn pay(&mut self) {
        let Some(pacing) = &mut self.pacing else { return };
        let cost = pacing.pace.cost(self.client.sent());
        if let Some(key) = pacing.pace.shared {
            self.exchange.live.limiter().rates.owe(key, cost, Instant::now());
        }
    }

    /// Waits before the response begins while others of its client are still owing, unless the client leaves.
    pub(super) async fn wait_for_others(&mut self) -> Result<(), Why> {
        let Some(key) = self.pacing.as_ref().and_then(|pacing| pacing.pace.shared) else { return Ok(()) };
        loop {
            let debt = self.exchange.live.limiter().rates.debt(key, Instant::now());
            if debt.is_zero() {
                return Ok(());
            }
            self.exchange.is_paced = true;
            self.hold(debt.min(NAP)).await?;
            self.state.watch.touch();
        }
    }

    /// Ready when more may be sent.
    pub(super) fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pacing) = &mut self.pacing else { return Poll::Ready(()) };
        loop {
            if let Some(sleep) = &mut pacing.sleep {
                ready!(sleep.as_mut().poll(cx));
                pacing.sleep = None;
                self.state.watch.touch();
            }
            let (cost, now) = (pacing.pace.cost(self.client.sent()), Instant::now());
            let wait = match pacing.pace.shared {
                Some(key) => self.exchange.live.limiter().rates.owe(key, cost, now),
                None => pacing.pace.pay(cost, now),
            };
            if wait.is_zero() {
                return Poll::Ready(());
            }
            self.exchange.is_paced = true;
            pacing.sleep = Some(Box::pin(tokio::time::sleep(wait.min(NAP))));
        }
    }
}
