//! Names that the operator chooses: which are allowed, which are taken, and which a reference means.

use super::place::At;
use super::problem::{Fault, nearest, quoted};
use super::tree::Scalar;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// The pools, policies or routes of a file by name, and whether anything refers to them.
pub(super) struct Names<'a> {
    /// What they are: `pool`, `policy`, `routes`.
    kind: &'static str,
    /// `None` when the section itself is missing or wrong: a reference is then not worth a second problem.
    indexes: Option<HashMap<&'a str, usize>>,
    names: Vec<&'a str>,
    used: RefCell<Vec<bool>>,
    hints: Cell<usize>,
}

impl<'a> Names<'a> {
    pub(super) fn new(kind: &'static str, names: Option<Vec<&'a str>>) -> Self {
        let indexes =
            names.as_ref().map(|names| names.iter().enumerate().map(|(i, name)| (*name, i)).collect());
        let names = names.unwrap_or_default();
        Self { kind, indexes, used: RefCell::new(vec![false; names.len()]), names, hints: Cell::new(0) }
    }

    /// The index that a reference means.
    pub(super) fn resolve(&self, reference: &Scalar<'_>) -> Result<usize, Fault> {
        if self.indexes.is_none() {
            return Ok(0);
        }
        if let Some(index) = self.find(&reference.text) {
            return Ok(index);
        }
        let verb = if self.kind == "routes" { "are" } else { "is" };
        let message = format!("no {} {verb} named {}", self.kind, quoted(&reference.text));
        // Each hint compares with many names; a file that is wrong everywhere gets as many as anyone reads.
        const MOST_HINTS: usize = 100;
        self.hints.set(self.hints.get() + 1);
        let names = if self.hints.get() > MOST_HINTS { &[] } else { &self.names[..] };
        Err(match nearest(&reference.text, names.iter().copied()) {
            Some(name) => Fault { message: format!("{message}, did you mean `{name}`?"), help: None },
            None => Fault::new(message, self.known()),
        })
    }

    /// The index that a text means, if it is a name at all.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let index = *self.indexes.as_ref()?.get(text)?;
        self.used.borrow_mut()[index] = true;
        Some(index)
    }

    /// In the order of the file.
    pub(super) fn all(&self) -> &[&'a str] {
        &self.names
    }

    fn known(&self) -> String {
        const MOST: usize = 8;
        let section = match self.kind {
            "pool" => "pools",
            "policy" => "policies",
            kind => kind,
        };
        if self.names.is_empty() {
            return format!("add it under `{section}`");
        }
        let more = if self.names.len() > MOST { ", ..." } else { "" };
        format!("known: {}{more}", self.names.iter().take(MOST).copied().collect::<Vec<_>>().join(", "))
    }

    /// The name that an index from `resolve` stands for.
    pub(super) fn name(&self, index: usize) -> Option<&'a str> {
        self.names.get(index).copied()
    }

    pub(super) fn is_used(&self, index: usize) -> bool {
        self.used.borrow().get(index).is_none_or(|used| *used)
    }
}

/// Values that may appear once, and the line on which each first did.
pub(super) struct Once<T>(HashMap<T, usize>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: std::hash::Hash + Eq> Once<T> {
    /// Another value that was seen and that this is about, and its line; the first of several.
    pub(super) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<(&T, usize)> {
        let found = self.0.iter().filter(|(value, _)| is_it(value));
        found.min_by_key(|(_, line)| **line).map(|(value, line)| (value, *line))
    }

    /// The line on which `value` was first seen, if this is not the first time.
    pub(super) fn seen(&mut self, value: T, line: usize) -> Option<usize> {
        match self.0.entry(value) {
            std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(line);
                None
            }
        }
    }
}

/// Reads the items of a list that each stand there once; a second one is refused and left out.
pub(super) fn each_once<T: PartialEq>(at: &At<'_>, read: impl Fn(&At<'_>) -> Option<T>) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for item in at.items().into_iter().flatten() {
        let Some(one) = read(&item) else { continue };
        match all.contains(&one) {
            true => item.refuse(Fault::new("is listed twice", "remove one")),
            false => all.push(one),
        }
    }
    all
}

const LONGEST: usize = 100;

/// Listeners, routes and pools: their names are metric labels and appear in `POOL/SERVER`.
pub(super) fn check_section_name(name: &str, at: &At<'_>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(fits) {
        at.refuse_key(Fault::new(
            format!("{} is not a name", quoted(name)),
            format!("use 1 to {LONGEST} letters, digits, `_`, `-` and `.`"),
        ));
    }
}

/// Servers and rules: anything that can be typed as one word.
pub(super) fn word(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let unfit = |c: char| c.is_whitespace() || c.is_control();
    if scalar.text.is_empty() || scalar.text.len() > LONGEST || scalar.text.contains(unfit) {
        return Err(Fault::new(
            format!("{} is not a name", quoted(&scalar.text)),
            format!("use 1 to {LONGEST} characters without spaces"),
        ));
    }
    Ok(scalar.text.to_string())
}
