//! The tree between YAML and the sections: every key and value with its line and column.

use super::problem::Spot;
use std::borrow::Cow;

#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) spot: Spot,
    pub(super) value: Value<'t>,
}

#[derive(Debug)]
pub(super) enum Value<'t> {
    Scalar(Scalar<'t>),
    List(Vec<Node<'t>>),
    Map(Vec<TreeEntry<'t>>),
    /// Was refused and reported; nothing more is to be said about it.
    Refused,
}

/// Keys are unique within a map.
#[derive(Debug)]
pub(super) struct TreeEntry<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) key_spot: Spot,
    pub(super) node: Node<'t>,
}

/// A single value as written; what it means is for its reader to say.
#[derive(Debug)]
pub(super) struct Scalar<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) quoted: bool,
}

impl<'t> Scalar<'t> {
    pub(super) const fn plain(text: &'t str) -> Self {
        Self { text: Cow::Borrowed(text), quoted: false }
    }

    /// By the YAML 1.2 core schema, in which `off` and `no` are texts.
    pub(super) fn is_null(&self) -> bool {
        !self.quoted && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// By the YAML 1.2 core schema, in which `yes` is a text.
    pub(super) fn as_bool(&self) -> Option<bool> {
        match &*self.text {
            _ if self.quoted => None,
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// A decimal number that is not in quotes. Octal and hexadecimal have no use here and are not read.
    pub(super) fn as_number(&self) -> Option<u64> {
        let digits = !self.text.is_empty() && self.text.bytes().all(|b| b.is_ascii_digit());
        if self.quoted || !digits { None } else { self.text.parse().ok() }
    }
}

/// Where the value stands that these steps lead to, keys and indexes of lists; as near as there is one.
pub(super) fn locate(root: &Node<'_>, steps: &[&str]) -> Spot {
    let (mut node, mut spot) = (root, root.spot);
    for step in steps {
        let next = match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == *step).map(|entry| (&entry.node, entry.key_spot))
            }
            Value::List(items) => {
                step.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item, item.spot))
            }
            Value::Scalar(_) | Value::Refused => None,
        };
        let Some((below, at)) = next else { return spot };
        spot = if matches!(below.value, Value::Scalar(_)) { below.spot } else { at };
        node = below;
    }
    spot
}
