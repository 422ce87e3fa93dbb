//! The limits of a policy, ready for requests: who may ask at all, how often, and how much at once.

use crate::config::plan::Name;
use crate::config::plan::limits::{
    AccessPlan, BanPlan, ConcurrencyPlan, LimitOver, LimitOwner, LimitPer, LimitsPlan, Owned, RateLimitPlan,
};
use crate::cookie;
use crate::geo::Location;
use crate::limit::{ClientPrefix, KeyHasher, LimitSecret, RateVerdict, seconds_up};
use crate::select::key;
use crate::wire::request::RequestView;
use http::header;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// What a policy has of limits.
#[derive(Debug)]
pub struct Limits {
    pub(crate) access: Option<Arc<AccessPlan>>,
    pub rates: Box<[RateLimit]>,
    pub concurrency: Option<ConcurrencyLimit>,
    pub ban: Option<BanRule>,
}

/// A rate with what it is known by.
#[derive(Debug)]
pub struct RateLimit {
    pub id: LimitId,
    pub plan: RateLimitPlan,
}

#[derive(Debug)]
pub struct ConcurrencyLimit {
    pub id: LimitId,
    pub plan: ConcurrencyPlan,
}

#[derive(Debug)]
pub struct BanRule {
    pub id: LimitId,
    pub plan: BanPlan,
}

/// What makes a limit itself: where it is written, and what it counts how. As long as these stay, debts outlive reloads.
#[derive(Clone, Debug)]
pub struct LimitId {
    /// For people: `shop[1]`.
    pub name: Name,
    pub number: u64,
}

impl LimitId {
    pub(super) fn new(owner: &LimitOwner, what: &str, place: usize, counts: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (owner, what, place, counts).hash(&mut hasher);
        let owner = owner.name();
        let name = match what {
            "rate" => format!("{owner}[{}]", place + 1),
            what => format!("{owner}.{what}"),
        };
        Self { name: name.into(), number: hasher.finish() }
    }
}

/// Whose request it is, as far as limits count apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitSubject<'a> {
    pub(crate) client: Option<IpAddr>,
    pub(crate) prefix: ClientPrefix,
    pub(crate) route: &'a str,
    pub(crate) request: &'a RequestView<'a>,
}

impl LimitSubject<'_> {
    pub(crate) fn key(&self, secret: &LimitSecret, id: &LimitId, per: &[LimitPer]) -> u64 {
        let fields = self.request.fields;
        let start = KeyHasher::new(secret, id.number);
        let add = |key: KeyHasher, per: &LimitPer| match per {
            LimitPer::Client => key.client(self.client, self.prefix),
            LimitPer::Route => key.text(Some(self.route.as_bytes())),
            LimitPer::Header(name) => key.text(fields.first(name)),
            LimitPer::Cookie(name) => key.text(cookie::values(fields.all(&header::COOKIE), name).next()),
            LimitPer::Query(name) => key.text(key::query(self.request.query, name)),
        };
        per.iter().fold(start, add).finish()
    }
}

impl Limits {
    /// The limits that are said; `None` if none are.
    pub(super) fn of(said: &LimitsPlan) -> Option<Self> {
        let rates = said.rate_limit.get().map(rates).unwrap_or_default();
        let concurrency = said.concurrency.get().map(|Owned { owner, part }| ConcurrencyLimit {
            id: LimitId::new(owner, "concurrency", 0, &part.per),
            plan: part.clone(),
        });
        let ban = said.ban.get().map(|Owned { owner, part }| BanRule {
            id: LimitId::new(owner, "ban", 0, (part.after.interval(), &part.statuses)),
            plan: part.clone(),
        });
        let access = said.access.shared();
        let is_any = access.is_some() || !rates.is_empty() || concurrency.is_some() || ban.is_some();
        is_any.then_some(Self { access, rates, concurrency, ban })
    }
}

fn rates(Owned { owner, part }: &Owned<Vec<RateLimitPlan>>) -> Box<[RateLimit]> {
    let one = |(place, plan): (usize, &RateLimitPlan)| RateLimit {
        id: LimitId::new(owner, "rate", place, (&plan.per, plan.rate.interval())),
        plan: plan.clone(),
    };
    part.iter().enumerate().map(one).collect()
}

/// Why somebody may not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessDenied {
    /// Not among those who may.
    Allow,
    /// Among those who may not.
    Deny,
    /// By the country, or the autonomous system, that it is in.
    Country,
    Asn,
}

impl AccessDenied {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Country => "country",
            Self::Asn => "asn",
        }
    }
}

/// Why this client may not ask, if it may not. Who comes by a unix socket is on this machine, where only the operator can connect.
/// Where a client is nowhere, no list has it.
pub(crate) fn denied(
    access: &AccessPlan,
    client: Option<IpAddr>,
    location: Location,
) -> Option<AccessDenied> {
    fn has<T: PartialEq>(list: &[T], location: Option<T>) -> bool {
        location.is_some_and(|location| list.contains(&location))
    }
    let client = client?;
    let AccessPlan { allow, deny, countries, asns, .. } = access;
    if deny.contains(client) {
        Some(AccessDenied::Deny)
    } else if has(&countries.deny, location.country) {
        Some(AccessDenied::Country)
    } else if has(&asns.deny, location.asn) {
        Some(AccessDenied::Asn)
    } else {
        let is_let_in = allow.contains(client)
            || has(&countries.allow, location.country)
            || has(&asns.allow, location.asn);
        let is_open = allow.is_empty() && countries.allow.is_empty() && asns.allow.is_empty();
        match is_let_in || is_open {
            true => None,
            false if !allow.is_empty() => Some(AccessDenied::Allow),
            false if !countries.allow.is_empty() => Some(AccessDenied::Country),
            false => Some(AccessDenied::Asn),
        }
    }
}

/// What responses say of limits (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Debug, Default)]
pub(crate) struct RateLimitFields {
    pub(crate) policy: String,
    pub(crate) left: String,
}

impl RateLimitFields {
    pub(crate) fn add(&mut self, limit: &RateLimit, verdict: &RateVerdict) {
        let (left, reset) = match verdict {
            RateVerdict::Passes { left, reset, .. } => (*left, *reset),
            RateVerdict::Over { retry_after } => (0, *retry_after),
        };
        if !self.policy.is_empty() {
            self.policy.push_str(", ");
            self.left.push_str(", ");
        }
        let (name, rate) = (&limit.id.name, limit.plan.rate);
        // A burst of more than the rate's own requests is a quota, too, for as long as it takes to have it again.
        let (quota, window) = match rate.burst > rate.requests {
            true => {
                (rate.burst, rate.per.mul_f64(f64::from(rate.burst.get()) / f64::from(rate.requests.get())))
            }
            false => (rate.requests, rate.per),
        };
        let _ = write!(self.policy, "\"{name}\";q={quota};w={}", seconds_up(window));
        let _ = write!(self.left, "\"{name}\";r={left};t={}", seconds_up(reset));
    }
}

impl RateLimit {
    /// Whether it only tells.
    pub(crate) fn is_dry(&self) -> bool {
        self.plan.over == LimitOver::Log
    }
}

/// What a limit tells apart: `client and value of x-api-key`.
pub(crate) fn counted_by(per: &[LimitPer]) -> String {
    let one = |per: &LimitPer| match per {
        LimitPer::Client => "client".to_owned(),
        LimitPer::Route => "route".to_owned(),
        LimitPer::Header(name) => format!("value of {name}"),
        LimitPer::Cookie(name) => format!("cookie {name}"),
        LimitPer::Query(name) => format!("value of ?{name}="),
    };
    per.iter().map(one).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::AllowDeny;

    #[test]
    fn what_is_said_to_be_left_is_part_of_the_quota() {
        use crate::config::plan::limits::LimitCount;
        use crate::limit::Rate;
        use std::num::NonZeroU32;
        use std::time::Duration;
        let count = |n| NonZeroU32::new(n).expect("not 0");
        let limit = |burst: Option<u32>| RateLimit {
            id: LimitId { name: "shop[1]".into(), number: 1 },
            plan: RateLimitPlan {
                rate: Rate::new(count(5), Duration::from_secs(60), burst.map(count)),
                per: vec![LimitPer::Client],
                has_default_burst: burst.is_none(),
                count: LimitCount::All,
                over: LimitOver::Reject,
                fields: true,
                except: crate::networks::Networks::default(),
            },
        };
        for (burst, left, quota) in
            [(None, 0, "q=5;w=60"), (Some(5), 4, "q=5;w=60"), (Some(10), 9, "q=10;w=120")]
        {
            let mut fields = RateLimitFields::default();
            let passes = RateVerdict::Passes { wait: Duration::ZERO, left, reset: Duration::from_secs(12) };
            fields.add(&limit(burst), &passes);
            assert_eq!(fields.policy, format!("\"shop[1]\";{quota}"));
            assert_eq!(fields.left, format!("\"shop[1]\";r={left};t=12"));
        }
    }

    #[test]
    fn who_is_denied_is_so_whoever_else_may() {
        let list = |networks: &[&str]| networks.iter().map(|network| network.parse().unwrap()).collect();
        for (allow, deny, client, reason) in [
            (&[][..], &[][..], "192.0.2.1", None),
            (&["10.0.0.0/8"], &[], "10.1.1.1", None),
            (&["10.0.0.0/8"], &[], "192.0.2.1", Some(AccessDenied::Allow)),
            (&[], &["192.0.2.0/24"], "192.0.2.1", Some(AccessDenied::Deny)),
            (&[], &["192.0.2.0/24"], "10.1.1.1", None),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.1.1", Some(AccessDenied::Deny)),
        ] {
            let access = AccessPlan { allow: list(allow), deny: list(deny), ..AccessPlan::default() };
            let client = client.parse().ok();
            assert_eq!(
                denied(&access, client, Location::default()),
                reason,
                "{client:?} of {allow:?} {deny:?}"
            );
            assert_eq!(denied(&access, None, Location::default()), None);
        }
    }

    #[test]
    fn who_is_nowhere_is_in_no_list_of_places() {
        use AccessDenied::{Allow, Asn, Country};
        let countries = |codes: &str| codes.split_whitespace().map(|code| code.parse().unwrap()).collect();
        let asns = |numbers: &[u32]| numbers.iter().map(|number| crate::geo::Asn(*number)).collect();
        let location = |country: &str, asn: u32| Location {
            country: country.parse().ok(),
            asn: (asn > 0).then_some(crate::geo::Asn(asn)),
        };
        let none: &[u32] = &[];
        for (allow, (let_in, kept_out), (asns_in, asns_out), at, reason) in [
            ("", ("DE AT", ""), (none, none), location("AT", 0), None),
            ("", ("DE AT", ""), (none, none), location("FR", 0), Some(Country)),
            ("", ("DE AT", ""), (none, none), location("", 0), Some(Country)),
            ("", ("", "XX"), (none, none), location("", 0), None),
            ("", ("", "XX"), (none, none), location("XX", 0), Some(Country)),
            ("", ("XX", "XX"), (none, none), location("XX", 0), Some(Country)),
            ("", ("", ""), (none, &[7]), location("DE", 7), Some(Asn)),
            ("", ("", ""), (&[7], none), location("DE", 8), Some(Asn)),
            ("", ("DE", ""), (&[7], none), location("FR", 7), None),
            ("10.0.0.0/8", ("DE", ""), (none, none), location("DE", 0), None),
            ("192.0.2.0/24", ("DE", ""), (none, none), location("FR", 0), None),
            ("10.0.0.0/8", ("DE", ""), (none, none), location("FR", 0), Some(Allow)),
        ] {
            let access = AccessPlan {
                allow: allow.split_whitespace().map(|network| network.parse().unwrap()).collect(),
                countries: AllowDeny { allow: countries(let_in), deny: countries(kept_out) },
                asns: AllowDeny { allow: asns(asns_in), deny: asns(asns_out) },
                ..AccessPlan::default()
            };
            let told = denied(&access, "192.0.2.1".parse().ok(), at);
            assert_eq!(told, reason, "{allow} {let_in}/{kept_out} {asns_in:?}/{asns_out:?} {at:?}");
        }
    }
}
