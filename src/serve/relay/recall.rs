//! What the cache's disk has for a request, where memory has nothing.

use super::caching::DISK_PATIENCE;
use super::{Relay, unless_left};
use crate::access_log::Why;
use crate::disk::{DiskTier, Look};
use crate::serve::client::ClientSide;
use crate::store::{Store, StoredResponse};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// Variants of which it may have to be found out first whom they are for.
const MOST_LOOKS: usize = 40;

/// What has come of asking the disk.
pub(super) enum Recalled {
    /// It has nothing, which was known at once.
    Nothing,
    /// What it has, if anything; others have gone on meanwhile.
    Waited(Option<Arc<StoredResponse>>),
}

impl<C: ClientSide> Relay<'_, C> {
    /// What the disk has for the request, where memory has nothing, if it does not take too long.
    pub(super) async fn recall(
        &mut self,
        disk: &Arc<DiskTier>,
        (store, key): (&Store, &[u8]),
    ) -> Result<Recalled, Why> {
        let until = Instant::now() + DISK_PATIENCE;
        for looked in 0..MOST_LOOKS {
            let receiver = match disk.look(key, &mut |vary| self.selected(vary)) {
                Look::Nothing if looked == 0 => return Ok(Recalled::Nothing),
                Look::Nothing => break,
                Look::Here(response) => return Ok(Recalled::Waited(Some(response))),
                Look::Reads(receiver) => receiver,
            };
            let waited = pin!(self.state.watch.heed(tokio::time::timeout_at(until.into(), receiver)));
            let loaded = match unless_left(&mut self.client, waited).await? {
                Ok(Ok(loaded)) => loaded,
                // It cannot be read: there may be another.
                Ok(Err(_)) => continue,
                Err(_) => break,
            };
            // What it is for may not have been known before.
            if *loaded.response.selected == *self.selected(&loaded.response.terms.vary) {
                store.recall(key, Arc::clone(&loaded.response), || loaded.is_gone());
                return Ok(Recalled::Waited(Some(loaded.response)));
            }
        }
        Ok(Recalled::Waited(None))
    }
}
