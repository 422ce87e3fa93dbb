//! What a key of the configuration is: its kind, range and default.

use std::fmt;
use std::time::Duration;

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: KeyKind,
    /// As it would be written; `None` when the key must be given, or when one of several must.
    pub default: Option<&'static str>,
    /// `null` switches it off.
    pub nullable: bool,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    Duration(Duration, Duration),
    Size(u64, u64),
    Count(u64, u64),
    Percent(u32, u32),
    Flag,
    Choice(&'static [&'static str]),
    /// A text; the words say which.
    Text(&'static str),
    /// A list of such texts.
    List(&'static str),
    Section(&'static [Key]),
    /// A section under a name that the operator chooses.
    Named(&'static [Key]),
    /// Under a name that the operator chooses a list of such texts, or a section.
    NamedListsOr(&'static str, &'static [Key]),
    /// A list of sections under a name that the operator chooses.
    NamedLists(&'static [Key]),
    /// Sections under names that the operator chooses, beside keys of the section itself.
    NamedBeside(&'static [Key], &'static [Key]),
    /// A list of sections.
    Sections(&'static [Key]),
    /// A section, or a short form in one word.
    Either(&'static str, &'static [Key]),
    /// A list of sections, or of short forms in one word.
    ListOfEither(&'static str, &'static [Key]),
    /// One word, a section, or a list of such.
    EitherOrList(&'static str, &'static [Key]),
    /// One word, or a list of texts.
    WordOrList(&'static str, &'static str),
    /// Names that the operator chooses, with a text each.
    Texts(&'static str),
    /// The same where `null` takes one away that was said before.
    TextsOrNull(&'static str),
}

pub(super) const fn key(name: &'static str, kind: KeyKind, default: &'static str) -> Key {
    Key { name, kind, default: Some(default), nullable: false }
}

/// A key that `null` switches off.
pub(super) const fn nullable(name: &'static str, kind: KeyKind, default: &'static str) -> Key {
    Key { name, kind, default: Some(default), nullable: true }
}

/// A key without a default.
pub(super) const fn given(name: &'static str, kind: KeyKind) -> Key {
    Key { name, kind, default: None, nullable: false }
}

/// Lists of countries and of autonomous systems.
pub(super) const COUNTRIES: KeyKind = KeyKind::List("countries by their two letters, like `DE`");
pub(super) const ASNS: KeyKind = KeyKind::List("numbers of autonomous systems, like `64500`");

/// Lists of networks, wherever they stand.
pub(super) const NETWORK_LIST: KeyKind =
    KeyKind::List("networks, like `10.0.0.0/8`, IP addresses, or names under `networks`");

/// Two tables as one.
pub(super) const fn joined<const N: usize>(one: &[Key], other: &[Key]) -> [Key; N] {
    let mut all = [given("", KeyKind::Flag); N];
    let mut at = 0;
    while at < N {
        all[at] = if at < one.len() { one[at] } else { other[at - one.len()] };
        at += 1;
    }
    all
}

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

impl KeyKind {
    /// The keys below, and what stands between the key's own name and theirs.
    pub(super) fn below(&self) -> Option<(&'static str, &'static [Key])> {
        match self {
            Self::Section(keys) | Self::Either(_, keys) | Self::EitherOrList(_, keys) => Some(("", keys)),
            Self::Named(keys) | Self::NamedListsOr(_, keys) | Self::NamedBeside(keys, _) => {
                Some((".NAME", keys))
            }
            Self::NamedLists(keys) => Some((".NAME[]", keys)),
            Self::Sections(keys) | Self::ListOfEither(_, keys) => Some(("[]", keys)),
            _ => None,
        }
    }
}

impl fmt::Display for KeyKind {
    /// The range as messages and the reference print it: `10ms to 1h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(least, most) => write!(f, "{} to {}", spell(*least), spell(*most)),
            Self::Size(least, most) => write!(f, "{} to {}", spell_size(*least), spell_size(*most)),
            Self::Count(least, most) => write!(f, "{least} to {most}"),
            Self::Percent(least, most) => write!(f, "{least}% to {most}%"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Choice([only]) => write!(f, "`{only}`"),
            Self::Choice(names) => {
                let (last, others) = names.split_last().expect("a choice has names");
                let others: Vec<_> = others.iter().map(|name| format!("`{name}`")).collect();
                write!(f, "{} or `{last}`", others.join(", "))
            }
            Self::Text(what) => f.write_str(what),
            Self::List(what) => write!(f, "a list: {what}"),
            Self::WordOrList(word, what) => write!(f, "`{word}`, or a list: {what}"),
            Self::Texts(what) | Self::TextsOrNull(what) => write!(f, "names with a text each: {what}"),
            Self::Section(_) => f.write_str("a section"),
            Self::Named(_) => f.write_str("names with a section each"),
            Self::NamedListsOr(what, _) => write!(f, "names with a list each ({what}), or with a section"),
            Self::NamedLists(_) => f.write_str("names with a list of sections each"),
            Self::NamedBeside(..) => f.write_str("a section, and in it names with a section each"),
            Self::Sections(_) => f.write_str("a list of sections"),
            Self::Either(short, _) => write!(f, "{short}, or a section"),
            Self::EitherOrList(short, _) => write!(f, "{short}, a section, or a list of them"),
            Self::ListOfEither(short, _) => write!(f, "a list; each item is {short} or a section"),
        }
    }
}

/// The shortest way to write a duration.
pub(in crate::config) fn spell(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms > DAY.as_millis() && ms.is_multiple_of(DAY.as_millis()) => {
            format!("{}d", ms / DAY.as_millis())
        }
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms > 60_000 && ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// The shortest way to write a size.
pub(crate) fn spell_size(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}
