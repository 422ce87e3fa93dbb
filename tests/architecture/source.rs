//! What a source file names of the crate.

use std::collections::BTreeSet;

/// A source file: its module path and its text without comments and tests.
#[derive(Debug)]
pub(super) struct Source {
    /// `["pool", "choose"]`; `mod.rs` is its directory.
    module: Vec<String>,
    pub(super) text: String,
}

/// What a `use` brings into a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) path: String,
    /// What the file calls it.
    pub(super) name: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let module = path.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
        // Tests come last in a file.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let text = text.lines().filter(code).map(|line| format!("{line}\n")).collect();
        Self { module, text }
    }

    pub(super) fn path(&self) -> String {
        self.module.join("::")
    }

    /// The modules that `#[cfg(test)]` keeps out of the program.
    pub(super) fn test_modules(&self) -> impl Iterator<Item = String> + '_ {
        self.text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
            let line = rest.lines().next()?;
            let name = line.split("mod ").nth(1)?.strip_suffix(';')?;
            Some(format!("{}::{name}", self.path()))
        })
    }

    /// The paths below the crate's root that the file names, like `pool::Lease`.
    pub(super) fn uses(&self) -> BTreeSet<String> {
        let mut uses = BTreeSet::new();
        // From here, so many `super` are the root.
        let to_root = "super::".repeat(self.module.len());
        for root in ["crate::", "evenkeel::", to_root.as_str()] {
            let mut rest = self.text.as_str();
            while let Some(at) = rest.find(root) {
                let is_whole = !rest[..at].ends_with(|c: char| is_of_name(c) || c == ':');
                rest = &rest[at + root.len()..];
                if is_whole {
                    expand("", rest, &mut uses);
                }
            }
        }
        uses.into_iter().map(|import| import.path).collect()
    }

    /// What the file imports for itself, what it passes on to others (`pub use`), and its text without either.
    pub(super) fn imports(&self) -> (BTreeSet<Import>, BTreeSet<Import>, String) {
        let (mut own, mut passed_on, mut rest) = (BTreeSet::new(), BTreeSet::new(), String::new());
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let (before, tree) = line.trim_start().split_once("use ").unwrap_or((line, ""));
            if tree.is_empty() || !(before.is_empty() || before.starts_with("pub")) {
                rest.push_str(line);
                rest.push('\n');
                continue;
            }
            let mut tree = tree.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().expect("a `use` ends"));
            }
            expand("", &tree, if before.is_empty() { &mut own } else { &mut passed_on });
        }
        (own, passed_on, rest)
    }

    /// A path as the file has it, from the crate's root; `None` where it leads elsewhere.
    pub(super) fn absolute(&self, path: &str) -> Option<String> {
        let mut module = self.module.as_slice();
        let mut rest = path;
        if let Some(below) = rest.strip_prefix("crate::").or(rest.strip_prefix("evenkeel::")) {
            return Some(below.to_owned());
        }
        rest = rest.strip_prefix("self::").unwrap_or(rest);
        while let Some(above) = rest.strip_prefix("super::") {
            module = module.split_last()?.1;
            rest = above;
        }
        (rest.len() < path.len()).then(|| {
            let parts: Vec<_> = module.iter().map(String::as_str).chain([rest]).collect();
            parts.join("::")
        })
    }
}

pub(super) fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Adds the paths of a `use` tree that begins here; returns what follows it.
fn expand<'a>(before: &str, tree: &'a str, into: &mut BTreeSet<Import>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut inside) = tree.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches([',', ' ', '\n']);
            if let Some(after) = inside.strip_prefix('}') {
                return after;
            }
            let rest = expand(before, inside, into);
            if rest.len() == inside.len() {
                return rest;
            }
            inside = rest;
        }
    }
    let end = tree.find(|c: char| !is_of_name(c)).unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let path = match (before, name) {
        ("", name) => name.to_owned(),
        (before, "self") => before.to_owned(),
        (before, name) => format!("{before}::{name}"),
    };
    if let Some(deeper) = rest.strip_prefix("::") {
        return expand(&path, deeper, into);
    }
    let (name, rest) = match rest.strip_prefix(" as ") {
        Some(alias) => alias.split_at(alias.find(|c: char| !is_of_name(c)).unwrap_or(alias.len())),
        None => (path.rsplit("::").next().unwrap_or_default(), rest),
    };
    into.insert(Import { name: name.to_owned(), path });
    rest
}
