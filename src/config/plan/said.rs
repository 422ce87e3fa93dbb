//! What one of several places says of a key, which others may have said before.

use std::sync::Arc;

/// What one place says of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Said<T> {
    #[default]
    Nothing,
    /// Written as `null`.
    Off,
    This(Arc<T>),
}

impl<T> Said<T> {
    pub(super) fn after(&self, before: &Self) -> Self {
        match (self, before) {
            (Self::Nothing, Self::This(before)) => Self::This(Arc::clone(before)),
            (Self::Nothing | Self::Off, _) => Self::Nothing,
            (Self::This(this), _) => Self::This(Arc::clone(this)),
        }
    }

    /// The same to be kept.
    pub fn shared(&self) -> Option<Arc<T>> {
        match self {
            Self::This(this) => Some(Arc::clone(this)),
            Self::Nothing | Self::Off => None,
        }
    }

    /// What is said, if it is anything but that nothing is to be done.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::This(this) => Some(this),
            Self::Nothing | Self::Off => None,
        }
    }
}
