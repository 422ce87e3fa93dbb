//! When a certificate is ordered: the first time, again before it expires, and again after a failure.
//!
//! Times are seconds since 1970, as certificates have them. Every node comes to the same renewal time, for chance is
//! taken from the certificate; which of them orders is for the lock to say.

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub since: i64,
    pub until: i64,
}

/// What went wrong, by how soon it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderFault {
    /// The authority said no, or could not see that the name is ours. It counts failures: Let's Encrypt allows five an
    /// hour for a name.
    Refused,
    /// The authority cannot be reached or is not itself; nobody counts.
    Away,
    /// Something here, the storage for one.
    Own,
}

impl OrderFault {
    /// As metrics, the log and the storage have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Away => "away",
            Self::Own => "own",
        }
    }

    fn waits(self) -> RetryWaits {
        match self {
            // The first hour has five tries: at 0, 5, 15 and 35 minutes, and not before the second hour again.
            Self::Refused => RetryWaits { first: 300, longest: 6 * 3600 },
            Self::Away => RetryWaits { first: 2, longest: 300 },
            Self::Own => RetryWaits { first: 10, longest: 300 },
        }
    }
}

/// The wait after the first failure and the longest, in seconds.
struct RetryWaits {
    first: i64,
    longest: i64,
}

/// What is next for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Order now.
    Order,
    /// Nothing until then.
    WaitUntil(i64),
}

/// What is next, with this certificate at hand, and after failures none of which is to be followed before `retry_at`.
pub fn step(certificate: Option<Validity>, retry_at: Option<i64>, entropy: u64, now: i64) -> NextStep {
    let due = certificate.map_or(now, |certificate| renew_at(certificate, entropy));
    match due.max(retry_at.unwrap_or(due)) {
        at if at <= now => NextStep::Order,
        at => NextStep::WaitUntil(at),
    }
}

/// When two thirds of the time have passed, or up to a twentieth of it earlier: certificates that came together are not
/// renewed together.
pub fn renew_at(certificate: Validity, entropy: u64) -> i64 {
    let lifetime = certificate.until.saturating_sub(certificate.since).max(0);
    let jitter = part_of(lifetime / 20, entropy);
    certificate.since.saturating_add(lifetime / 3 * 2 + lifetime % 3 * 2 / 3).saturating_sub(jitter)
}

/// When to try again after so many failures in a row, the last being `fault`: twice as late each time, up to a
/// quarter later by chance, and not before the authority wants it.
pub fn retry_at(fault: OrderFault, failures: u32, wanted: Option<i64>, entropy: u64, now: i64) -> i64 {
    let RetryWaits { first, longest } = fault.waits();
    let wait = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    let at = now.saturating_add(wait + part_of(wait / 4, entropy));
    // A month is longer than any limit's; more is a mistake of somebody's.
    let wanted = wanted.map_or(at, |wanted| wanted.min(now.saturating_add(31 * 86_400)));
    at.max(wanted)
}

/// A number from 0 to `most`.
fn part_of(most: i64, entropy: u64) -> i64 {
    let most = u64::try_from(most).unwrap_or(0);
    i64::try_from((u128::from(entropy) * (u128::from(most) + 1)) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn ninety_days() -> Validity {
        Validity { since: 1000 * DAY, until: 1090 * DAY }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time_or_a_little_earlier() {
        for (entropy, day) in [(0, 1060.0), (u64::MAX, 1055.5), (u64::MAX / 2, 1057.75)] {
            let at = renew_at(ninety_days(), entropy);
            assert!((at as f64 / DAY as f64 - day).abs() < 0.01, "{at}");
        }
        let short = |until| renew_at(Validity { since: 0, until }, 0);
        assert_eq!((short(0), short(1), short(2), short(3), short(10), short(-5)), (0, 0, 1, 2, 6, 0));
        // What no certificate says, but a broken one may.
        let odd = Validity { since: i64::MIN, until: i64::MAX };
        assert!(renew_at(odd, 7) < i64::MAX);
    }

    #[test]
    fn what_is_missing_or_due_is_ordered_unless_a_failure_holds_it_back() {
        let (fresh, now) = (Some(ninety_days()), 1001 * DAY);
        for (certificate, retry_at, now, expected) in [
            (None, None, now, NextStep::Order),
            (None, Some(now + 5), now, NextStep::WaitUntil(now + 5)),
            (None, Some(now), now, NextStep::Order),
            (fresh, None, now, NextStep::WaitUntil(1060 * DAY)),
            (fresh, Some(now + 5), now, NextStep::WaitUntil(1060 * DAY)),
            (fresh, None, 1060 * DAY, NextStep::Order),
            (fresh, Some(1061 * DAY), 1060 * DAY, NextStep::WaitUntil(1061 * DAY)),
            (fresh, None, 2000 * DAY, NextStep::Order),
        ] {
            assert_eq!(step(certificate, retry_at, 0, now), expected, "{certificate:?} {retry_at:?} {now}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound_that_depends_on_who_counts() {
        let waits =
            |fault| (1..=12).map(|failures| retry_at(fault, failures, None, 0, 0)).collect::<Vec<_>>();
        assert_eq!(
            waits(OrderFault::Refused),
            [300, 600, 1200, 2400, 4800, 9600, 19_200, 21_600, 21_600, 21_600, 21_600, 21_600]
        );
        assert_eq!(waits(OrderFault::Away), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(waits(OrderFault::Own)[..6], [10, 20, 40, 80, 160, 300]);
        assert_eq!(
            retry_at(OrderFault::Refused, u32::MAX, None, u64::MAX, 0),
            21_600 + 5400,
            "a quarter later"
        );
        let in_an_hour: Vec<_> = waits(OrderFault::Refused)
            .into_iter()
            .scan(0, |at, wait| {
                *at += wait;
                Some(*at)
            })
            .filter(|at| *at < 3600)
            .collect();
        assert_eq!(in_an_hour, [300, 900, 2100], "with the first that is four, and five are allowed");
    }

    #[test]
    fn the_authority_may_want_more_time_and_never_less() {
        let at = |wanted| retry_at(OrderFault::Refused, 1, Some(wanted), 0, 1000);
        assert_eq!((at(0), at(1300), at(5000), at(i64::MAX)), (1300, 1300, 5000, 1000 + 31 * DAY));
    }
}
