//! What a stored response is good for at this moment: by its own terms, by what has changed behind it, and by what was purged.

use super::Store;
use super::purges::Purged;
use super::stored::StoredResponse;
use crate::cache::{Directives, Moment, Reuse};

/// What it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Fresh,
    /// It may be used while another is fetched.
    StaleWhileRevalidate,
    Stale,
    /// It would do, and the client wants another.
    ClientAsks,
    /// What lies behind its URL has changed.
    Changed,
    Purged(Purged),
    /// It is not for those who say who they are.
    NotForAuthorized,
}

impl Store {
    /// What a stored response is good for, for a client that is obeyed in this or in nothing.
    pub(crate) fn standing(
        &self,
        stored: &StoredResponse,
        client: Option<&Directives>,
        is_authorized: bool,
        now: Moment,
    ) -> Standing {
        match self.purges.judge(stored) {
            Some(Purged::Hard) => return Standing::Purged(Purged::Hard),
            _ if is_authorized && !stored.terms.is_for_authorized => return Standing::NotForAuthorized,
            Some(Purged::Soft) => return Standing::Purged(Purged::Soft),
            None => {}
        }
        if self.epochs.has_changed(stored.url, stored.epoch) {
            return Standing::Changed;
        }
        match stored.terms.reuse(client, now) {
            Reuse::Fresh => Standing::Fresh,
            Reuse::StaleWhileRevalidate => Standing::StaleWhileRevalidate,
            Reuse::Validate if stored.terms.reuse(None, now) == Reuse::Fresh => Standing::ClientAsks,
            Reuse::Validate => Standing::Stale,
        }
    }
}
