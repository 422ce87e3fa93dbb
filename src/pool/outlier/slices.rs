//! What servers' tries have come to, slice by slice of time, so that each is held against what the others did at the same time.
//! Of an outage that all had, whoever has served much since shows little, and whoever has not shows nothing else.

use super::record::FailureShare;
use crate::pool::meanwhile::Standardized;
use crate::pool::wilson;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A window is this many slices long, and one more by the time it moves on.
const STEPS: u32 = 10;
/// Of so many windows slices are kept, for servers that serve little: whoever fails gets little where algorithms learn.
const WINDOWS: u32 = 6;
/// With more than so many slices none ends before its time.
const MOST: usize = 100;
/// Standard deviations by which the failures of a pool must have become more, or less, for a slice to end: 95 %.
const Z_TURN: f64 = 1.96;

/// The tries of a pool's servers. A slice ends when it is so long, or once failures become more or less.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slices: VecDeque<Slice>,
    /// All tries of each server by the last look.
    counted: HashMap<u32, FailureShare>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Slice {
    began: Instant,
    all: FailureShare,
    servers: HashMap<u32, FailureShare>,
}

impl Slice {
    fn new(began: Instant) -> Self {
        Self { began, all: FailureShare::default(), servers: HashMap::new() }
    }

    fn of(&self, server: u32) -> FailureShare {
        self.servers.get(&server).copied().unwrap_or_default()
    }

    fn add(&mut self, server: u32, share: FailureShare) {
        let own = self.servers.entry(server).or_default();
        *own = own.plus(share);
        self.all = self.all.plus(share);
    }

    fn forget(&mut self, server: u32) {
        if let Some(share) = self.servers.remove(&server) {
            self.all = self.all.minus(share);
        }
    }
}

impl Slices {
    /// Takes note of all tries of these servers, the pool's, as they are counted by now.
    pub(super) fn note(&mut self, totals: &[(u32, FailureShare)], window: Duration, now: Instant) {
        self.counted.retain(|id, _| totals.iter().any(|(server, _)| server == id));
        // What came before anybody looked has no time.
        let new = |(id, total): &(u32, FailureShare)| Some((*id, total.minus(*self.counted.get(id)?)));
        let new: Vec<_> = totals.iter().filter_map(new).filter(|(_, share)| share.of > 0).collect();
        self.counted.extend(totals.iter().copied());
        let began = self.looked.replace(now).unwrap_or(now);
        let all = new.iter().fold(FailureShare::default(), |sum, (_, share)| sum.plus(*share));
        if self.ends(all, began, window / STEPS) {
            self.slices.push_back(Slice::new(began));
        }
        let slice = self.slices.back_mut().expect("there is one by now");
        new.into_iter().for_each(|(id, share)| slice.add(id, share));
        let is_past = |slice: &Slice| now.saturating_duration_since(slice.began) >= window * WINDOWS;
        while self.slices.get(1).is_some_and(is_past) {
            self.slices.pop_front();
        }
    }

    /// Whether the slice had ended before these tries, which came since `began`.
    fn ends(&self, new: FailureShare, began: Instant, step: Duration) -> bool {
        let Some(slice) = self.slices.back() else { return true };
        let is_over = began.saturating_duration_since(slice.began) >= step;
        is_over || self.slices.len() < MOST && have_turned(slice.all, new)
    }

    /// What a server did is not to be looked at any more.
    pub(super) fn forget(&mut self, server: u32) {
        self.slices.iter_mut().for_each(|slice| slice.forget(server));
    }

    /// A server's tries within the last so long, or a step more.
    pub(super) fn within(&self, server: u32, long: Duration, now: Instant) -> FailureShare {
        let mut has_all = false;
        let recent = self.slices.iter().rev().take_while(|slice| {
            let is_first = now.saturating_duration_since(slice.began) >= long;
            !std::mem::replace(&mut has_all, is_first)
        });
        recent.fold(FailureShare::default(), |sum, slice| sum.plus(slice.of(server)))
    }

    /// All tries of a server that are known of.
    pub(super) fn known(&self, server: u32) -> u64 {
        self.slices.iter().map(|slice| slice.of(server).of).sum()
    }

    /// What the others did while a server had its last so many tries: their share of failures in each slice counts as much as
    /// the server's tries there, and all together as much as they tell.
    pub(super) fn others_meanwhile(&self, server: u32, tries: u64) -> FailureShare {
        let mut left = tries;
        let (mut own, mut others) = (0, FailureShare::default());
        let mut standardized = Standardized::default();
        for slice in self.slices.iter().rev() {
            if left == 0 {
                break;
            }
            let mine = slice.of(server);
            let taken = mine.of.min(left);
            left -= taken;
            own += taken;
            others = others.plus(slice.all.minus(mine));
            // Where the others had none, those of the slice before tell.
            if others.of > 0 {
                standardized.add(own as f64, others.failed as f64, others.of as f64);
                (own, others) = (0, FailureShare::default());
            }
        }
        let Some((share, of)) = standardized.share() else { return FailureShare::default() };
        FailureShare { failed: (share * of).round() as u64, of: of.round() as u64 }
    }
}

/// Whether these tries fail more often, or less, than those before.
fn have_turned(before: FailureShare, since: FailureShare) -> bool {
    let bounds = |share: FailureShare| wilson::bounds(share.failed, share.of, Z_TURN);
    let ((low, high), (low_since, high_since)) = (bounds(before), bounds(since));
    low_since > high || high_since < low
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Looks, 250 ms apart, each with what came since the last one: failures of tries of server 1 and of server 2.
    fn slices(looks: &[[(u64, u64); 2]]) -> (Slices, Instant) {
        let (mut slices, began) = (Slices::default(), Instant::now());
        let mut totals = [1, 2].map(|id| (id, FailureShare::default()));
        slices.note(&totals, WINDOW, began);
        let mut now = began;
        for look in looks {
            now += Duration::from_millis(250);
            for ((_, total), (failed, of)) in totals.iter_mut().zip(look) {
                *total = total.plus(FailureShare { failed: *failed, of: *of });
            }
            slices.note(&totals, WINDOW, now);
        }
        (slices, now)
    }

    #[test]
    fn who_had_little_since_an_outage_is_held_against_the_outage() {
        let outage = [[(5, 5), (50, 50)]; 4];
        let since = [[(0, 0), (0, 100)]; 16];
        let (slices, now) = slices(&[&outage[..], &since[..]].concat());
        assert_eq!(slices.within(1, WINDOW, now), FailureShare { failed: 20, of: 20 });
        assert_eq!(slices.others_meanwhile(1, 20), FailureShare { failed: 200, of: 200 });
        let others = slices.others_meanwhile(2, 1_800);
        assert_eq!(others.failed, others.of, "of those that it had alone nobody tells: {others:?}");
    }

    #[test]
    fn a_slice_ends_where_failures_do() {
        let (slices, _) = slices(&[[(10, 10), (10, 10)], [(0, 0), (0, 200)], [(0, 0), (0, 200)]]);
        assert_eq!(slices.others_meanwhile(1, 10), FailureShare { failed: 10, of: 10 });
    }

    #[test]
    fn who_fails_alone_is_held_against_those_who_do_not() {
        let (slices, _) = slices(&[[(1, 1), (0, 3)]; 12]);
        assert_eq!(slices.others_meanwhile(1, 5), FailureShare { failed: 0, of: 18 });
    }

    #[test]
    fn a_window_is_that_long_or_a_step_more() {
        let (slices, now) = slices(&[[(0, 1), (0, 0)]; 400]);
        let within = |long| slices.within(1, Duration::from_secs(long), now).of;
        assert!(
            (40..=44).contains(&within(10)) && (4..=8).contains(&within(1)),
            "{} {}",
            within(10),
            within(1)
        );
        assert!((240..=244).contains(&slices.known(1)), "{}", slices.known(1));
    }

    #[test]
    fn what_is_forgotten_counts_no_more() {
        let (mut slices, now) = slices(&[[(1, 1), (0, 3)]; 12]);
        slices.forget(1);
        assert_eq!((slices.known(1), slices.within(1, WINDOW, now)), (0, FailureShare::default()));
        assert_eq!(slices.others_meanwhile(2, 36), FailureShare::default());
    }
}
