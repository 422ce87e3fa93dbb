//! Networks as operators write them, one by one or as a list in a file.

use super::NetworkSet;
use ipnet::IpNet;
use std::net::IpAddr;

/// More would be a mistake: the whole internet has fewer routes.
pub const MOST_IN_A_LIST: usize = 1_000_000;

/// What is wrong with a list, on which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ListFault {
    pub line: usize,
    /// And what would work.
    pub what: String,
}

/// Reads `10.0.0.0/8`, or an address as the network of it alone.
///
/// # Errors
/// What is wrong; what would work.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("{} is not a network; write it like `10.0.0.0/8` or `2001:db8::/32`", quoted(text))
    })?;
    if network != network.trunc() {
        let (whole, address) = (network.trunc(), network.addr());
        return Err(format!(
            "{network} has bits set beyond its prefix; write `{whole}` for the network or `{address}` for the one address"
        ));
    }
    Ok(network)
}

/// Reads a list: a network or an address on each line. What follows `#` or `;` is for people.
///
/// # Errors
/// The first line that is wrong.
pub fn read_list(bytes: &[u8]) -> Result<(NetworkSet, usize), ListFault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut networks = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let end = memchr::memchr2(b'#', b';', line).unwrap_or(line.len());
        let line_text = line[..end].trim_ascii();
        if line_text.is_empty() {
            continue;
        }
        let fault = |what| ListFault { line: index + 1, what };
        if networks.len() == MOST_IN_A_LIST {
            let most = format!("is network number {}; use no more than {MOST_IN_A_LIST}", MOST_IN_A_LIST + 1);
            return Err(fault(most));
        }
        let text = str::from_utf8(line_text).map_err(|_| {
            let shown = quoted(&String::from_utf8_lossy(line_text));
            fault(format!("{shown} is not a network; write it like `10.0.0.0/8` or `2001:db8::/32`"))
        })?;
        networks.push(network(text).map_err(fault)?);
    }
    let n_networks = networks.len();
    Ok((networks.into_iter().collect(), n_networks))
}

/// A text from a file inside a message: cut short, and without what steers a terminal.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "..." } else { "" };
    format!("`{cut}{more}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(list: &str, expected: &str) {
        let read = match read_list(list.as_bytes()) {
            Ok((set, n)) => format!("{n} networks, {} ranges", set.n_ranges()),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(read, expected, "{list:?}");
    }

    #[test]
    fn a_list_has_one_network_on_each_line() {
        check("", "0 networks, 0 ranges");
        check("10.0.0.0/8\n192.0.2.1\n2001:db8::/32", "3 networks, 3 ranges");
        check("\u{feff}10.0.0.0/8\r\n\r\n  # office\r\n 192.0.2.0/24 # shop\r\n", "2 networks, 2 ranges");
        check("; a list of others\n192.0.2.0/24 ; SBL1\n", "1 networks, 1 ranges");
        check("10.0.0.0/8\n10.0.0.0/8\n", "2 networks, 1 ranges");
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_what_would_work() {
        const LIKE: &str = "write it like `10.0.0.0/8` or `2001:db8::/32`";
        check("10.0.0.0/8\nshop.example\n", &format!("line 2: `shop.example` is not a network; {LIKE}"));
        check("10.0.0.0/33", &format!("line 1: `10.0.0.0/33` is not a network; {LIKE}"));
        check("10.0.0.0/8 x", &format!("line 1: `10.0.0.0/8 x` is not a network; {LIKE}"));
        check("a\u{1b}[31m", &format!("line 1: `a\\u{{1b}}[31m` is not a network; {LIKE}"));
        check(
            "\n\n10.0.0.1/8",
            "line 3: 10.0.0.1/8 has bits set beyond its prefix; write `10.0.0.0/8` for the network or `10.0.0.1` for the one address",
        );
        let fault = read_list(b"10.0.0.0/8\n\xff\xfe").unwrap_err();
        assert_eq!(fault.line, 2, "{fault}");
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_at_its_line() {
        let mut list = "10.0.0.0/8\n".repeat(MOST_IN_A_LIST);
        assert_eq!(read_list(list.as_bytes()).map(|(_, n)| n), Ok(MOST_IN_A_LIST));
        list.push_str("10.0.0.0/8");
        check(&list, "line 1000001: is network number 1000001; use no more than 1000000");
    }

    proptest! {
        #[test]
        fn nothing_that_a_file_holds_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_list(&bytes);
        }

        #[test]
        fn what_is_written_is_read(v4 in any::<u32>(), prefix in 0u8..=32) {
            let written = IpNet::new(IpAddr::V4(v4.into()), prefix).unwrap().trunc();
            prop_assert_eq!(network(&written.to_string()), Ok(written));
        }
    }
}
