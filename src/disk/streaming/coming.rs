//! What comes of a body on its way to the disk, for those who follow it.

use super::super::reading::NOT_READ;
use super::Writing;
use crate::store::{BodySource, BrokenOff};
use bytes::Bytes;
use futures_channel::oneshot;
use std::sync::Arc;

/// A body as it comes, for those who follow it.
#[derive(Debug)]
pub(super) struct ComingBody(pub(super) Arc<Writing>);

impl BodySource for ComingBody {
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let mut progress = self.0.lock();
        if progress.broken.is_some() || progress.broken_off.is_some() {
            return receiver;
        }
        let on_disk = progress.arrived.read(from, sender);
        let awaited = if progress.arrived.is_awaited() { progress.awaited.take() } else { None };
        drop(progress);
        if let Some(waker) = awaited {
            waker.wake();
        }
        if let Some(sender) = on_disk {
            let writing = Arc::clone(&self.0);
            self.0.tier.threads.read_on(move || {
                if !sender.is_canceled()
                    && let Some(bytes) = writing.read(from)
                {
                    let _ = sender.send(bytes);
                }
            });
        }
        receiver
    }

    fn has_come(&self) -> u64 {
        self.0.lock().arrived.length()
    }

    /// Not all of it: a piece at a time is held for each who follows it.
    fn is_in_memory(&self) -> bool {
        false
    }

    fn broken_off(&self) -> BrokenOff {
        self.0.lock().broken_off.unwrap_or(NOT_READ)
    }
}
