//! Keys that one place has from another unless it says something itself: a rule from its policy, that from the listener's.

use std::sync::Arc;

/// What one place says of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Inheritable<T> {
    /// Nothing is said here: what was said before holds.
    #[default]
    Inherited,
    /// Written as `null`.
    Off,
    Set(Arc<T>),
}

impl<T> Inheritable<T> {
    pub(crate) fn after(&self, before: &Self) -> Self {
        match (self, before) {
            (Self::Inherited, Self::Set(before)) => Self::Set(Arc::clone(before)),
            (Self::Inherited | Self::Off, _) => Self::Inherited,
            (Self::Set(this), _) => Self::Set(Arc::clone(this)),
        }
    }

    /// The same to be kept.
    pub fn shared(&self) -> Option<Arc<T>> {
        match self {
            Self::Set(this) => Some(Arc::clone(this)),
            Self::Inherited | Self::Off => None,
        }
    }

    /// What is said, if it is anything but that nothing is to be done.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Set(this) => Some(this),
            Self::Inherited | Self::Off => None,
        }
    }
}
