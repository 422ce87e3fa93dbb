//! What the cache's disk has for a request, where memory has nothing.

use super::cache::Lookup;
use super::{Relay, unless_left};
use crate::access_log::Why;
use crate::cache::Vary;
use crate::disk::Look;
use crate::serve::client::ClientSide;
use crate::serve::exchange::RuleCache;
use crate::store::StoredResponse;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As long a disk is waited for before a server is asked.
const DISK_PATIENCE: Duration = Duration::from_millis(500);
/// Variants of which it may have to be found out first whom they are for.
const MOST_LOOKS: usize = 40;

impl<C: ClientSide> Relay<'_, C> {
    /// What the disk has for the request, if memory has nothing and the disk does not take too long.
    pub(super) async fn recall(&mut self, lookup: &Lookup) -> Result<Option<Arc<StoredResponse>>, Why> {
        let RuleCache { store, disk: Some(disk), .. } = &lookup.rule else { return Ok(None) };
        let until = Instant::now() + DISK_PATIENCE;
        let selecting = &mut |vary: &Vary| self.selected(vary);
        if store.find(&lookup.key).is_some_and(|slot| slot.variant(selecting).is_some()) {
            return Ok(None);
        }
        for _ in 0..MOST_LOOKS {
            let receiver = match disk.look(&lookup.key, &mut |vary| self.selected(vary)) {
                Look::Nothing => return Ok(None),
                Look::Here(response) => return Ok(Some(response)),
                Look::Reads(receiver) => receiver,
            };
            let waited = pin!(self.state.watch.heed(tokio::time::timeout_at(until.into(), receiver)));
            let loaded = match unless_left(&mut self.client, waited).await? {
                Ok(Ok(loaded)) => loaded,
                // It cannot be read: there may be another.
                Ok(Err(_)) => continue,
                Err(_) => return Ok(None),
            };
            // What it is for may not have been known before.
            if *loaded.response.selected == *self.selected(&loaded.response.terms.vary) {
                store.recall(&lookup.key, Arc::clone(&loaded.response), || loaded.is_gone());
                return Ok(Some(loaded.response));
            }
        }
        Ok(None)
    }
}
