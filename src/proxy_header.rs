//! The PROXY protocol: who the client is, told by a proxy in front of the connection's own bytes.
//!
//! Both versions of <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, read and written. Ours, because the
//! `ppp` crate knows no checksums, gives a header no bound, and refuses a LOCAL one whose addresses it cannot read,
//! which section 2.2 has receivers skip.

use crate::config::plan::ProxyVersion;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its end included (section 2.1).
pub const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is taken; its addresses need 216 bytes at most, the rest is extensions.
pub const LONGEST_V2: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
const TYPE_CRC32C: u8 = 0x03;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderVerdict {
    /// More bytes are needed.
    Partial,
    /// A header of this many bytes.
    Complete { length: usize, origin: Origin },
    /// Not a header, or not one that can be believed; the text says why.
    Refused(&'static str),
}

/// Who is at the connection's far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The proxy itself, or it does not know: the connection's own addresses stand.
    Own,
    Inet {
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// A client on a unix socket of the proxy's.
    Unix,
}

/// Judges the bytes that a connection begins with.
pub fn parse(bytes: &[u8]) -> ProxyHeaderVerdict {
    let begins = |signature: &[u8]| {
        let n = bytes.len().min(signature.len());
        bytes[..n] == signature[..n]
    };
    match () {
        () if begins(V1) => v1(bytes),
        () if begins(V2) => v2(bytes),
        () => ProxyHeaderVerdict::Refused("no PROXY header"),
    }
}

fn v1(bytes: &[u8]) -> ProxyHeaderVerdict {
    let reach = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = reach.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() < LONGEST_V1 {
            true => ProxyHeaderVerdict::Partial,
            false => ProxyHeaderVerdict::Refused("PROXY header longer than 107 bytes"),
        };
    };
    let malformed = ProxyHeaderVerdict::Refused("malformed PROXY header");
    let Some(line) = reach.get(V1.len()..end) else { return malformed };
    let length = end + 2;
    // What follows UNKNOWN is to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return ProxyHeaderVerdict::Complete { length, origin: Origin::Own };
    }
    let Ok(line) = std::str::from_utf8(line) else { return malformed };
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (family, source, destination, source_port, destination_port) =
        (word(), word(), word(), word(), word());
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |text: &str| -> Option<u16> {
        let digits =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        digits.then(|| text.parse().ok()).flatten()
    };
    match (address(source), address(destination), port(source_port), port(destination_port), words.next()) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port), None) => {
            let origin = Origin::Inet {
                source: SocketAddr::new(source, source_port),
                destination: SocketAddr::new(destination, destination_port),
            };
            ProxyHeaderVerdict::Complete { length, origin }
        }
        _ => malformed,
    }
}

fn v2(bytes: &[u8]) -> ProxyHeaderVerdict {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return ProxyHeaderVerdict::Partial };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_V2 {
        return ProxyHeaderVerdict::Refused("PROXY header longer than 4096 bytes");
    }
    let known = matches!(command, 0x20 | 0x21) && family >> 4 <= 3 && family & 0xf <= 2;
    if !known {
        return ProxyHeaderVerdict::Refused(
            "PROXY header of a version, command or family that does not exist",
        );
    }
    let Some(header) = bytes.get(..length) else { return ProxyHeaderVerdict::Partial };
    let body = &header[FIXED..];
    let addresses = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    // LOCAL: the rest is to be skipped, whatever it is. Without a family nobody knows where extensions begin.
    if command == 0x20 || addresses == 0 {
        return ProxyHeaderVerdict::Complete { length, origin: Origin::Own };
    }
    let Some((addresses, extensions)) = body.split_at_checked(addresses) else {
        return ProxyHeaderVerdict::Refused("PROXY header shorter than its addresses");
    };
    if let Err(detail) = check_extensions(header, extensions) {
        return ProxyHeaderVerdict::Refused(detail);
    }
    let origin = match family {
        0x11 => inet::<4>(addresses),
        0x21 => inet::<16>(addresses),
        0x30..=0x32 => Origin::Unix,
        // Of a datagram, which this connection is not.
        _ => Origin::Own,
    };
    ProxyHeaderVerdict::Complete { length, origin }
}

/// Two addresses of `N` bytes and two ports.
fn inet<const N: usize>(bytes: &[u8]) -> Origin
where
    IpAddr: From<[u8; N]>,
{
    let address = |at: usize| bytes[at..].first_chunk::<N>().map(|octets| IpAddr::from(*octets));
    let port = |at: usize| bytes[at..].first_chunk().map(|port| u16::from_be_bytes(*port));
    match (address(0), address(N), port(2 * N), port(2 * N + 2)) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port)) => Origin::Inet {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        },
        _ => Origin::Own,
    }
}

/// Walks the extensions (type, length, value); only a checksum is looked at.
fn check_extensions(header: &[u8], extensions: &[u8]) -> Result<(), &'static str> {
    let mut rest = extensions;
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, next)) = after.split_at_checked(length) else {
            return Err("PROXY header with an extension that goes beyond it");
        };
        if kind == TYPE_CRC32C {
            let at = header.len() - next.len() - value.len();
            let Ok(sum) = <[u8; 4]>::try_from(value) else {
                return Err("PROXY header with a malformed checksum");
            };
            // Computed with its own bytes taken for zeroes (section 2.2.3).
            let parts = [&header[..at], &[0; 4], &header[at + 4..]];
            if u32::from_be_bytes(sum) != crc32c(parts) {
                return Err("PROXY header with a wrong checksum");
            }
        }
        rest = next;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err("PROXY header with an extension that goes beyond it"),
    }
}

/// RFC 3720, appendix B.4: the reversed Castagnoli polynomial.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut sum, mut bit) = (byte as u32, 0);
            while bit < 8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
                bit += 1;
            }
            table[byte] = sum;
            byte += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)];
    !parts.into_iter().flatten().fold(!0, step)
}

/// What a header of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A connection of our own, as probes are, or a client without an address. HAProxy too calls both LOCAL: its
    /// older versions refuse a header of version 2 that is about a client and has no address.
    Nobody,
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

impl ProxyHeader {
    /// A client's connection by its two addresses, as far as they are known.
    pub fn client(source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Self {
        match (source, destination) {
            (Some(source), Some(destination)) => Self::Client { source, destination },
            _ => Self::Nobody,
        }
    }
}

/// The header's bytes.
pub fn write(version: ProxyVersion, about: ProxyHeader) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => write_v1(about),
        ProxyVersion::V2 => write_v2(about),
    }
}

fn write_v1(about: ProxyHeader) -> Vec<u8> {
    let text = match about {
        ProxyHeader::Nobody => "PROXY UNKNOWN\r\n".to_owned(),
        ProxyHeader::Client { source, destination } => {
            let (from, to) = same_family(source.ip(), destination.ip());
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
    };
    text.into_bytes()
}

fn write_v2(about: ProxyHeader) -> Vec<u8> {
    let mut header = V2.to_vec();
    match about {
        ProxyHeader::Nobody => header.extend([0x20, 0, 0, 0]),
        ProxyHeader::Client { source, destination } => {
            match same_family(source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.extend([0x21, 0x11, 0, 12]);
                    header.extend(from.octets());
                    header.extend(to.octets());
                }
                (from, to) => {
                    header.extend([0x21, 0x21, 0, 36]);
                    header.extend(in_v6(from).octets());
                    header.extend(in_v6(to).octets());
                }
            }
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
        }
    }
    header
}

fn in_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A header has one family: an IPv4 address beside an IPv6 one is written as an IPv6 one.
fn same_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    match one.is_ipv4() == other.is_ipv4() {
        true => (one, other),
        false => (in_v6(one).into(), in_v6(other).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2 with this command, family and body.
    fn v2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    /// 192.0.2.7:40000 to 198.51.100.1:443.
    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb];

    fn from(text: &str) -> Origin {
        let (source, destination) = text.split_once(" > ").unwrap();
        Origin::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn check(bytes: &[u8], expected: ProxyHeaderVerdict) {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(parse(bytes), expected, "{shown:?}");
        if let ProxyHeaderVerdict::Complete { length, .. } = expected {
            for n in 0..length {
                assert_eq!(parse(&bytes[..n]), ProxyHeaderVerdict::Partial, "{n} bytes of {shown:?}");
            }
            assert_eq!(parse(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), expected, "what follows is no part");
        }
    }

    fn taken(bytes: &[u8], origin: Origin) {
        check(bytes, ProxyHeaderVerdict::Complete { length: bytes.len(), origin });
    }

    #[test]
    fn headers_of_version_1_are_read() {
        taken(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n", from("192.0.2.7:40000 > 198.51.100.1:443"));
        taken(b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", from("[2001:db8::7]:0 > [::1]:65535"));
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let unknown = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
        assert_eq!(unknown.len(), LONGEST_V1);
        taken(unknown.as_bytes(), Origin::Own);
        taken(b"PROXY UNKNOWN\r\n", Origin::Own);
        taken(b"PROXY UNKNOWN \xff whatever\r\n", Origin::Own);
    }

    #[test]
    fn what_is_no_header_of_version_1_is_refused() {
        for malformed in [
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443 \r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 40000 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 040000 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +4 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY TCP4 192.0.2.7\n198.51.100.1 1 443\r\n",
        ] {
            assert!(matches!(parse(malformed.as_bytes()), ProxyHeaderVerdict::Refused(_)), "{malformed:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(LONGEST_V1));
        check(endless.as_bytes(), ProxyHeaderVerdict::Refused("PROXY header longer than 107 bytes"));
        for other in ["GET / HTTP/1.1\r\n", "\x16\x03\x01", "proxy TCP4", "X", "\r\n\r\nX", "PROXYX"] {
            check(other.as_bytes(), ProxyHeaderVerdict::Refused("no PROXY header"));
        }
    }

    #[test]
    fn headers_of_version_2_are_read() {
        taken(&v2_of(0x21, 0x11, &V4), from("192.0.2.7:40000 > 198.51.100.1:443"));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (7, 1, 80, 81);
        taken(&v2_of(0x21, 0x21, &v6), from("[::7]:80 > [::1]:81"));
        taken(&v2_of(0x21, 0x31, &[b'x'; 216]), Origin::Unix);
        let with_extensions = [&V4[..], &[0x04, 0, 0], &[0xea, 0, 2, 1, 2]].concat();
        taken(&v2_of(0x21, 0x11, &with_extensions), from("192.0.2.7:40000 > 198.51.100.1:443"));
        for (command, family, body) in [
            (0x20, 0x00, &b""[..]),
            (0x20, 0x11, b""),
            (0x20, 0x00, b"\xff\xff"),
            (0x21, 0x00, b"abc"),
            (0x21, 0x12, &V4),
        ] {
            taken(&v2_of(command, family, body), Origin::Own);
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        for (command, family, body) in [
            (0x11, 0x11, &V4[..]),
            (0x22, 0x11, &V4),
            (0x21, 0x41, &V4),
            (0x21, 0x13, &V4),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x31, &[0; 215]),
            (0x21, 0x11, &[&V4[..], &[0x04, 0]].concat()),
            (0x21, 0x11, &[&V4[..], &[0x04, 0, 1]].concat()),
            (0x21, 0x11, &[&V4[..], &[TYPE_CRC32C, 0, 3, 0, 0, 0]].concat()),
            (0x21, 0x11, &[0; LONGEST_V2]),
        ] {
            let header = v2_of(command, family, body);
            assert!(
                matches!(parse(&header), ProxyHeaderVerdict::Refused(_)),
                "{command:#x} {family:#x} {}",
                body.len()
            );
        }
    }

    #[test]
    fn a_checksum_must_be_right() {
        assert_eq!(crc32c([b"1234", b"5678", b"9"]), 0xe306_9283, "the check value of RFC 3720");
        let body = [&V4[..], &[0x04, 0, 1, 9, TYPE_CRC32C, 0, 4, 0, 0, 0, 0, 0x04, 0, 0]].concat();
        let mut header = v2_of(0x21, 0x11, &body);
        let at = header.len() - 7;
        let sum = crc32c([&header, &[], &[]]).to_be_bytes();
        header[at..at + 4].copy_from_slice(&sum);
        taken(&header, from("192.0.2.7:40000 > 198.51.100.1:443"));
        // But for the one byte that makes it a checksum.
        for place in (FIXED..header.len()).filter(|place| header[*place] != TYPE_CRC32C) {
            let mut damaged = header.clone();
            damaged[place] ^= 0x10;
            assert!(matches!(parse(&damaged), ProxyHeaderVerdict::Refused(_)), "damaged at {place}");
        }
    }

    #[test]
    fn headers_of_our_own_say_what_they_should() {
        let [v1, v2] = [ProxyVersion::V1, ProxyVersion::V2];
        let about = |source: &str, destination: &str| {
            ProxyHeader::client(source.parse().ok(), destination.parse().ok())
        };
        let text = |about| String::from_utf8(write(v1, about)).unwrap();
        assert_eq!(text(about("192.0.2.7:1", "198.51.100.1:2")), "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n");
        assert_eq!(text(about("192.0.2.7:1", "[::1]:2")), "PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n");
        assert_eq!(text(ProxyHeader::client(None, "[::1]:2".parse().ok())), "PROXY UNKNOWN\r\n");
        assert_eq!(write(v2, ProxyHeader::Nobody), v2_of(0x20, 0, b""));
        assert_eq!(write(v2, about("192.0.2.7:40000", "198.51.100.1:443")), v2_of(0x21, 0x11, &V4));
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
            any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
        ]
    }

    proptest! {
        #[test]
        fn what_we_write_is_what_we_read(source in address(), destination in address()) {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let header = write(version, ProxyHeader::Client { source, destination });
                let ProxyHeaderVerdict::Complete { length, origin: Origin::Inet { source: s, destination: d } } = parse(&header)
                else { panic!("{:?}", parse(&header)) };
                prop_assert_eq!(length, header.len());
                let same = |one: SocketAddr, other: SocketAddr| {
                    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
                };
                prop_assert!(same(s, source) && same(d, destination));
            }
        }

        /// Any bytes, most of them after a beginning that leads somewhere.
        #[test]
        fn no_bytes_bring_it_down(
            start in prop::sample::select(vec![&b""[..], V1, V2, b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20"]),
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [start, &rest].concat();
            if let ProxyHeaderVerdict::Complete { length, .. } = parse(&bytes) {
                prop_assert!(length <= bytes.len());
                prop_assert_eq!(parse(&bytes[..length]), parse(&bytes));
            }
        }
    }
}
