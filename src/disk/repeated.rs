//! What may happen often, and is to be said all the same: the first time at once, and from then on as a sum each minute.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// How often it has happened since it was said.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    said: Option<Instant>,
    unsaid: u64,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saying {
    Now,
    /// At this time how often it has happened by then.
    Later(Instant),
    /// That was said before.
    Nothing,
}

impl Repeated {
    /// It has happened.
    pub(super) fn note(&mut self, now: Instant) -> Saying {
        match self.said.map(|said| said + EVERY).filter(|due| now < *due || self.unsaid > 0) {
            None => {
                self.said = Some(now);
                Saying::Now
            }
            Some(due) => {
                self.unsaid += 1;
                if self.unsaid == 1 { Saying::Later(due) } else { Saying::Nothing }
            }
        }
    }

    /// How often it has happened since; that is said now.
    pub(super) fn take(&mut self, now: Instant) -> u64 {
        self.said = Some(now);
        std::mem::take(&mut self.unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_as_a_sum_each_minute() {
        let (mut repeated, begun) = (Repeated::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(repeated.note(at(0)), Saying::Now);
        assert_eq!(repeated.note(at(10)), Saying::Later(at(60)));
        assert_eq!(repeated.note(at(20)), Saying::Nothing);
        // Who is to say it is late.
        assert_eq!(repeated.note(at(61)), Saying::Nothing);
        assert_eq!(repeated.take(at(62)), 3);
        assert_eq!(repeated.note(at(100)), Saying::Later(at(122)));
        assert_eq!(repeated.take(at(122)), 1);
        assert_eq!(repeated.note(at(182)), Saying::Now);
    }
}
