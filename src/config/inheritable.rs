//! Reads keys that one place has from another unless it says something itself.

use super::plan::policy::Inheritable;
use super::section::Section;
use std::sync::Arc;

/// What a section says of a key whose value is a section, or `null`.
pub(super) fn inheritable<T>(
    section: &Section<'_>,
    name: &str,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Inheritable<T> {
    match section.get(name) {
        None => Inheritable::Inherited,
        Some(at) if at.is_null() => Inheritable::Off,
        Some(_) => {
            let read = section.section(name, |section| read(&section)).flatten();
            read.map_or(Inheritable::Inherited, |this| Inheritable::Set(Arc::new(this)))
        }
    }
}
