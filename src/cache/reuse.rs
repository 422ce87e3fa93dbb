//! Whether a stored response may be used for a request at this moment (RFC 9111 section 4).

use super::date::Moment;
use super::directives::Directives;
use super::storing::Terms;

/// What a stored response is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Fresh,
    /// It may be used while another is fetched.
    StaleWhileRevalidate,
    /// Its server has to say whether it is still good.
    Validate,
}

impl Terms {
    /// How old the response is, in milliseconds.
    pub(crate) fn age(&self, now: Moment) -> u64 {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// What is left of its time, in whole seconds; less than nothing if it is over.
    pub(crate) fn left(&self, now: Moment) -> i64 {
        let (age, lifetime) = (i64::try_from(self.age(now)), i64::try_from(self.lifetime));
        (lifetime.unwrap_or(i64::MAX) - age.unwrap_or(i64::MAX)) / 1000
    }

    /// What it is good for, for a client that has said this or nothing.
    pub(crate) fn reuse(&self, client: Option<&Directives>, now: Moment) -> Reuse {
        let age = self.age(now);
        let wants =
            |wish: fn(&Directives) -> Option<u64>| client.and_then(wish).map(|seconds| seconds * 1000);
        let is_too_old = wants(|client| client.max_age).is_some_and(|most| most == 0 || age > most)
            || client.is_some_and(|client| client.no_cache);
        let least_left = wants(|client| client.min_fresh).unwrap_or(0);
        if self.is_always_validated || is_too_old {
            return Reuse::Validate;
        }
        // It has to be younger than its lifetime (section 4.2).
        if age.saturating_add(least_left) < self.lifetime {
            return Reuse::Fresh;
        }
        let beyond = age.saturating_sub(self.lifetime);
        if self.may_be_stale && wants(|client| client.max_stale).is_some_and(|most| beyond <= most) {
            return Reuse::Fresh;
        }
        // Who wants it fresh for longer is not given what is stale.
        let is_for_all = least_left == 0;
        match is_for_all && beyond < self.stale_while_revalidate {
            true => Reuse::StaleWhileRevalidate,
            false => Reuse::Validate,
        }
    }

    /// Whether it may be used as its servers fail.
    pub(crate) fn is_good_on_error(&self, now: Moment) -> bool {
        self.may_be_stale
            && self.age(now) < self.lifetime.saturating_add(self.stale_if_error)
            && self.stale_if_error > 0
    }
}
