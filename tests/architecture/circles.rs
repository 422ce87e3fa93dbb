//! Finds files that use each other in a circle: neither can be read, tested or moved without the other.
//!
//! A use is a path in a file's text, imported or written out, followed through every `pub use` to the file that defines
//! what it names. Two things are no use: what a `mod.rs` only passes on, and what a file takes from its own `mod.rs`
//! or one further up: there a room keeps what all its files share, and where it also calls them, as `control` does,
//! every file of the room would be one circle. A call of a method names no file, so that it is not seen.

use super::source::{Import, Source, is_of_name};
use std::collections::{BTreeMap, BTreeSet};

/// What one file names, by paths from the crate's root.
#[derive(Debug, Default)]
struct Names {
    imported: BTreeMap<String, String>,
    passed_on: BTreeMap<String, String>,
    named: BTreeSet<String>,
}

/// The program's files by their paths.
#[derive(Debug)]
struct Files(BTreeMap<String, Names>);

/// Each circle as the paths of its files.
pub(super) fn circles(sources: &[Source]) -> BTreeSet<Vec<String>> {
    let files = Files::new(sources);
    let uses: BTreeMap<_, _> = files.0.keys().map(|file| (file.as_str(), files.used_by(file))).collect();
    let reach: BTreeMap<_, _> = uses.keys().map(|file| (*file, reached_from(file, &uses))).collect();
    let circle = |file: &&str| {
        let back = |other: &&&str| reach[**other].contains(file);
        reach[file].iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    reach.keys().map(circle).filter(|circle: &Vec<_>| !circle.is_empty()).collect()
}

fn reached_from<'a>(file: &'a str, uses: &'a BTreeMap<&str, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(next) = open.pop() {
        open.extend(uses[next].iter().map(String::as_str).filter(|used| reached.insert(*used)));
    }
    reached
}

impl Files {
    fn new(sources: &[Source]) -> Self {
        let tests: BTreeSet<_> = sources.iter().flat_map(Source::test_modules).collect();
        let sources = || sources.iter().filter(|source| !tests.contains(&source.path()));
        let mut files = Self(sources().map(|source| (source.path(), Names::default())).collect());
        for source in sources() {
            let names = files.names_in(source);
            files.0.insert(source.path(), names);
        }
        files
    }

    fn names_in(&self, source: &Source) -> Names {
        let (own, passed_on, text) = source.imports();
        let from_root = |path: &str| source.absolute(path).or_else(|| self.below(&source.path(), path));
        let by_name = |imports: BTreeSet<Import>| {
            let known = |import: Import| Some((import.name, from_root(&import.path)?));
            imports.into_iter().filter_map(known).collect::<BTreeMap<_, _>>()
        };
        let (imported, passed_on) = (by_name(own), by_name(passed_on));
        // Importing a module is no use of it yet: what is then named of it is.
        let mut named: BTreeSet<_> =
            imported.values().filter(|path| !self.0.contains_key(*path)).cloned().collect();
        for path in paths(&text) {
            let (first, rest) = path.split_once("::").expect("a path has two parts");
            let through = |import: &String| format!("{import}::{rest}");
            let import = imported.get(first).or_else(|| passed_on.get(first));
            named.extend(import.map(through).or_else(|| from_root(path)));
        }
        Names { imported, passed_on, named }
    }

    /// A path that begins with a child of `module`.
    fn below(&self, module: &str, path: &str) -> Option<String> {
        let child = format!("{module}::{}", path.split("::").next()?);
        self.0.contains_key(&child).then(|| format!("{module}::{path}"))
    }

    /// The files that `file` uses.
    fn used_by(&self, file: &str) -> BTreeSet<String> {
        let is_above = |other: &str| file == other || file.starts_with(&format!("{other}::"));
        let used = self.0[file].named.iter().filter_map(|path| self.definition(path));
        used.filter(|other| !is_above(other)).map(str::to_owned).collect()
    }

    /// The file that defines what `path` names.
    fn definition(&self, path: &str) -> Option<&str> {
        let mut path = path.to_owned();
        // Imports cannot be longer ways than this, and may lead nowhere.
        for _ in 0..16 {
            let is_file = |end: &usize| self.0.contains_key(&path[..*end]);
            let ends = path.rmatch_indices("::").map(|(at, _)| at);
            let end = std::iter::once(path.len()).chain(ends).find(is_file)?;
            let (file, names) = self.0.get_key_value(&path[..end])?;
            let rest = path[end..].trim_start_matches("::");
            let (name, rest) = rest.split_once("::").unwrap_or((rest, ""));
            let Some(from) = names.passed_on.get(name).or_else(|| names.imported.get(name)) else {
                return Some(file);
            };
            path = if rest.is_empty() { from.clone() } else { format!("{from}::{rest}") };
        }
        None
    }
}

/// The paths of two parts and more in a text.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !is_of_name(c) && c != ':');
    words.map(|word| word.trim_matches(':')).filter(|word| word.contains("::"))
}
