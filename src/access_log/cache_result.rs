//! What the cache has done for a request: the access log's `cache`, and the result in metrics.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// It had what was asked for.
    Hit,
    /// It had not.
    Miss,
    /// It had what was asked for, beyond its time.
    Stale,
    /// It had what its server says is still good.
    Revalidated,
    /// Another request has fetched it meanwhile.
    Coalesced,
    /// The request was not for it.
    Bypass,
    /// The response is not to be kept.
    Uncacheable,
}

impl CacheResult {
    pub const ALL: [Self; 7] = [
        Self::Hit,
        Self::Miss,
        Self::Stale,
        Self::Revalidated,
        Self::Coalesced,
        Self::Bypass,
        Self::Uncacheable,
    ];

    /// Whether no server was asked for the request.
    pub fn spares_servers(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::Coalesced)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
            Self::Uncacheable => "uncacheable",
        }
    }
}

/// The same with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    pub result: CacheResult,
    /// Of what was kept, in seconds.
    pub age: Option<u64>,
    /// Why it was not, or not used.
    pub reason: Option<&'static str>,
}

impl From<CacheResult> for CacheRecord {
    fn from(result: CacheResult) -> Self {
        Self { result, age: None, reason: None }
    }
}
