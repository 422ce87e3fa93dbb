//! Which responses are compressed, and how.

use std::fmt;

/// A coding of content (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// RFC 8878, in a window that RFC 9659 allows.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    /// The quickest for what it saves first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// As fields have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// What a policy says of compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressPlan {
    /// Where a client likes several as much, the first of them.
    pub encodings: Vec<Encoding>,
    /// What is known to be shorter stays as it is.
    pub min: u64,
    pub types: Vec<MediaTypes>,
    pub level: CompressLevels,
    /// Event streams (`text/event-stream`), each event as it comes.
    pub streams: bool,
}

/// How hard each coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressLevels {
    pub gzip: u8,
    pub br: u8,
    pub zstd: u8,
}

impl CompressLevels {
    /// That of one coding.
    pub fn of(self, encoding: Encoding) -> u8 {
        match encoding {
            Encoding::Gzip => self.gzip,
            Encoding::Br => self.br,
            Encoding::Zstd => self.zstd,
        }
    }
}

/// Media types as they are listed, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaTypes {
    /// `application/json`
    One(String),
    /// `text/*`, which is kept with its slash and without its star.
    Below(String),
}

impl fmt::Display for MediaTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => f.write_str(one),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl MediaTypes {
    /// Whether this type, which has no parameters, is one of them; its case makes no difference.
    pub fn has(&self, media_type: &[u8]) -> bool {
        match self {
            Self::One(one) => media_type.eq_ignore_ascii_case(one.as_bytes()),
            Self::Below(prefix) => media_type
                .get(..prefix.len())
                .is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix.as_bytes())),
        }
    }
}
