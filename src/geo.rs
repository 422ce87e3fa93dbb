//! Which country an address belongs to, and which autonomous system, by databases in MaxMind's format.

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Two letters, as ISO 3166-1 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    pub fn as_str(&self) -> &str {
        // Letters of ASCII, by all ways to make one.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Country {
    type Err = String;

    /// In capitals or not.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Ok(Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
            }
            _ => Err(format!("`{text}` is not a country; write its two letters, like `DE` (ISO 3166-1)")),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of an autonomous system: a network with one operator (RFC 4271, RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asn(pub u32);

impl FromStr for Asn {
    type Err = String;

    /// `64500` or `AS64500`.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if is_number && number > 0 => Ok(Self(number)),
            _ => Err(format!(
                "`{text}` is not the number of an autonomous system; write it like `64500` or `AS64500`"
            )),
        }
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a client is. What no database knows is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub country: Option<Country>,
    pub asn: Option<Asn>,
}

/// What a database is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeoKind {
    Country,
    Asn,
}

impl GeoKind {
    /// Its key below `geo`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Asn => "asn",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Country => "countries",
            Self::Asn => "autonomous systems",
        }
    }
}

/// A database whose file may change while it is in use: what was read of it last is in use everywhere at once.
#[derive(Debug)]
pub struct GeoDatabase {
    pub kind: GeoKind,
    pub file: PathBuf,
    content: ArcSwapOption<GeoContent>,
    /// Why the file could not be read again; what was read before is in use.
    fault: ArcSwapOption<String>,
}

/// By what is configured; what the file has is not compared.
impl PartialEq for GeoDatabase {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.file == other.file
    }
}

/// A database as it was read.
pub struct GeoContent {
    reader: Reader<Vec<u8>>,
    /// By which its reader knows the file again.
    pub version: u64,
}

impl fmt::Debug for GeoContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoContent").field("type", &self.reader.metadata().database_type).finish()
    }
}

/// Networks that are looked at to see whether a database has what it is for.
const SAMPLE: usize = 1000;

impl GeoContent {
    /// Takes a whole file, and goes through all of it, so that no look-up meets anything broken.
    ///
    /// # Errors
    /// What is wrong with it; what would work.
    pub fn read(bytes: Vec<u8>, kind: GeoKind, version: u64) -> Result<Self, String> {
        let broken = |error: maxminddb::MaxMindDbError| {
            format!("is no whole database: {error}; download it anew, as an `.mmdb` file")
        };
        let reader = Reader::from_source(bytes).map_err(broken)?;
        reader.verify().map_err(broken)?;
        let content = Self { reader, version };
        let networks = content.reader.networks(Default::default()).map_err(broken)?;
        let has_any =
            networks.take(SAMPLE).flatten().any(|network| content.of_network(&network, kind).is_some());
        match has_any {
            true => Ok(content),
            false => Err(format!(
                "is a database of {}, which has no {}; name one that has",
                content.reader.metadata().database_type,
                kind.in_words()
            )),
        }
    }

    /// `GeoLite2-Country, made at 1764374400`, in seconds since 1970; as events have it.
    pub fn told(&self) -> String {
        format!("{}, made at {}", self.reader.metadata().database_type, self.built())
    }

    /// When it was made, in seconds since 1970.
    pub fn built(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    fn of_network(&self, network: &maxminddb::LookupResult<'_, Vec<u8>>, kind: GeoKind) -> Option<Location> {
        let text = |path: &[PathElement<'_>]| network.decode_path::<&str>(path).ok().flatten();
        match kind {
            // MaxMind's and DB-IP's, then IPinfo's.
            GeoKind::Country => {
                let code = text(&[PathElement::Key("country"), PathElement::Key("iso_code")])
                    .or_else(|| text(&[PathElement::Key("country_code")]))
                    .or_else(|| text(&[PathElement::Key("country")]))?;
                Some(Location { country: Some(code.parse().ok()?), asn: None })
            }
            GeoKind::Asn => {
                let number = network
                    .decode_path::<u32>(&[PathElement::Key("autonomous_system_number")])
                    .ok()
                    .flatten();
                let asn = match number {
                    Some(number) => Asn(number),
                    None => text(&[PathElement::Key("asn")])?.parse().ok()?,
                };
                Some(Location { country: None, asn: Some(asn) })
            }
        }
    }
}

impl GeoDatabase {
    /// It knows nothing until its file is read.
    pub fn new(kind: GeoKind, file: PathBuf) -> Self {
        Self { kind, file, content: ArcSwapOption::empty(), fault: ArcSwapOption::empty() }
    }

    /// Puts in use what was read of the file.
    pub fn set(&self, content: GeoContent) {
        self.content.store(Some(Arc::new(content)));
        self.fault.store(None);
    }

    /// Notes why the file could not be read.
    pub fn set_fault(&self, fault: String) {
        self.fault.store(Some(Arc::new(fault)));
    }

    /// Why the file could not be read when it last was to be.
    pub fn fault(&self) -> Option<Arc<String>> {
        self.fault.load_full()
    }

    /// What is in use.
    pub fn content(&self) -> Option<Arc<GeoContent>> {
        self.content.load_full()
    }

    fn locate(&self, client: IpAddr) -> Option<Location> {
        let content = self.content.load();
        let content = content.as_ref()?;
        content.of_network(&content.reader.lookup(client).ok()?, self.kind)
    }
}

/// The databases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geo {
    pub country: Option<Arc<GeoDatabase>>,
    pub asn: Option<Arc<GeoDatabase>>,
}

impl Geo {
    pub fn databases(&self) -> impl Iterator<Item = &Arc<GeoDatabase>> {
        self.country.iter().chain(&self.asn)
    }

    pub fn is_empty(&self) -> bool {
        self.databases().next().is_none()
    }

    /// Where a client is; one behind a unix socket is nowhere.
    pub fn locate(&self, client: Option<IpAddr>) -> Location {
        let ask = |database: &Option<Arc<GeoDatabase>>| {
            client.and_then(|client| database.as_ref()?.locate(client.to_canonical())).unwrap_or_default()
        };
        Location { country: ask(&self.country).country, asn: ask(&self.asn).asn }
    }
}

/// Who is meant: by places that are, and places that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowDeny<T> {
    /// Empty is everybody.
    pub allow: Vec<T>,
    pub deny: Vec<T>,
}

impl<T> Default for AllowDeny<T> {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_and_systems_are_read_as_people_write_them() {
        for (text, code) in [("DE", Some("DE")), ("no", Some("NO")), ("D", None), ("DEU", None), ("D1", None)]
        {
            assert_eq!(text.parse::<Country>().ok().as_ref().map(Country::as_str), code, "{text}");
        }
        for (text, number) in [
            ("64500", Some(64500)),
            ("AS13335", Some(13335)),
            ("as1", Some(1)),
            ("AS", None),
            ("+1", None),
            ("0", None),
        ] {
            assert_eq!(text.parse::<Asn>().ok().map(|asn| asn.0), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused_and_nobody_is_anywhere_without_one() {
        for bytes in [&b""[..], b"text", &[0; 4096]] {
            let refused = GeoContent::read(bytes.to_vec(), GeoKind::Country, 1).expect_err("it is none");
            assert!(refused.contains("is no whole database"), "{refused}");
        }
        let geo = Geo {
            country: Some(Arc::new(GeoDatabase::new(GeoKind::Country, "country.mmdb".into()))),
            asn: None,
        };
        assert_eq!(geo.locate("192.0.2.1".parse().ok()), Location::default());
    }
}
