//! What a node is still to be told, gathered into as few requests as it takes, and when one that fails is asked again.

use crate::api::cache::PurgeWish;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Bytes of names that are remembered for a node; with more it is told that all is purged.
const MOST: usize = 1 << 20;

/// How long after the first failure a node is asked again, and how long at most after others.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What a node has not confirmed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    soft: Names,
    hard: Names,
}

/// What is to be purged one way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    urls: BTreeSet<String>,
    tags: BTreeSet<String>,
    prefixes: BTreeSet<String>,
    bytes: usize,
}

impl Backlog {
    /// Adds a wish. What is purged twice is told once, and what all is purged of is not told by name.
    pub(crate) fn add(&mut self, wish: &PurgeWish) {
        if self.hard.all {
            return;
        }
        let names = if wish.hard { &mut self.hard } else { &mut self.soft };
        names.add(wish);
        if self.hard.all {
            self.soft = Names::default();
        }
    }

    /// Takes everything, as wishes to be sent: one of each way, that say that they go no further.
    pub(crate) fn take(&mut self) -> Vec<PurgeWish> {
        let Self { soft, hard } = std::mem::take(self);
        [(hard, true), (soft, false)].into_iter().filter_map(|(names, hard)| names.wish(hard)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// URLs, tags and prefixes, and one for all.
    pub(crate) fn count(&self) -> usize {
        self.soft.count() + self.hard.count()
    }
}

impl Names {
    fn add(&mut self, wish: &PurgeWish) {
        self.all |= wish.all;
        let kinds = [
            (&mut self.urls, &wish.urls),
            (&mut self.tags, &wish.tags),
            (&mut self.prefixes, &wish.prefixes),
        ];
        for (known, wished) in kinds {
            for name in wished {
                if self.all || self.bytes > MOST {
                    break;
                }
                if !known.contains(name) {
                    self.bytes += name.len();
                    known.insert(name.clone());
                }
            }
        }
        if self.all || self.bytes > MOST {
            *self = Self { all: true, ..Self::default() };
        }
    }

    fn count(&self) -> usize {
        self.urls.len() + self.tags.len() + self.prefixes.len() + usize::from(self.all)
    }

    fn wish(self, hard: bool) -> Option<PurgeWish> {
        let has_any = self.count() > 0;
        let Self { all, urls, tags, prefixes, bytes: _ } = self;
        let list = |names: BTreeSet<String>| names.into_iter().collect();
        let (urls, tags, prefixes) = (list(urls), list(tags), list(prefixes));
        has_any.then_some(PurgeWish { urls, tags, prefixes, all, hard, passed_on: true })
    }
}

/// How often a node is asked while purges go on coming: 100 times at once and then 100 times a second, which several nodes together
/// may do at the one whose admin address takes 200 requests a second. What comes meanwhile goes along with the next.
#[derive(Debug)]
pub(crate) struct Pace {
    /// By how much requests are ahead of what they may be in the long run.
    ahead: Duration,
    at: Instant,
}

impl Pace {
    const EVERY: Duration = Duration::from_millis(10);
    const AT_ONCE: u32 = 100;

    pub(crate) fn new(now: Instant) -> Self {
        Self { ahead: Duration::ZERO, at: now }
    }

    /// How long the next request waits, which counts from now on.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.ahead = self.ahead.saturating_sub(now.saturating_duration_since(self.at)) + Self::EVERY;
        self.at = now;
        self.ahead.saturating_sub(Self::EVERY * Self::AT_ONCE)
    }
}

/// How long a node is left alone that has failed so many times in a row: doubled each time up to a bound, and off by up to a fifth
/// (`entropy`), so that nodes do not ask one that comes back all at once.
pub(crate) fn retry_after(failures: u32, entropy: u64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8));
    let percent = 80 + u32::try_from(entropy % 41).unwrap_or(0);
    doubled.min(LAST_RETRY) * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hard tags=a,b`, `all`.
    fn wish(text: &str) -> PurgeWish {
        let mut wish = PurgeWish::default();
        for word in text.split(' ') {
            let (key, names) = word.split_once('=').unwrap_or((word, ""));
            let names: Vec<_> = names.split(',').map(str::to_owned).collect();
            match key {
                "hard" => wish.hard = true,
                "all" => wish.all = true,
                "urls" => wish.urls = names,
                "tags" => wish.tags = names,
                "prefixes" => wish.prefixes = names,
                "passed_on" => wish.passed_on = true,
                other => panic!("{other}"),
            }
        }
        wish
    }

    /// What a node is told of these wishes.
    #[track_caller]
    fn check(wishes: &[&str], told: &[&str]) {
        let mut backlog = Backlog::default();
        wishes.iter().for_each(|text| backlog.add(&wish(text)));
        let expected: Vec<_> = told.iter().map(|text| wish(&format!("{text} passed_on"))).collect();
        assert_eq!(backlog.is_empty(), told.is_empty());
        assert_eq!(backlog.take(), expected, "{wishes:?}");
        assert!(backlog.is_empty(), "it is taken");
    }

    #[test]
    fn wishes_are_gathered_by_their_way() {
        check(&[], &[]);
        check(&["tags=a"], &["tags=a"]);
        check(&["tags=b,a", "tags=a,c urls=u", "prefixes=p"], &["urls=u tags=a,b,c prefixes=p"]);
        check(&["tags=a", "hard tags=a,b", "urls=u"], &["hard tags=a,b", "tags=a urls=u"]);
        check(&["tags=a", "all", "tags=b urls=u"], &["all"]);
        check(&["hard tags=a", "all"], &["hard tags=a", "all"]);
        check(&["tags=a", "hard tags=b", "hard all", "tags=c", "hard urls=u"], &["hard all"]);
        // Put back after a failure, it is what it was.
        check(&["passed_on hard tags=a", "tags=b passed_on"], &["hard tags=a", "tags=b"]);
    }

    #[test]
    fn more_than_can_be_remembered_is_all() {
        let mut backlog = Backlog::default();
        let long = |n: usize| PurgeWish { tags: vec![format!("{n:0>1024}")], ..PurgeWish::default() };
        (0..1024).for_each(|n| backlog.add(&long(n)));
        assert_eq!((backlog.count(), backlog.soft.all), (1024, false));
        backlog.add(&long(0));
        assert_eq!(backlog.count(), 1024, "known already");
        backlog.add(&wish("hard tags=a"));
        backlog.add(&long(1024));
        assert_eq!(backlog.take(), [wish("hard tags=a passed_on"), wish("all passed_on")]);
        // One wish that is too long by itself.
        backlog.add(&PurgeWish { tags: vec!["x".repeat(MOST + 1), "y".to_owned()], ..PurgeWish::default() });
        assert_eq!(backlog.take(), [wish("all passed_on")]);
    }

    #[test]
    fn a_storm_of_purges_is_told_a_hundred_times_a_second() {
        let begin = Instant::now();
        let (mut pace, mut now) = (Pace::new(begin), begin);
        let mut ask = |times: u32, later: u64| {
            now += Duration::from_secs(later);
            let before = now;
            (0..times).for_each(|_| now += pace.wait(now));
            (now - before).as_millis()
        };
        assert_eq!([ask(100, 0), ask(200, 0), ask(50, 0)], [0, 2000, 500]);
        assert_eq!([ask(100, 2), ask(1, 0)], [0, 10], "it is rested");
    }

    #[test]
    fn who_fails_is_asked_less_and_less_often_up_to_a_bound() {
        let ms = |failures, entropy| retry_after(failures, entropy).as_millis();
        assert_eq!(
            [1, 2, 3, 4, 5, 1000].map(|failures| ms(failures, 20)),
            [1000, 2000, 4000, 8000, 10_000, 10_000]
        );
        assert_eq!([0, 40, 41].map(|entropy| ms(1, entropy)), [800, 1200, 800]);
        assert_eq!(ms(u32::MAX, 40), 12_000);
    }
}
