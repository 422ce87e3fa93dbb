//! What the fuzz targets (`fuzz/`) call of this room beside [`super::parse`]: the tree, in a type of its own.

use super::problem::{Problems, Spot};
use super::tree::{Node, Value};
use super::yaml;
use std::cell::RefCell;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub spot: Spot,
    pub value: Branch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    Scalar {
        text: String,
        is_quoted: bool,
    },
    List(Vec<Tree>),
    /// Keys with their places, and what they lead to.
    Map(Vec<(String, Spot, Tree)>),
    /// Was reported.
    Refused,
}

/// The tree of a text, where it has one, and what is wrong with it.
pub fn tree(text: &str) -> (Option<Tree>, Problems) {
    let problems = RefCell::new(Problems::default());
    let root = yaml::read(text, &problems).map(|root| Tree::from(&root));
    (root, problems.into_inner())
}

impl From<&Node<'_>> for Tree {
    fn from(node: &Node<'_>) -> Self {
        let value = match &node.value {
            Value::Scalar(scalar) => {
                Branch::Scalar { text: scalar.text.clone().into_owned(), is_quoted: scalar.quoted }
            }
            Value::List(items) => Branch::List(items.iter().map(Self::from).collect()),
            Value::Map(entries) => {
                let entry = |entry: &super::tree::TreeEntry<'_>| {
                    (entry.key.clone().into_owned(), entry.key_spot, Self::from(&entry.node))
                };
                Branch::Map(entries.iter().map(entry).collect())
            }
            Value::Refused => Branch::Refused,
        };
        Self { spot: node.spot, value }
    }
}
