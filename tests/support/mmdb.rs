//! Databases in MaxMind's format (MaxMind DB File Format 2.0), small and made here.

use std::net::{IpAddr, Ipv6Addr};

/// A value of the data section.
enum Value<'a> {
    Text(&'a str),
    U16(u16),
    U32(u32),
    U64(u64),
    Map(Vec<(&'a str, Value<'a>)>),
    List(Vec<Value<'a>>),
}

/// Up to 284 bytes or items: more is not needed here.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more) = if size < 29 { (size as u8, None) } else { (29, Some((size - 29) as u8)) };
    match kind {
        0..=7 => out.push(kind << 5 | low),
        extended => out.extend([low, extended - 7]),
    }
    out.extend(more);
}

fn number(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    control(kind, significant.len(), out);
    out.extend(significant);
}

fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::U16(n) => number(5, &n.to_be_bytes(), out),
        Value::U32(n) => number(6, &n.to_be_bytes(), out),
        Value::U64(n) => number(9, &n.to_be_bytes(), out),
        Value::Map(entries) => {
            control(7, entries.len(), out);
            for (key, value) in entries {
                write(&Value::Text(key), out);
                write(value, out);
            }
        }
        Value::List(items) => {
            control(11, items.len(), out);
            items.iter().for_each(|item| write(item, out));
        }
    }
}

/// A node's record, until it is known how many nodes there are.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

/// Networks with what is said of each, which must not be parts of others.
fn database(kind: &str, networks: &[(&str, Value<'_>)]) -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[Record::Nothing; 2]], Vec::new());
    for (network, value) in networks {
        let (address, length) = network.split_once('/').expect("a network");
        let address: IpAddr = address.parse().expect("an address");
        let length: usize = length.parse().expect("a length");
        // IPv4 lies below ::/96.
        let (bits, length) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), length + 96),
            IpAddr::V6(v6) => (Ipv6Addr::to_bits(v6), length),
        };
        let bit = |at: usize| (bits >> (127 - at) & 1) as usize;
        let mut node = 0;
        for at in 0..length - 1 {
            node = match nodes[node][bit(at)] {
                Record::Node(next) => next,
                _ => {
                    nodes.push([Record::Nothing; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][bit(at)] = Record::Node(next);
                    next
                }
            };
        }
        nodes[node][bit(length - 1)] = Record::Data(data.len());
        write(value, &mut data);
    }
    let mut bytes = Vec::new();
    let count = nodes.len();
    for record in nodes.iter().flatten() {
        let number = match record {
            Record::Nothing => count,
            Record::Node(node) => *node,
            Record::Data(at) => count + 16 + at,
        };
        bytes.extend_from_slice(&u32::try_from(number).expect("small").to_be_bytes()[1..]);
    }
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend(data);
    bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::U16(2)),
        ("binary_format_minor_version", Value::U16(0)),
        ("build_epoch", Value::U64(1_764_000_000)),
        ("database_type", Value::Text(kind)),
        ("description", Value::Map(vec![("en", Value::Text("made by a test"))])),
        ("ip_version", Value::U16(6)),
        ("languages", Value::List(Vec::new())),
        ("node_count", Value::U32(u32::try_from(count).expect("small"))),
        ("record_size", Value::U16(24)),
    ]);
    write(&metadata, &mut bytes);
    bytes
}

/// Which country each network is in.
pub(crate) fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let country = |code| Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Text(code))]))]);
    let all: Vec<_> = networks.iter().map(|(network, code)| (*network, country(code))).collect();
    database("Test-Country", &all)
}

/// The same as IPinfo has it.
pub(crate) fn flat_countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let country = |code| Value::Map(vec![("country_code", Value::Text(code))]);
    let all: Vec<_> = networks.iter().map(|(network, code)| (*network, country(code))).collect();
    database("Test-Flat", &all)
}

/// Which autonomous system each network belongs to.
pub(crate) fn systems(networks: &[(&str, u32)]) -> Vec<u8> {
    let system = |number| Value::Map(vec![("autonomous_system_number", Value::U32(number))]);
    let all: Vec<_> = networks.iter().map(|(network, number)| (*network, system(*number))).collect();
    database("Test-ASN", &all)
}
