//! How old a response is, and how old it may get (RFC 9111 section 4.2).

use super::date::{self, Moment};
use super::directives::{self, Directives, MOST_SECONDS};
use super::targeted;
use crate::config::plan::cache::CachePlan;
use crate::fields::Fields;
use http::header;

/// The longest time that is guessed (RFC 9111 section 4.2.2 says it is to be looked at).
const MOST_GUESSED: u64 = 24 * 3600;

/// What a response says to this cache, and by which field.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheControl {
    pub(crate) directives: Directives,
    /// By a targeted field: what others are told does not count.
    pub(crate) is_targeted: bool,
}

impl CacheControl {
    pub(crate) fn of(plan: &CachePlan, fields: &impl Fields) -> Self {
        let targeted = plan.targeted.iter().find_map(|name| targeted::parse(fields.all(name)));
        match targeted {
            Some(directives) => Self { directives, is_targeted: true },
            None => {
                Self { directives: Directives::parse(fields.all(&header::CACHE_CONTROL)), is_targeted: false }
            }
        }
    }

    /// Seconds for which the response says that it is fresh.
    pub(crate) fn said_lifetime(&self, fields: &impl Fields, received: Moment) -> Option<u64> {
        let Directives { s_maxage, max_age, .. } = self.directives;
        s_maxage.or(max_age).or_else(|| (!self.is_targeted).then(|| expires(fields, received)).flatten())
    }
}

/// Seconds from Date to Expires. One that cannot be read has passed, and so has one of two.
fn expires(fields: &impl Fields, received: Moment) -> Option<u64> {
    let mut lines = fields.all(&header::EXPIRES);
    let line = lines.next()?;
    let until = match lines.next() {
        None => date::parse(line),
        Some(_) => None,
    };
    Some(until.map_or(0, |until| until.since(date_of(fields).unwrap_or(received)) / 1000))
}

/// Seconds that are guessed from when the response has changed last.
pub(crate) fn guessed(plan: &CachePlan, fields: &impl Fields, received: Moment) -> Option<u64> {
    let share = plan.heuristic?;
    let changed = date::parse(fields.first(&header::LAST_MODIFIED)?)?;
    let since = date_of(fields).unwrap_or(received).since(changed) / 1000;
    Some((since.saturating_mul(u64::from(share.0)) / 100).min(MOST_GUESSED))
}

pub(crate) fn date_of(fields: &impl Fields) -> Option<Moment> {
    date::parse(fields.first(&header::DATE)?)
}

/// When a response was asked for and when its head came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchanged {
    pub(crate) asked: Moment,
    pub(crate) received: Moment,
}

/// How old a response was when it came, in milliseconds (section 4.2.3).
pub(crate) fn initial_age(fields: &impl Fields, exchanged: Exchanged) -> u64 {
    let Exchanged { asked, received } = exchanged;
    let apparent = date_of(fields).map_or(0, |date| received.since(date));
    // What comes within the same second has the same date, however that was rounded.
    let apparent = if apparent < 1000 { 0 } else { apparent };
    let corrected = age_of(fields).saturating_mul(1000) + received.since(asked);
    apparent.max(corrected)
}

/// What Age says: the first of its members counts, and one that is no number does not (section 5.1).
fn age_of(fields: &impl Fields) -> u64 {
    let first = fields.first(&header::AGE).and_then(|line| line.split(|byte| *byte == b',').next());
    first.map(<[u8]>::trim_ascii).and_then(directives::digits).unwrap_or(0).min(MOST_SECONDS)
}
