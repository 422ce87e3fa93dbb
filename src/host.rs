//! Hosts as requests name them: which spellings mean the same (RFC 3986 section 6.2, RFC 9110 section 4.2.3).

use std::fmt::Write as _;
use std::net::Ipv6Addr;

/// A DNS name is no longer than 253 bytes (RFC 1035, section 2.3.4), so a longer host is nobody's.
const LONGEST: usize = 253;

/// Room for a host in its one spelling.
#[derive(Debug)]
pub struct Spelling {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Default for Spelling {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }
}

impl std::fmt::Write for Spelling {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

impl Spelling {
    /// The host of `host[:port]` in lower case, without a trailing dot, an IPv6 address in its shortest form (RFC 5952); empty if
    /// it is too long to be one.
    pub fn of(&mut self, authority: &str) -> &str {
        self.length = 0;
        let (host, _) = split(authority);
        let address =
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
        let written = match address {
            Some(address) => write!(self, "[{address}]"),
            None => self.write_str(host.strip_suffix('.').unwrap_or(host)),
        };
        let length = if written.is_ok() { self.length } else { 0 };
        self.bytes[..length].make_ascii_lowercase();
        std::str::from_utf8(&self.bytes[..length]).expect("ASCII lower case keeps UTF-8 as it is")
    }
}

/// A host and its port, as they are written; an empty port is none.
fn split(authority: &str) -> (&str, Option<&str>) {
    let bytes = authority.as_bytes();
    let end = match bytes.first() {
        Some(b'[') => memchr::memchr(b']', bytes).map_or(bytes.len(), |bracket| bracket + 1),
        _ => memchr::memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, port) = authority.split_at(end);
    (host, port.strip_prefix(':').filter(|port| !port.is_empty()))
}

/// The host of `host[:port]` as it is written.
pub fn without_port(authority: &str) -> &str {
    split(authority).0
}

/// Whether two authorities of this scheme mean the same place.
pub fn is_same(one: &str, other: &str, scheme: &str) -> bool {
    if one == other {
        return true;
    }
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let port = |authority| match split(authority).1 {
        None => Some(default),
        Some(digits) => digits.parse::<u16>().ok(),
    };
    let (mut first, mut second) = (Spelling::default(), Spelling::default());
    let (one_host, other_host) = (first.of(one), second.of(other));
    !one_host.is_empty() && one_host == other_host && port(one).is_some() && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (written, spelt) in [
            ("shop.example", "shop.example"),
            ("SHOP.Example:8443", "shop.example"),
            ("shop.example.:80", "shop.example"),
            ("shop.example..", "shop.example."),
            ("[::1]:8080", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::00:1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.7]", "[::ffff:192.0.2.7]"),
            ("[nonsense]", "[nonsense]"),
            (":80", ""),
            ("", ""),
        ] {
            assert_eq!(Spelling::default().of(written), spelt, "{written}");
        }
        assert_eq!(Spelling::default().of(&"x".repeat(254)), "");
    }

    #[test]
    fn spellings_of_one_place_are_the_same() {
        for (one, other, scheme, same) in [
            ("a", "a:80", "http", true),
            ("a:", "a", "http", true),
            ("A.example.", "a.EXAMPLE:080", "http", true),
            ("a:443", "a", "https", true),
            ("a:443", "a", "http", false),
            ("a:80", "a", "https", false),
            ("a:80", "a", "HTTP", true),
            ("a:8080", "a", "http", false),
            ("a", "b", "http", false),
            ("[::1]", "[0::1]:80", "http", true),
            ("[::1]", "[::2]", "http", false),
            ("a:99999", "a:99999.", "http", false),
            ("", "", "http", true),
            ("", ":80", "http", false),
        ] {
            assert_eq!(is_same(one, other, scheme), same, "{one} {other} {scheme}");
            assert_eq!(is_same(other, one, scheme), same, "{other} {one} {scheme}");
        }
    }
}
