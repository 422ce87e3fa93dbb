//! Who may ask, and how often: access, rates, requests at once and bans, as they are written.

use super::Name;
use super::inheritable::Inheritable;
use crate::geo::{AllowDeny, Asn, Country};
use crate::limit::Rate;
use crate::networks::Networks;
use http::HeaderName;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What one place says of limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitsPlan {
    pub access: Inheritable<AccessPlan>,
    pub rate_limit: Inheritable<RateLimitsPlan>,
    pub concurrency: Inheritable<Owned<ConcurrencyPlan>>,
    pub ban: Inheritable<Owned<BanPlan>>,
}

impl LimitsPlan {
    /// What holds where this is said after `before`.
    #[must_use]
    pub(super) fn after(&self, before: &Self) -> Self {
        Self {
            access: self.access.after(&before.access),
            rate_limit: self.rate_limit.after(&before.rate_limit),
            concurrency: self.concurrency.after(&before.concurrency),
            ban: self.ban.after(&before.ban),
        }
    }

    /// Whether clients are counted one by one.
    pub fn is_by_client(&self) -> bool {
        self.rates_are_by_client() || self.concurrency_is_by_client() || self.ban.get().is_some()
    }

    pub fn rates_are_by_client(&self) -> bool {
        let rates = self.rate_limit.get().map_or(&[][..], |limits| &limits.part);
        rates.iter().any(|limit| limit.per.contains(&LimitPer::Client))
    }

    pub fn concurrency_is_by_client(&self) -> bool {
        self.concurrency.get().is_some_and(|limit| limit.part.per.contains(&LimitPer::Client))
    }
}

/// A part with where it is written, which makes it itself: all who inherit it share what it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned<T> {
    pub owner: LimitOwner,
    pub part: T,
}

/// Where a limit is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitOwner {
    Policy(Name),
    Rule(Name),
    /// A rule that is named by its place, and known again by what it matches.
    Unnamed {
        place: Name,
        matches: Arc<str>,
    },
}

impl Hash for LimitOwner {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Self::Policy(name) | Self::Rule(name) | Self::Unnamed { matches: name, .. } => name.hash(hasher),
        }
    }
}

impl LimitOwner {
    pub fn name(&self) -> &Name {
        match self {
            Self::Policy(name) | Self::Rule(name) | Self::Unnamed { place: name, .. } => name,
        }
    }
}

/// In the order in which they are written.
pub type RateLimitsPlan = Owned<Vec<RateLimitPlan>>;

/// One rate.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitPlan {
    /// What is counted apart. Never empty.
    pub per: Vec<LimitPer>,
    pub rate: Rate,
    /// `burst: null`: a second's worth.
    pub has_default_burst: bool,
    pub count: LimitCount,
    pub over: LimitOver,
    /// Clients that are not counted.
    pub except: Networks,
    /// Responses say how much is left.
    pub fields: bool,
}

/// What a limit counts apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitPer {
    Client,
    Route,
    Header(HeaderName),
    Cookie(String),
    Query(String),
}

/// Which requests cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitCount {
    All,
    /// Those that are answered with such a status.
    Statuses(Vec<RangeInclusive<u16>>),
}

/// What becomes of a request that is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOver {
    Reject,
    /// It is told of, and passes.
    Log,
    /// It is held back for no longer than this.
    Delay(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrencyPlan {
    pub per: Vec<LimitPer>,
    pub requests: NonZeroU32,
    /// Connections that have switched to another protocol count as well.
    pub tunnels: bool,
}

/// Who may ask at all. Whoever is denied by any list is; where there is any list of those who may, one of them has to have a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessPlan {
    pub allow: Networks,
    pub deny: Networks,
    pub countries: AllowDeny<Country>,
    pub asns: AllowDeny<Asn>,
    pub answer: AccessAnswer,
}

/// What those get who may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessAnswer {
    Status(u16),
    /// Nothing: the connection ends.
    Close,
    /// The same as a status of 403, so much later.
    Tarpit(Duration),
}

impl Default for AccessAnswer {
    fn default() -> Self {
        Self::Status(403)
    }
}

/// Who is banned, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct BanPlan {
    /// How many such responses in how much time.
    pub after: Rate,
    pub statuses: Vec<RangeInclusive<u16>>,
    pub lasts: Duration,
    pub except: Networks,
}
