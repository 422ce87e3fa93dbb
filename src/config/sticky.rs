//! Sticky sessions: the cookie that binds a client to its server, and what is said of it.

use super::discover::host_name;
use super::field_name::cookie_name;
use super::place::At;
use super::plan::policy::{Canonical, Inheritable, NamedPolicy};
use super::plan::{
    AdminPlan, ListenerPlan, PoolPlan, Protocol, QueuePlan, RoutesPlan, SameSite, StickyMode, StickyPlan,
    TargetPlan,
};
use super::problem::{Fault, quoted};
use super::process::file_path;
use super::section::Section;
use super::tree::Scalar;
use crate::sticky::StickyKeys;
use crate::units::Address;
use std::time::Duration;

pub(super) const STICKY_MODES: [(&str, StickyMode); 2] =
    [(StickyMode::Insert.word(), StickyMode::Insert), (StickyMode::Suffix.word(), StickyMode::Suffix)];

pub(super) const SAME_SITES: [(&str, SameSite); 3] =
    [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];

/// What a cookie of ours says, which an application's says itself.
const OF_OUR_COOKIE: [&str; 4] = ["max_age", "same_site", "domain", "path"];

/// Reads `sticky` of a pool; `queue` is the pool's.
pub(super) fn sticky(section: &Section<'_>, queue: Option<&QueuePlan>) -> Option<StickyPlan> {
    let cookie = section.required("cookie", cookie_name);
    let plan = StickyPlan {
        cookie: cookie.as_deref().unwrap_or_default().into(),
        mode: section.choice("mode", &STICKY_MODES),
        wait: section.duration("wait"),
        max_age: section.nullable_duration("max_age"),
        max_life: section.nullable_duration("max_life"),
        key_file: section.nullable("key_file", file_path),
        same_site: section.choice("same_site", &SAME_SITES),
        domain: section.nullable("domain", domain),
        path: section.value("path", path),
        keys: StickyKeys::default(),
    };
    if plan.mode == StickyMode::Suffix {
        for at in OF_OUR_COOKIE.iter().filter_map(|name| section.get(name)).filter(|at| !at.is_null()) {
            at.warn(Fault::new(
                "is for a cookie of ours, and with `mode: suffix` the application's has its own",
                "remove it, or use `mode: insert`",
            ));
        }
    } else if plan.cookie.starts_with("__Host-") && (plan.domain.is_some() || plan.path != "/") {
        section.get("cookie").unwrap_or(section.at).refuse(Fault::new(
            "a cookie whose name begins with `__Host-` is refused by browsers if it has a domain, or another path than `/`",
            "remove `domain` and `path`, or choose another name",
        ));
    }
    if let (Some(max_age), Some(max_life)) = (plan.max_age, plan.max_life)
        && max_life > max_age
        && let Some(at) = section.get("max_life")
    {
        at.warn(Fault::new(
            format!("is never reached: browsers forget the cookie after {max_age:?} (`max_age`)"),
            "remove it, or make it shorter than `max_age`",
        ));
    }
    if let Some(at) = section.get("wait") {
        warn_of_wait(at, plan.wait, queue);
    }
    cookie.map(|_| plan)
}

fn warn_of_wait(at: At<'_>, wait: Duration, queue: Option<&QueuePlan>) {
    match queue {
        _ if wait.is_zero() => {}
        None => at.warn(Fault::new(
            "nobody waits here, for the pool has `queue: null`: a client whose server is full goes to another at once",
            "remove it, or give the pool a queue",
        )),
        Some(queue) if wait > queue.timeout => at.warn(Fault::new(
            format!("is longer than anybody waits: {:?} (`queue.timeout`)", queue.timeout),
            "shorten it, or lengthen `timeout` of the queue",
        )),
        Some(_) => {}
    }
}

/// RFC 6265 section 4.1.1: any characters but those that end it.
fn path(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = &*scalar.text;
    match text.starts_with('/') && text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b';') {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            format!("{} is not the path of a cookie", quoted(text)),
            "write `/`, or a path like `/shop`",
        )),
    }
}

fn domain(scalar: &Scalar<'_>) -> Result<String, Fault> {
    host_name(scalar).map(|host| host.to_string())
}

/// What only the whole file tells.
pub(super) fn check<'a>(
    pools: impl Iterator<Item = (&'a str, At<'a>)>,
    planned: &[PoolPlan],
    (listeners, routes, policies): (&[ListenerPlan], &[RoutesPlan], &[NamedPolicy]),
    admin: Option<&AdminPlan>,
) {
    let mut seen: Vec<(&PoolPlan, &StickyPlan)> = Vec::new();
    for (name, at) in pools {
        let Some(index) = planned.iter().position(|pool| *pool.name == *name) else { continue };
        let pool = &planned[index];
        let (Some(sticky), Some(at)) = (&pool.sticky, at.below("sticky")) else { continue };
        let served = served_by(planned, index);
        let leading = |keeps_clear: bool| {
            let ways = Ways { routes, policies, keeps_clear };
            let http = listeners.iter().filter(|listener| listener.protocol == Protocol::Http);
            http.filter(|listener| served.iter().any(|pool| ways.lead(listener, *pool))).collect::<Vec<_>>()
        };
        if sticky.mode == StickyMode::Insert {
            let is_clear = |listener: &&ListenerPlan| listener.tls.is_none() && !has_secure_proxies(listener);
            match leading(true).into_iter().find(is_clear) {
                _ if leading(false).iter().all(is_clear) => say_unsecured(&at, sticky, None),
                Some(listener) => say_unsecured(&at, sticky, Some(listener)),
                None => {}
            }
        }
        if let Some((other, _)) = seen.iter().find(|(_, other)| meet(other, sticky)) {
            at.warn(Fault::new(
                format!(
                    "the pool {} has the same cookie: clients that use both lose their servers each time",
                    quoted(&other.name)
                ),
                "give each a cookie with a name of its own",
            ));
        }
        if sticky.key_file.is_none() && admin.is_some_and(|admin| admin.state_file.is_none()) {
            at.warn(Fault::new(
                "clients lose their servers with each restart: the key is in no file",
                "add `key_file`, or give `admin` a `state_file`",
            ));
        }
        seen.push((pool, sticky));
    }
}

/// What browsers take over TLS only: refused if clients of all listeners come in clear, warned of if those of this one do.
fn say_unsecured(at: &At<'_>, sticky: &StickyPlan, clear: Option<&ListenerPlan>) {
    let say = |key: &str, what: &str| {
        let what = format!("browsers refuse a cookie {what} without TLS");
        let at = at.below(key).unwrap_or(*at);
        match clear {
            None => at.refuse_key(Fault::new(
                format!("{what}, and no listener of this pool has any"),
                "give a listener that leads here `tls`, or `trusted_proxies` that end TLS before it",
            )),
            Some(listener) => at.warn(Fault::new(
                format!(
                    "{what}, and the listener {} leads here without: who comes by it keeps no server",
                    quoted(&listener.name)
                ),
                "send its clients to `https`, by `redirect_to_https` or `canonical: { https: true }`, or give it `tls`",
            )),
        }
    };
    if sticky.same_site == SameSite::None {
        say("same_site", "with `same_site: none`");
    }
    if sticky.cookie.starts_with("__Host-") || sticky.cookie.starts_with("__Secure-") {
        say("cookie", "of such a name");
    }
}

/// Whether those who connect may be proxies that end TLS; over a unix socket they are taken at their word.
fn has_secure_proxies(listener: &ListenerPlan) -> bool {
    !listener.trusted_proxies.is_empty()
        || listener.addresses.iter().all(|address| matches!(address, Address::Unix(_)))
}

/// The pool at this place, and all others in whose place it serves.
fn served_by(pools: &[PoolPlan], index: usize) -> Vec<usize> {
    let mut found = vec![index];
    let mut reached = 0;
    while let Some(&pool) = found.get(reached) {
        let leads = |other: &PoolPlan| other.fallback.as_ref() == Some(&pools[pool].name);
        let others: Vec<_> =
            (0..pools.len()).filter(|other| leads(&pools[*other]) && !found.contains(other)).collect();
        found.extend(others);
        reached += 1;
    }
    found
}

/// How requests come from listeners to pools.
#[derive(Clone, Copy)]
struct Ways<'a> {
    routes: &'a [RoutesPlan],
    policies: &'a [NamedPolicy],
    /// Only those on which who comes in clear is not sent to `https` first.
    keeps_clear: bool,
}

impl Ways<'_> {
    fn lead(&self, listener: &ListenerPlan, pool: usize) -> bool {
        let policy = |place: Option<usize>| place.map(|place| &self.policies[place].policy.canonical);
        let passes = |policies: &[Option<&Inheritable<Canonical>>]| {
            let said = policies.iter().flatten().copied().cloned().reduce(|before, own| own.after(&before));
            !self.keeps_clear
                || !said.as_ref().and_then(Inheritable::get).is_some_and(|canonical| canonical.https)
        };
        match listener.target {
            TargetPlan::Pool(target) => target == pool && passes(&[policy(listener.policy)]),
            TargetPlan::Routes(list) => self.routes.get(list).is_some_and(|routes| {
                routes.rules.iter().any(|rule| {
                    let said =
                        [policy(listener.policy), policy(rule.policy), Some(&rule.own_policy.canonical)];
                    rule.pool() == Some(pool) && passes(&said)
                })
            }),
            TargetPlan::RedirectToHttps => false,
        }
    }
}

/// Whether browsers take one for the other (RFC 6265 section 5.3). Of several that they send each pool knows its own.
fn meet(one: &StickyPlan, other: &StickyPlan) -> bool {
    one.mode == StickyMode::Insert
        && other.mode == StickyMode::Insert
        && (&one.cookie, &one.domain, &one.path) == (&other.cookie, &other.domain, &other.path)
}
