//! Whether a response may be kept, and on which terms (RFC 9111 sections 3 and 4.2).

use super::date::Moment;
use super::device::X_DEVICE;
use super::freshness::{CacheControl, Exchanged, guessed, initial_age};
use super::vary::{Vary, vary_of};
use crate::config::plan::cache::CachePlan;
use crate::fields::Fields;
use http::header;

/// On which terms a response is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// When it came.
    pub(crate) received: Moment,
    /// How old it was then, in milliseconds.
    pub(crate) initial_age: u64,
    /// How old it may get, in milliseconds.
    pub(crate) lifetime: u64,
    /// It is never used without asking its server.
    pub(crate) is_always_validated: bool,
    /// How long it may be used beyond that while another is fetched, in milliseconds.
    pub(crate) stale_while_revalidate: u64,
    /// The same while its servers fail.
    pub(crate) stale_if_error: u64,
    /// It may be used beyond its time if a client says so.
    pub(crate) may_be_stale: bool,
    /// Those may have it, too, who say who they are.
    pub(crate) is_for_authorized: bool,
    pub(crate) vary: Vary,
    /// Fields that are not kept with it.
    pub(crate) without: Vec<String>,
}

#[cfg(test)]
impl Terms {
    /// Of a response that is fresh for so many seconds, and no more.
    pub(crate) fn for_tests(received: Moment, seconds: u64) -> Self {
        Self {
            received,
            initial_age: 0,
            lifetime: seconds * 1000,
            is_always_validated: false,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            may_be_stale: true,
            is_for_authorized: false,
            vary: Vary::default(),
            without: Vec::new(),
        }
    }
}

/// Whether a response's status is about the request alone, so that it says nothing of the resource (RFC 9110 section 15.5): that the
/// client has asked wrongly, for too much or too often. What is kept of the resource is no worse for it.
pub(crate) fn is_about_request(status: u16) -> bool {
    matches!(status, 400 | 405..=408 | 411..=414 | 416 | 417 | 421 | 425 | 426 | 428 | 429 | 431)
}

/// Why a response is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// Part of another (206), or no response to keep (304).
    Status,
    NotUnderstood,
    NoStore,
    Private,
    Authorization,
    VaryStar,
    SetCookie,
    /// It does not say for how long, and neither does the configuration.
    NoLifetime,
    /// Its time is over, and nothing could tell whether it is still good.
    Expired,
    /// Longer than `max_object`.
    TooLarge,
    /// Longer than an eighth of the memory, without a disk.
    TooLargeForMemory,
    /// Longer than a quarter of the disk.
    TooLargeForDisk,
    /// Too long for memory, and shorter than what the disk is for.
    TooSmallForDisk,
    /// Too long for memory, and good for too short a time to be written to a disk.
    TooBrief,
    /// Too long for memory, and the client wants a part of it.
    Ranged,
    /// Too long for memory, and the client has it already.
    Conditional,
    /// There was no room in memory for what is on its way.
    NoRoom,
    /// The disk is not in use, or has failed meanwhile.
    DiskOff,
    /// Too much waited to be written.
    DiskBehind,
    /// All that is there is being read.
    DiskFull,
    /// It was asked for too seldom.
    TooFewUses,
    /// The client has another page in its place.
    Intercepted,
}

impl NotStored {
    /// As logs and `explain` have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NotUnderstood => "must-understand",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary",
            Self::SetCookie => "set-cookie",
            Self::NoLifetime => "no lifetime",
            Self::Expired => "expired",
            Self::TooLarge => "max_object",
            Self::TooLargeForMemory | Self::NoRoom => "memory",
            Self::TooLargeForDisk => "disk.size",
            Self::TooSmallForDisk => "disk.min_object",
            Self::TooBrief => "brief",
            Self::Ranged => "range",
            Self::Conditional => "condition",
            Self::DiskOff => "disk",
            Self::DiskBehind => "disk behind",
            Self::DiskFull => "disk full",
            Self::TooFewUses => "min_uses",
            Self::Intercepted => "intercept",
        }
    }
}

impl NotStored {
    /// Whether the next response will hardly be another: not so if it was for the request, or for want of room.
    pub(crate) fn lasts(self) -> bool {
        let passes = matches!(self, Self::NoRoom | Self::DiskBehind | Self::DiskFull | Self::Intercepted);
        !passes && !matches!(self, Self::Authorization | Self::Status | Self::TooFewUses)
    }
}

/// What statuses mean that this cache knows (must-understand, RFC 9111 section 5.2.2.3).
fn is_understood(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 302 | 303 | 307 | 308 | 404 | 405 | 410 | 414 | 451 | 501)
}

/// Whether a response with this status may be kept for a guessed time (RFC 9110 section 15.1).
fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether the configuration's times are for such a status: those of failures have times of their own.
fn has_default(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308)
}

/// Judges a response to a GET request, which has said who its sender is or has not.
pub(crate) fn judge(
    plan: &CachePlan,
    is_authorized: bool,
    (status, fields): (u16, &impl Fields),
    exchanged: Exchanged,
) -> Result<Terms, NotStored> {
    // RFC 9111 section 3: final, and whole by itself. What answers one request's own parts or conditions is nobody else's.
    if status < 200 || matches!(status, 206 | 304 | 412 | 416) {
        return Err(NotStored::Status);
    }
    // Nor is what says that one has asked wrongly, for how others ask is in no key; but for what is about the URL and the method, which are.
    let is_named = || plan.ttl_by_status.iter().any(|(named, _)| *named == status);
    if is_about_request(status) && !matches!(status, 405 | 414) && !is_named() {
        return Err(NotStored::Status);
    }
    let control = CacheControl::of(plan, fields);
    let said = &control.directives;
    let forced = plan.force_ttl.filter(|_| has_default(status));
    if forced.is_none() {
        if said.must_understand && !is_understood(status) {
            return Err(NotStored::NotUnderstood);
        }
        if said.no_store && !said.must_understand {
            return Err(NotStored::NoStore);
        }
        if said.private {
            return Err(NotStored::Private);
        }
    }
    // Section 3.5.
    let is_for_authorized = said.public || said.must_revalidate || said.s_maxage.is_some();
    if is_authorized && !is_for_authorized {
        return Err(NotStored::Authorization);
    }
    let Some(mut vary) = vary_of(fields) else { return Err(NotStored::VaryStar) };
    if plan.key.device {
        // The key has it already.
        vary.0.retain(|name| name != X_DEVICE);
    }
    let without_cookies =
        plan.drop_set_cookie || said.without.iter().any(|name| name == header::SET_COOKIE.as_str());
    if fields.first(&header::SET_COOKIE).is_some() && !without_cookies {
        return Err(NotStored::SetCookie);
    }
    // Its key is the one that its client had before.
    if plan.key.cookies.iter().any(|name| fields.all(&header::SET_COOKIE).any(|field| sets(field, name))) {
        return Err(NotStored::SetCookie);
    }
    let lifetime = match forced {
        Some(forced) => millis(forced),
        None => lifetime(plan, &control, (status, fields), exchanged.received)?,
    };
    let mut without = said.without.clone();
    if plan.drop_set_cookie {
        without.push(header::SET_COOKIE.as_str().to_owned());
    }
    let is_always_validated = said.no_cache && forced.is_none();
    // Section 4.2.4: what these say stands above what the configuration would have.
    let is_strict = said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some() || said.no_cache;
    let may_be_stale = !is_strict || forced.is_some();
    let stale = |said: Option<u64>, own: std::time::Duration| match may_be_stale {
        true => said.map_or(millis(own), |seconds| seconds * 1000),
        false => 0,
    };
    let terms = Terms {
        received: exchanged.received,
        initial_age: initial_age(fields, exchanged),
        lifetime,
        is_always_validated,
        stale_while_revalidate: stale(said.stale_while_revalidate, plan.stale_while_revalidate),
        stale_if_error: stale(said.stale_if_error, plan.stale_if_error),
        may_be_stale,
        is_for_authorized,
        vary,
        without,
    };
    let has_validator =
        fields.first(&header::ETAG).is_some() || fields.first(&header::LAST_MODIFIED).is_some();
    let is_useful = has_validator
        || !is_always_validated
            && terms.initial_age < terms.lifetime + terms.stale_if_error.max(terms.stale_while_revalidate);
    if is_useful { Ok(terms) } else { Err(NotStored::Expired) }
}

/// How long a response is fresh, in milliseconds.
fn lifetime(
    plan: &CachePlan,
    control: &CacheControl,
    (status, fields): (u16, &impl Fields),
    received: Moment,
) -> Result<u64, NotStored> {
    if let Some(said) = control.said_lifetime(fields, received) {
        return Ok(said * 1000);
    }
    if control.directives.no_cache {
        return Ok(0);
    }
    let by_status =
        plan.ttl_by_status.iter().find(|(known, _)| *known == status).map(|(_, ttl)| millis(*ttl));
    let guessed = (is_heuristic(status) || control.directives.public)
        .then(|| guessed(plan, fields, received).map(|seconds| seconds * 1000))
        .flatten();
    let default = plan.ttl.filter(|_| has_default(status)).map(millis);
    by_status.or(guessed).or(default).ok_or(NotStored::NoLifetime)
}

fn sets(field: &[u8], name: &str) -> bool {
    crate::cookie::may_set(field, name)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
