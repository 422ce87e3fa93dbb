//! Reading a section key by key: what is absent takes its default from the table of keys, what is wrong
//! becomes a problem at its place and reading goes on, so that one pass finds everything.

use super::keys::{Key, KeyKind};
use super::place::At;
use super::problem::{Fault, Severity, nearest, quoted};
use super::tree::{Scalar, TreeEntry};
use crate::units::{self, Percent};
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// A section that is being read. Every key of its table must be asked for.
pub(super) struct Section<'a> {
    pub(super) at: At<'a>,
    keys: &'static [Key],
    entries: &'a [TreeEntry<'a>],
    read: Cell<u64>,
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        // A key that is accepted and then ignored would be worse than one that is refused.
        let all = (1u64 << self.keys.len()) - 1;
        debug_assert!(
            std::thread::panicking() || self.read.get() == all,
            "{}: some key is never read",
            self.at.path()
        );
    }
}

impl<'a> At<'a> {
    /// A section with the keys of a table; every key that is not in it is reported.
    pub(super) fn section(self, keys: &'static [Key]) -> Option<Section<'a>> {
        self.section_or(&SectionOf(keys), keys)
    }

    /// As `section`, where `wanted` could stand as well.
    pub(super) fn section_or(&self, wanted: &dyn fmt::Display, keys: &'static [Key]) -> Option<Section<'a>> {
        let entries = self.entries(wanted)?;
        Some(Section::new(*self, keys, entries))
    }
}

/// A section with these keys, in words.
struct SectionOf(&'static [Key]);

impl fmt::Display for SectionOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let names: Vec<_> = self.0.iter().take(SHOWN).map(|key| format!("`{}`", key.name)).collect();
        let more = if self.0.len() > SHOWN { ", …" } else { "" };
        write!(f, "a section of `key: value` pairs ({}{more})", names.join(", "))
    }
}

impl<'a> Section<'a> {
    /// Begins to read, which reports every entry that is not in the table.
    pub(super) fn new(at: At<'a>, keys: &'static [Key], entries: &'a [TreeEntry<'a>]) -> Self {
        let section = Self { at, keys, entries, read: Cell::new(0) };
        section.refuse_unknown_keys();
        section
    }

    fn refuse_unknown_keys(&self) {
        for entry in self.entries {
            if self.keys.iter().any(|key| key.name == entry.key) {
                continue;
            }
            let names = self.keys.iter().map(|key| key.name);
            let unknown = format!("unknown key {}", quoted(&entry.key));
            let fault = match nearest(&entry.key, names.clone()) {
                Some(name) => Fault { message: format!("{unknown}, did you mean `{name}`?"), help: None },
                None if self.keys.is_empty() => Fault::new(unknown, "write `{}`"),
                None => Fault::new(unknown, format!("known here: {}", names.collect::<Vec<_>>().join(", "))),
            };
            self.at.report(Severity::Error, entry.key_spot, fault);
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        let index =
            self.keys.iter().position(|key| key.name == name).expect("only keys of the table are read");
        self.read.set(self.read.get() | 1 << index);
        &self.keys[index]
    }

    fn find(&self, name: &str) -> Option<At<'_>> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| self.at.child(entry))
    }

    /// Whether nothing at all is written in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reports those of these keys that are written: what they set is no part of `protocol`.
    pub(super) fn refuse_foreign(&self, names: &[&str], protocol: &str) {
        for at in names.iter().filter_map(|name| self.get(name)) {
            at.refuse_key(Fault::new(
                format!("is for HTTP, and this listener speaks `{protocol}`"),
                "remove it, or use `protocol: http`",
            ));
        }
    }

    /// What is written for a key, if anything.
    pub(super) fn get(&self, name: &str) -> Option<At<'_>> {
        self.key(name);
        self.find(name)
    }

    /// The section below a key; all defaults when it is absent.
    pub(super) fn section<T>(&self, name: &str, read: impl FnOnce(Section<'_>) -> T) -> Option<T> {
        let kind = &self.key(name).kind;
        let (KeyKind::Section(keys) | KeyKind::Either(_, keys)) = kind else {
            unreachable!("only the table's sections are read as sections");
        };
        match self.find(name) {
            Some(at) if keys.is_empty() => at.section_or(&"`{}`", keys).map(read),
            Some(at) if matches!(kind, KeyKind::Either(..)) => at.section_or(kind, keys).map(read),
            Some(at) => at.section(keys).map(read),
            None => Some(read(Section::new(self.at, keys, &[]))),
        }
    }

    /// A single value, or the table's default.
    pub(super) fn value<T>(&self, name: &str, read: impl Fn(&Scalar<'_>) -> Result<T, Fault>) -> T {
        let key = self.key(name);
        let default = key.default.expect("only keys with a default are read with a default");
        let wanted = || format!("{}, or leave the key out for {default}", key.kind);
        let written = self.find(name).and_then(|at| at.scalar(&Lazily(wanted), &read));
        written.unwrap_or_else(|| Self::default(default, read))
    }

    /// A single value, or the table's default; `null` is none.
    pub(super) fn nullable<T>(
        &self,
        name: &str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        let key = self.key(name);
        debug_assert!(key.nullable, "`{name}` is read as nullable");
        match (self.find(name), key.default) {
            (Some(at), _) if at.is_null() => None,
            (Some(at), _) => at.scalar(&key.kind, &read),
            (None, Some("null") | None) => None,
            (None, Some(default)) => Some(Self::default(default, read)),
        }
    }

    /// A single value without a default: absent is none, and empty is a mistake.
    pub(super) fn given<T>(&self, name: &str, read: impl Fn(&Scalar<'_>) -> Result<T, Fault>) -> Option<T> {
        let key = self.key(name);
        self.find(name)?.scalar(&key.kind, &read)
    }

    /// As `given`, but absence is a problem of the section.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Fault>,
    ) -> Option<T> {
        if self.find(name).is_none() {
            let help = format!("add `{name}`: {}", self.key(name).kind);
            self.at.refuse(Fault::new(format!("`{name}` is missing"), help));
        }
        self.given(name, read)
    }

    fn default<T>(default: &'static str, read: impl Fn(&Scalar<'_>) -> Result<T, Fault>) -> T {
        read(&Scalar::plain(default)).expect("the table's defaults are valid")
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        let kind = &self.key(name).kind;
        self.value(name, |scalar| duration(scalar, kind))
    }

    pub(super) fn nullable_duration(&self, name: &str) -> Option<Duration> {
        let kind = &self.key(name).kind;
        self.nullable(name, |scalar| duration(scalar, kind))
    }

    /// A duration without a default.
    pub(super) fn given_duration(&self, name: &str) -> Option<Duration> {
        let kind = &self.key(name).kind;
        self.given(name, |scalar| duration(scalar, kind))
    }

    /// A port that must be given.
    pub(super) fn required_port(&self, name: &str) -> Option<u16> {
        let kind = &self.key(name).kind;
        let port = self.required(name, |scalar| count(scalar, kind))?;
        Some(u16::try_from(port).expect("the table's range ends at 65535"))
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        let kind = &self.key(name).kind;
        self.value(name, |scalar| size(scalar, kind))
    }

    pub(super) fn nullable_size(&self, name: &str) -> Option<u64> {
        let kind = &self.key(name).kind;
        self.nullable(name, |scalar| size(scalar, kind))
    }

    pub(super) fn count(&self, name: &str) -> u32 {
        let kind = &self.key(name).kind;
        self.value(name, |scalar| count(scalar, kind))
    }

    /// A count that the table lets begin at 1.
    pub(super) fn at_least_one(&self, name: &str) -> NonZeroU32 {
        NonZeroU32::new(self.count(name)).expect("the table's range begins at 1")
    }

    pub(super) fn nullable_count(&self, name: &str) -> Option<NonZeroU32> {
        let kind = &self.key(name).kind;
        self.nullable(name, |scalar| count(scalar, kind)).and_then(NonZeroU32::new)
    }

    pub(super) fn percent(&self, name: &str) -> Percent {
        let kind = &self.key(name).kind;
        self.value(name, |scalar| percent(scalar, kind))
    }

    pub(super) fn nullable_percent(&self, name: &str) -> Option<Percent> {
        let kind = &self.key(name).kind;
        self.nullable(name, |scalar| percent(scalar, kind))
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name, |scalar| {
            scalar.as_bool().ok_or_else(|| {
                Fault::new(
                    format!("{} is not true or false", quoted(&scalar.text)),
                    "write `true` or `false`, without quotes",
                )
            })
        })
    }

    /// One of the table's words; `values` says what each stands for.
    pub(super) fn choice<T: Clone>(&self, name: &str, values: &[(&'static str, T)]) -> T {
        let kind = &self.key(name).kind;
        debug_assert!(
            matches!(kind, KeyKind::Choice(names) if names.iter().eq(values.iter().map(|(name, _)| name))),
            "`{name}` takes other words in the table"
        );
        self.value(name, |scalar| choose(scalar, values))
    }
}

fn size(scalar: &Scalar<'_>, kind: &KeyKind) -> Result<u64, Fault> {
    let KeyKind::Size(least, most) = kind else { unreachable!("the key is a size in the table") };
    let size = units::size(&scalar.text).map_err(Fault::from)?;
    if (least..=most).contains(&&size) { Ok(size) } else { Err(out_of_range(scalar, kind)) }
}

/// One of several words.
pub(super) fn choose<T: Clone>(scalar: &Scalar<'_>, values: &[(&'static str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = values.iter().find(|(name, _)| *name == scalar.text) {
        return Ok(value.clone());
    }
    let names = values.iter().map(|(name, _)| *name);
    let unknown = format!("{} is not known here", quoted(&scalar.text));
    Err(match nearest(&scalar.text, names.clone()) {
        Some(name) => Fault { message: format!("{unknown}, did you mean `{name}`?"), help: None },
        None => {
            let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
            let (last, others) = names.split_last().expect("a choice has words");
            let or = if others.is_empty() { "" } else { " or " };
            Fault::new(unknown, format!("use {}{or}{last}", others.join(", ")))
        }
    })
}

pub(super) fn out_of_range(scalar: &Scalar<'_>, range: &KeyKind) -> Fault {
    Fault::new(format!("{} is out of range", quoted(&scalar.text).trim_matches('`')), format!("use {range}"))
}

pub(super) fn duration(scalar: &Scalar<'_>, kind: &KeyKind) -> Result<Duration, Fault> {
    let KeyKind::Duration(least, most) = kind else { unreachable!("the key is a duration in the table") };
    let duration = units::duration(&scalar.text).map_err(Fault::from)?;
    if (least..=most).contains(&&duration) { Ok(duration) } else { Err(out_of_range(scalar, kind)) }
}

fn count(scalar: &Scalar<'_>, kind: &KeyKind) -> Result<u32, Fault> {
    let KeyKind::Count(least, most) = kind else { unreachable!("the key is a count in the table") };
    if let Some(number) = scalar.as_number().filter(|number| (least..=most).contains(&number)) {
        return u32::try_from(number).map_err(|_| out_of_range(scalar, kind));
    }
    let digits = scalar.text.strip_prefix('-').unwrap_or(&scalar.text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::new(
            format!("{} is not a whole number", quoted(&scalar.text)),
            format!("use {kind}"),
        ));
    }
    if scalar.text.parse().is_ok_and(|number| (*least..=*most).contains(&number)) {
        return Err(Fault::new("is a number in quotes", format!("write {} without quotes", scalar.text)));
    }
    Err(out_of_range(scalar, kind))
}

fn percent(scalar: &Scalar<'_>, kind: &KeyKind) -> Result<Percent, Fault> {
    let KeyKind::Percent(least, most) = kind else { unreachable!("the key is a percentage in the table") };
    let percent: Percent = scalar.text.parse().map_err(Fault::from)?;
    if (*least..=*most).contains(&percent.0) { Ok(percent) } else { Err(out_of_range(scalar, kind)) }
}

/// Spelt out only when it is printed.
struct Lazily<F>(F);

impl<F: Fn() -> String> fmt::Display for Lazily<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.0)())
    }
}
