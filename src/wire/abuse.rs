//! What an HTTP/2 connection is cut off for.

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
    pub(crate) const ALL: [Self; 12] = [
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
