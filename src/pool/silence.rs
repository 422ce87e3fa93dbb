//! Since when a server has answered nothing though it has requests to answer. What its tries have taught grows old while none
//! of them ends: a server that hangs would seem the quicker the longer it does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One word: how many requests wait for the head of their response, and the milliseconds at which the first of them began to, or at
/// which the last response came. These begin anew after 49 days.
#[derive(Debug, Default)]
pub(super) struct Silence(AtomicU64);

impl Silence {
    /// One more request is with the server.
    pub(super) fn begin(&self, at: u32) {
        self.change(|waiting, since| (waiting.saturating_add(1), if waiting == 0 { at } else { since }));
    }

    /// One of them has its answer.
    pub(super) fn answered(&self, at: u32) {
        self.change(|waiting, since| {
            (waiting.saturating_sub(1), if is_later(at, since) { at } else { since })
        });
    }

    /// One of them waits no more, and has no answer.
    pub(super) fn given_up(&self) {
        self.change(|waiting, since| (waiting.saturating_sub(1), since));
    }

    /// For how long somebody has waited by now with nobody getting an answer.
    pub(super) fn lasted(&self, now: u32) -> Duration {
        let (waiting, since) = parts(self.0.load(Relaxed));
        match waiting > 0 && is_later(now, since) {
            true => Duration::from_millis(u64::from(now.wrapping_sub(since))),
            false => Duration::ZERO,
        }
    }

    fn change(&self, next: impl Fn(u32, u32) -> (u32, u32)) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (waiting, since) = parts(word);
            let (waiting, since) = next(waiting, since);
            Some(u64::from(waiting) << 32 | u64::from(since))
        });
    }
}

fn parts(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Of moments that begin anew one is before another that is less than half of all away.
fn is_later(at: u32, than: u32) -> bool {
    at.wrapping_sub(than) <= u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_first_that_waits_or_the_last_answer() {
        let silence = Silence::default();
        let lasted = |now| silence.lasted(now).as_millis();
        assert_eq!(lasted(5_000), 0, "nobody waits");
        silence.begin(5_000);
        silence.begin(5_400);
        assert_eq!([lasted(4_900), lasted(5_500)], [0, 500]);
        silence.answered(5_600);
        assert_eq!([lasted(5_600), lasted(5_900)], [0, 300]);
        silence.answered(5_500);
        assert_eq!(lasted(9_000), 0, "all have been answered");
        silence.begin(9_000);
        silence.begin(9_100);
        silence.given_up();
        assert_eq!(lasted(9_200), 200, "who has left has heard nothing");
    }

    #[test]
    fn milliseconds_begin_anew() {
        let silence = Silence::default();
        silence.begin(u32::MAX - 100);
        assert_eq!(silence.lasted(99).as_millis(), 200);
        silence.begin(50);
        silence.answered(60);
        assert_eq!(silence.lasted(99).as_millis(), 39);
    }
}
