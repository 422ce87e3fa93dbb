//! What is purged of what the cache keeps.

use serde::{Deserialize, Serialize};

/// What is wished for: one of these, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeWish {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hosts with the beginning of a path: `shop.example/static/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    pub all: bool,
    /// It is gone, rather than asked about.
    pub hard: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeReceipt {
    /// URLs, tags and prefixes, or one for all.
    pub purges: usize,
    pub hard: bool,
}
