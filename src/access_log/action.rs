//! What a policy did with a request beside passing it on: the access log's `action`, and the kind in metrics.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Redirect,
    Respond,
    Canonical,
    Maintenance,
    CorsPreflight,
    ErrorPage,
    Fault,
}

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Redirect,
        Self::Respond,
        Self::Canonical,
        Self::Maintenance,
        Self::CorsPreflight,
        Self::ErrorPage,
        Self::Fault,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Respond => "respond",
            Self::Canonical => "canonical",
            Self::Maintenance => "maintenance",
            Self::CorsPreflight => "cors_preflight",
            Self::ErrorPage => "error_page",
            Self::Fault => "fault",
        }
    }
}
