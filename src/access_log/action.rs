//! What a policy did with a request beside passing it on: the access log's `action`, and the kind in metrics.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Redirect,
    Respond,
}

impl Action {
    pub const ALL: [Self; 2] = [Self::Redirect, Self::Respond];

    pub fn label(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Respond => "respond",
        }
    }
}
