//! A value at its place: reading it is what finds a problem, and the place is what the problem is shown at.

use super::problem::{Fault, Problem, Problems, Severity, Spot, quoted};
use super::tree::{Node, Scalar, TreeEntry, Value};
use std::cell::RefCell;
use std::fmt;

/// A value with its place. Cheap to copy; its path is spelt out only when there is something to report.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    node: &'a Node<'a>,
    /// Where a problem with the value as a whole is shown: at its key, where there is one.
    spot: Spot,
    trail: Trail<'a>,
    problems: &'a RefCell<Problems>,
}

#[derive(Clone, Copy)]
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Item(&'a Trail<'a>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, name) => f.write_str(quoted(name).trim_matches('`')),
            Self::Key(above, name) => write!(f, "{above}.{}", quoted(name).trim_matches('`')),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node<'a>, problems: &'a RefCell<Problems>) -> Self {
        Self { node, spot: Spot { line: 1, column: 1, len: 1 }, trail: Trail::Root, problems }
    }

    /// How many errors were found in the file so far, here or elsewhere.
    pub(super) fn errors(&self) -> usize {
        self.problems.borrow().errors()
    }

    /// `pools.app.servers[2].weight`
    pub(super) fn path(&self) -> String {
        self.trail.to_string()
    }

    pub(super) fn spot(&self) -> Spot {
        self.spot
    }

    /// The line of the value or of its key.
    pub(super) fn line(&self) -> usize {
        self.spot.line
    }

    /// Reports a problem with the value itself.
    pub(super) fn refuse(&self, fault: Fault) {
        let spot = if matches!(self.node.value, Value::Scalar(_)) { self.node.spot } else { self.spot };
        self.report(Severity::Error, spot, fault);
    }

    /// Reports a problem with the key, whatever its value.
    pub(super) fn refuse_key(&self, fault: Fault) {
        self.report(Severity::Error, self.spot, fault);
    }

    pub(super) fn warn(&self, fault: Fault) {
        self.report(Severity::Warning, self.spot, fault);
    }

    pub(super) fn report(&self, severity: Severity, spot: Spot, fault: Fault) {
        let Fault { message, help } = fault;
        self.problems.borrow_mut().push(Problem { severity, path: self.path(), spot, message, help });
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Whether it is a section in which this key is written.
    pub(super) fn has_key(&self, name: &str) -> bool {
        matches!(&self.node.value, Value::Map(entries) if entries.iter().any(|entry| entry.key == name))
    }

    /// What is written for a key of a section.
    pub(super) fn below(&self, name: &str) -> Option<At<'_>> {
        let Value::Map(entries) = &self.node.value else { return None };
        entries.iter().find(|entry| entry.key == name).map(|entry| self.child(entry))
    }

    pub(super) fn is_section(&self) -> bool {
        matches!(&self.node.value, Value::Map(_))
    }

    pub(super) fn is_scalar(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(_))
    }

    /// The single value, read by `read`; `wanted` says what would work in place of a list or nothing.
    pub(super) fn scalar<T>(
        &self,
        wanted: &dyn fmt::Display,
        read: impl FnOnce(&Scalar<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        let is = match &self.node.value {
            Value::Scalar(scalar) if scalar.is_null() => "has no value",
            Value::Scalar(scalar) => return read(scalar).map_err(|fault| self.refuse(fault)).ok(),
            Value::List(_) => "is a list",
            Value::Map(_) => "is a section",
            Value::Refused => return None,
        };
        self.refuse(Fault::new(is, format!("write {wanted}")));
        None
    }

    /// The items of a list; one value alone is not taken for a list of one.
    pub(super) fn items(&self) -> Option<impl ExactSizeIterator<Item = At<'_>>> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Scalar(scalar) if scalar.is_null() => &[],
            Value::Scalar(scalar) => {
                self.refuse(Fault::new("is not a list", format!("write `[{}]`", scalar.text)));
                return None;
            }
            Value::Map(_) => {
                self.refuse(Fault::new("is a section", "write a list, like `[a, b]`"));
                return None;
            }
            Value::Refused => return None,
        };
        Some(items.iter().enumerate().map(|(index, node)| At {
            node,
            spot: node.spot,
            trail: Trail::Item(&self.trail, index),
            problems: self.problems,
        }))
    }

    /// The names of a section whose keys the operator chooses.
    pub(super) fn names(&self) -> Option<impl ExactSizeIterator<Item = (&'a str, At<'_>)>> {
        let entries = self.entries(&"a section with a name before each part")?;
        Some(entries.iter().map(|entry| (&*entry.key, self.child(entry))))
    }

    /// What is written in a section; `wanted` says what would work in place of anything else.
    pub(super) fn entries(&self, wanted: &dyn fmt::Display) -> Option<&'a [TreeEntry<'a>]> {
        match &self.node.value {
            Value::Map(entries) => Some(entries),
            // Every key below was left out or commented out.
            Value::Scalar(scalar) if scalar.is_null() => Some(&[]),
            Value::Scalar(scalar) => {
                let is = format!("{} is not a section", quoted(&scalar.text));
                self.refuse(Fault::new(is, format!("write {wanted}")));
                None
            }
            Value::List(_) => {
                self.refuse(Fault::new("is a list", format!("write {wanted}")));
                None
            }
            Value::Refused => None,
        }
    }

    pub(super) fn child<'s>(&'s self, entry: &'s TreeEntry<'a>) -> At<'s> {
        At {
            node: &entry.node,
            spot: entry.key_spot,
            trail: Trail::Key(&self.trail, &entry.key),
            problems: self.problems,
        }
    }
}
