//! A section of a file that is being written.

use super::super::keys::Key;
use super::super::plan::policy::Inheritable;
use serde_yaml::{Mapping, Value};

/// A section that is being written.
pub(super) struct SectionWriter {
    keys: &'static [Key],
    values: Vec<Written>,
}

/// What becomes of one key.
#[derive(Clone)]
pub(super) enum Written {
    NotYet,
    LeftOut,
    As(Value),
}

impl SectionWriter {
    pub(super) fn new(keys: &'static [Key]) -> Self {
        Self { keys, values: vec![Written::NotYet; keys.len()] }
    }

    pub(super) fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        *self.place(name) = Written::As(value.into());
        self
    }

    pub(super) fn set_or_null(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        self.set(name, value.map_or(Value::Null, Into::into))
    }

    /// A key that is left out where there is nothing to write, as `null` is refused there.
    pub(super) fn set_if_any(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        *self.place(name) = value.map_or(Written::LeftOut, |value| Written::As(value.into()));
        self
    }

    /// A key that is left out where another place speaks of it.
    pub(super) fn set_inheritable<T>(
        self,
        name: &str,
        value: &Inheritable<T>,
        write: impl Fn(&T) -> Value,
    ) -> Self {
        self.set_if_any(
            name,
            match value {
                Inheritable::Inherited => None,
                Inheritable::Off => Some(Value::Null),
                Inheritable::Set(this) => Some(write(this)),
            },
        )
    }

    /// Keys that the others rule out.
    pub(super) fn leave_out(mut self, names: &[&str]) -> Self {
        names.iter().for_each(|name| *self.place(name) = Written::LeftOut);
        self
    }

    fn place(&mut self, name: &str) -> &mut Written {
        let index = self.keys.iter().position(|key| key.name == name);
        &mut self.values[index.expect("only keys of the table are written")]
    }

    pub(super) fn end(self) -> Value {
        let mut section = Mapping::new();
        for (key, value) in self.keys.iter().zip(self.values) {
            match value {
                Written::As(value) => _ = section.insert(key.name.into(), value),
                Written::LeftOut => {}
                Written::NotYet => debug_assert!(false, "`{}` is never written", key.name),
            }
        }
        section.into()
    }
}
