//! Heads of requests that may be longer than a listener's others: those of PURGE, which name what is to be purged, from clients that
//! may. Magento puts the tags of all that has changed into one field, which is longer than any other honest request's
//! (<https://github.com/magento/magento2/issues/6401>).
//!
//! Who may is decided by the address and the method before more is read, and there are never many at once, so that what these heads
//! take of memory has a bound.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Such requests at once, from the moment at which they are longer than others may be until they are answered; and connections
/// of HTTP/2 whose codec is told before their first request that such may come.
const AT_ONCE: usize = 64;

/// What may have a longer head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongHeadOf {
    Request,
    /// The requests of a connection of HTTP/2, as far as its codec reads them.
    Connection,
}

/// Why there is no longer head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLongHead {
    /// The client may not purge.
    NotTheirs,
    TooMany,
}

/// How many there are.
#[derive(Debug)]
pub(crate) struct LongHeads {
    requests: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// One of them, as long as it lasts.
#[derive(Debug)]
pub(crate) struct LongHeadPermit {
    _place: OwnedSemaphorePermit,
}

impl LongHeads {
    pub(crate) fn permit(&self, of: LongHeadOf) -> Result<LongHeadPermit, NoLongHead> {
        let places = match of {
            LongHeadOf::Request => &self.requests,
            LongHeadOf::Connection => &self.connections,
        };
        Arc::clone(places)
            .try_acquire_owned()
            .map(|_place| LongHeadPermit { _place })
            .map_err(|_| NoLongHead::TooMany)
    }
}

impl Default for LongHeads {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(AT_ONCE));
        Self { requests: places(), connections: places() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_many() {
        let heads = LongHeads::default();
        let permit = || heads.permit(LongHeadOf::Request);
        let all: Vec<_> = (0..AT_ONCE).map(|_| permit().expect("there is room")).collect();
        assert_eq!(permit().err(), Some(NoLongHead::TooMany));
        assert!(heads.permit(LongHeadOf::Connection).is_ok(), "they are counted apart");
        drop(all);
        assert!(permit().is_ok());
    }
}
