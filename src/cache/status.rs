//! What a response says of what this cache has done (Cache-Status, RFC 9211).

use std::fmt::Write as _;

/// Why a request went to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// What is kept would do, and the client wants another.
    Request,
    Stale,
    /// What comes for others has come as far as the client's part not yet.
    Partial,
}

impl Forwarded {
    fn label(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    /// `None` is a hit.
    pub(crate) forwarded: Option<Forwarded>,
    /// What the server answered, where that is not what the client gets.
    pub(crate) forwarded_status: Option<u16>,
    pub(crate) is_stored: bool,
    /// Seconds for which what is kept is still fresh.
    pub(crate) left: Option<i64>,
    pub(crate) is_collapsed: bool,
    /// Why it is as it is, in one word or some.
    pub(crate) detail: Option<&'static str>,
}

impl CacheStatus {
    /// The field's value.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("evenkeel");
        match self.forwarded {
            None => text.push_str("; hit"),
            Some(forwarded) => {
                text.push_str("; fwd=");
                text.push_str(forwarded.label());
            }
        }
        if let Some(status) = self.forwarded_status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if self.is_stored {
            text.push_str("; stored");
        }
        if self.is_collapsed {
            text.push_str("; collapsed");
        }
        if let Some(left) = self.left {
            let _ = write!(text, "; ttl={left}");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail=\"{detail}\"");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_in_the_fields_own_words() {
        let hit = CacheStatus { left: Some(-3), ..CacheStatus::default() };
        assert_eq!(hit.text(), "evenkeel; hit; ttl=-3");
        let miss =
            CacheStatus { forwarded: Some(Forwarded::UriMiss), is_stored: true, ..CacheStatus::default() };
        assert_eq!(miss.text(), "evenkeel; fwd=uri-miss; stored");
        let validated = CacheStatus {
            forwarded: Some(Forwarded::Stale),
            forwarded_status: Some(304),
            is_collapsed: true,
            detail: Some("no-store"),
            ..CacheStatus::default()
        };
        assert_eq!(validated.text(), "evenkeel; fwd=stale; fwd-status=304; collapsed; detail=\"no-store\"");
    }
}
