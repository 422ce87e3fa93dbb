//! What is particular to datagrams: the addresses they cannot have, and the `udp` probe.

use super::place::At;
use super::plan::{Balance, PoolPlan, ProbePlan, ServerPlan, UdpProbe};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use crate::units::Address;

/// More than a datagram can carry over IPv4 is never sent.
const LONGEST: usize = 65_507;

pub(super) fn refuse_unix_listener(at: &At<'_>, address: &Address) {
    if matches!(address, Address::Unix(_)) {
        at.refuse(Fault::new(
            "`protocol: udp` needs an IP address, and this is a unix socket",
            "write it like `0.0.0.0:53`",
        ));
    }
}

/// Reports those of these keys that are written: they are about connections.
pub(super) fn refuse_stream_keys(section: &Section<'_>, names: &[&str]) {
    for at in names.iter().filter_map(|name| section.get(name)) {
        at.refuse_key(Fault::new("is for connections, and this listener speaks `udp`", "remove it"));
    }
}

/// What a pool behind a listener with `protocol: udp` cannot have.
pub(super) fn refuse_stream_pools(at: &At<'_>, pools: &[&PoolPlan]) {
    refuse_unix_servers(at, pools);
    for pool in pools.iter().filter(|pool| pool.tls.is_some()) {
        at.refuse(Fault::new(
            format!("the pool {} speaks TLS to its servers, which datagrams do not have", quoted(&pool.name)),
            "use a pool without `tls`",
        ));
    }
    for pool in pools.iter().filter(|pool| pool.proxy_protocol.is_some()) {
        at.refuse(Fault::new(
            format!("the pool {} sends PROXY headers, which datagrams do not have", quoted(&pool.name)),
            "use a pool without `proxy_protocol`",
        ));
    }
}

/// Reports pools that go by how tries end, which datagrams do not tell.
pub(super) fn warn_of_unteachable_pools(at: &At<'_>, pools: &[&PoolPlan]) {
    const OTHER: &str = "use a pool with another `balance`, like `round_robin`";
    for pool in pools {
        let by_balance = match pool.balance {
            Balance::PeakEwma => Some(("balance: peak_ewma", OTHER)),
            Balance::SuccessRate(_) => Some(("balance: success_rate", OTHER)),
            _ => None,
        };
        let by_outlier = pool.outlier.map(|_| ("outlier", "use a pool without `outlier`"));
        for (key, help) in [by_balance, by_outlier].into_iter().flatten() {
            let pool = quoted(&pool.name);
            let message =
                format!("`{key}` of the pool {pool} goes by how servers answer, which datagrams do not tell");
            at.warn(Fault::new(message, help));
        }
    }
}

fn refuse_unix_servers(at: &At<'_>, pools: &[&PoolPlan]) {
    for pool in pools {
        if let Some(server) = on_unix_socket(&pool.servers) {
            at.refuse(Fault::new(
                format!(
                    "the server {} of the pool {} is on a unix socket, which takes no UDP",
                    quoted(&server.name),
                    quoted(&pool.name)
                ),
                "use a pool whose servers have IP addresses",
            ));
        }
    }
}

/// A datagram cannot be sent to a server on a unix socket.
pub(super) fn refuse_unprobed(section: &Section<'_>, probe: &ProbePlan, servers: &[ServerPlan]) {
    let (ProbePlan::Udp(_), Some(server)) = (probe, on_unix_socket(servers)) else { return };
    section.get("health").unwrap_or(section.at).refuse_key(Fault::new(
        format!("`udp` is asked for, and the server {} is on a unix socket", quoted(&server.name)),
        "use `tcp: {}` or `http`, or put servers on unix sockets in a pool of their own",
    ));
}

fn on_unix_socket(servers: &[ServerPlan]) -> Option<&ServerPlan> {
    servers.iter().find(|server| matches!(server.address, Address::Unix(_)))
}

/// Reads the probe below `udp`. `send` or `send_hex` must be there.
pub(super) fn udp_probe(section: &Section<'_>) -> Option<UdpProbe> {
    section.section("udp", |udp| {
        let send = either(&udp, ("send", "send_hex"));
        let expect = either(&udp, ("expect", "expect_hex"));
        if udp.get("send").is_none() && udp.get("send_hex").is_none() {
            udp.at.refuse(Fault::new(
                "names no datagram to send",
                "add `send: \"text\"`, or `send_hex` for bytes, like `send_hex: \"00ff\"`",
            ));
        }
        Some(UdpProbe { send: send?, expect })
    })?
}

/// What is written as text, or else in hexadecimal digits.
fn either(section: &Section<'_>, (text, hex): (&str, &str)) -> Option<Vec<u8>> {
    let as_text = section.given(text, |scalar| fitting(text == "expect", scalar.text.as_bytes().to_vec()));
    let as_hex = section.given(hex, |scalar| fitting(hex == "expect_hex", digits(scalar)?));
    if section.get(text).is_some()
        && let Some(at) = section.get(hex)
    {
        at.refuse_key(Fault::new(
            format!("there is `{text}` too"),
            format!("keep one of `{text}` and `{hex}`"),
        ));
    }
    as_text.or(as_hex)
}

/// An empty datagram can be sent, but every answer contains no bytes at all.
fn fitting(is_expected: bool, bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if is_expected && bytes.is_empty() {
        return Err(Fault::new("is empty, which every answer contains", "leave it out for any answer"));
    }
    if bytes.len() > LONGEST {
        let message = format!("has {} bytes, more than a datagram", bytes.len());
        return Err(Fault::new(message, format!("write at most {LONGEST}")));
    }
    Ok(bytes)
}

fn digits(scalar: &Scalar<'_>) -> Result<Vec<u8>, Fault> {
    let wrong = || {
        Fault::new(
            format!("{} is not hexadecimal", quoted(&scalar.text)),
            "write two digits for each byte, in quotes, like `\"abcd 0100\"`",
        )
    };
    let digits: Vec<u8> = scalar
        .text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    if !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each_with_spaces_anywhere() {
        let read = |text: &str| digits(&Scalar::plain(text)).ok();
        assert_eq!(read("abCD 01 00"), Some(vec![0xab, 0xcd, 1, 0]));
        assert_eq!(read(""), Some(Vec::new()));
        for wrong in ["abc", "0x01", "zz", "é0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
