//! What is counted of HTTP/2 clients that were cut off.

use super::ListenerReading;
use super::scrape::Family;
use prometheus::proto::MetricFamily;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What an HTTP/2 client did too much of, or against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams opened and reset, or opened beyond the limit.
    Resets,
    /// Frames because of which streams had to be reset.
    StreamErrors,
    /// A header block in too many pieces.
    Continuations,
    Settings,
    Pings,
    Priorities,
    WindowUpdates,
    EmptyData,
    /// Frames of unknown types, and GOAWAY more than once.
    UnknownFrames,
    /// DATA frames so small that there is more frame than data.
    SmallData,
    /// Fields far beyond the limit.
    Headers,
    /// Against the protocol.
    Protocol,
}

impl Abuse {
    const ALL: [Self; 12] = [
        Self::Resets,
        Self::StreamErrors,
        Self::Continuations,
        Self::Settings,
        Self::Pings,
        Self::Priorities,
        Self::WindowUpdates,
        Self::EmptyData,
        Self::UnknownFrames,
        Self::SmallData,
        Self::Headers,
        Self::Protocol,
    ];

    /// The value in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::StreamErrors => "stream_errors",
            Self::Continuations => "continuations",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::Priorities => "priorities",
            Self::WindowUpdates => "window_updates",
            Self::EmptyData => "empty_data",
            Self::UnknownFrames => "unknown_frames",
            Self::SmallData => "small_data",
            Self::Headers => "headers",
            Self::Protocol => "protocol",
        }
    }
}

/// One listener's connections that were cut off, by what for.
#[derive(Debug, Default)]
pub struct Abuses([AtomicU64; Abuse::ALL.len()]);

impl Abuses {
    pub fn count(&self, abuse: Abuse) {
        self.0[abuse as usize].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> AbuseReading {
        AbuseReading(std::array::from_fn(|index| self.0[index].load(Relaxed)))
    }
}

/// What [`Abuses`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct AbuseReading([u64; Abuse::ALL.len()]);

/// The family about HTTP/2.
pub(super) fn family(listeners: &[ListenerReading]) -> Option<MetricFamily> {
    let mut abuse = Family::counter(
        "evenkeel_http2_abuse_total",
        "HTTP/2 connections cut off, by what their clients did too much of or against the protocol.",
    );
    for listener in listeners {
        for kind in Abuse::ALL {
            let count = listener.abuse.0[kind as usize];
            if count > 0 {
                abuse.add(&[("listener", &listener.name), ("kind", kind.label())], count as f64);
            }
        }
    }
    abuse.finish()
}
