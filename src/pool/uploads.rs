//! Requests of which more is to come from their clients: until they are whole nobody waits for their server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many of those a server has. What comes in one piece with its head is never among them.
#[derive(Debug, Default)]
pub struct Uploads(AtomicU32);

impl Uploads {
    /// Those that the server has read as far as they have come.
    pub fn coming(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// One of them, for as long as this lives.
#[derive(Debug)]
pub struct ComingUpload(Arc<Uploads>);

impl ComingUpload {
    pub fn among(uploads: &Arc<Uploads>) -> Self {
        uploads.0.fetch_add(1, Relaxed);
        Self(Arc::clone(uploads))
    }
}

impl Drop for ComingUpload {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
