//! Who the client is, and what servers are told of it: X-Forwarded-For, -Proto and -Host, Forwarded
//! (RFC 7239) and X-Request-Id.
//!
//! Only a trusted proxy's word is taken and added to; anybody else's is replaced, or a client could
//! give itself any address.

use http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;
use std::net::IpAddr;

/// The client as seen through trusted proxies: the last address of X-Forwarded-For that is not one of
/// theirs. `None` when the peer itself is the client.
pub(super) fn real_client(peer: Option<IpAddr>, trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let mut client = None;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(value) = value.to_str() else { break };
        for part in value.rsplit(',') {
            let Some(address) = address(part.trim()) else { return client };
            client = Some(address);
            if !trusted.iter().any(|network| network.contains(&address)) {
                return client;
            }
        }
    }
    client
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

/// A unix socket's peer is on this machine, where only the operator can connect: its word is taken.
pub(super) fn is_trusted(peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    peer.is_none_or(|peer| trusted.iter().any(|network| network.contains(&peer)))
}

/// What a server is told of the way a request came.
#[derive(Debug)]
pub(super) struct Forwarding {
    pub(super) for_: Option<HeaderValue>,
    /// `None` leaves the trusted proxy's.
    pub(super) proto: Option<HeaderValue>,
    pub(super) host: Option<HeaderValue>,
    pub(super) forwarded: Option<HeaderValue>,
}

/// Works out the fields for a request from `peer` with the fields `headers`.
pub(super) fn forwarding(
    peer: Option<IpAddr>,
    peer_text: &str,
    trusted: &[IpNet],
    headers: &HeaderMap,
    host: Option<&HeaderValue>,
) -> Forwarding {
    let believed = is_trusted(peer, trusted);
    let before = |name: &str| believed.then(|| joined(headers, name)).flatten();
    let has = |name: &str| believed && headers.contains_key(name);

    // A unix socket's peer has no address to add.
    let for_ = match (peer, before("x-forwarded-for")) {
        (None, before) => before,
        (Some(_), None) => Some(peer_text.to_owned()),
        (Some(_), Some(before)) => Some(format!("{before}, {peer_text}")),
    };
    let node = match peer {
        Some(IpAddr::V6(_)) => format!("\"[{peer_text}]\""),
        Some(IpAddr::V4(_)) => peer_text.to_owned(),
        None => "unknown".to_owned(),
    };
    let mut forwarded = before("forwarded").map(|before| before + ", ").unwrap_or_default();
    forwarded.push_str("for=");
    forwarded.push_str(&node);
    if let Some(host) = host.and_then(|host| host.to_str().ok())
        && !host.is_empty()
    {
        // RFC 7239 section 4: a token needs no quotes, a port's colon does.
        let quote = if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) { "" } else { "\"" };
        for part in [";host=", quote, host, quote] {
            forwarded.push_str(part);
        }
    }
    forwarded.push_str(";proto=http");
    Forwarding {
        for_: for_.and_then(|text| HeaderValue::try_from(text).ok()),
        proto: (!has("x-forwarded-proto")).then(|| HeaderValue::from_static("http")),
        host: if has("x-forwarded-host") { None } else { host.cloned() },
        forwarded: HeaderValue::try_from(forwarded).ok(),
    }
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The request's own id if it has a usable one, else one made of `entropy`.
pub(super) fn request_id(headers: &HeaderMap, entropy: u128) -> HeaderValue {
    const LONGEST: usize = 128;
    let usable = |id: &&HeaderValue| {
        (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte))
    };
    if let Some(id) = headers.get("x-request-id").filter(usable) {
        return id.clone();
    }
    let mut digits = [0; 32];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(entropy >> (4 * at)) as usize & 15];
    }
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The Host a request is for: its field, or an HTTP/2 request's authority.
pub(super) fn host<'a>(uri: &'a http::Uri, headers: &'a HeaderMap) -> &'a str {
    match uri.authority() {
        // RFC 9112 section 3.2.2: an absolute target outranks Host.
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value): (header::HeaderName, HeaderValue)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn only_a_trusted_peer_is_believed_about_the_client() {
        let spoofed = headers(&[("x-forwarded-for", "198.51.100.1")]);
        let peer = |text: &str| Some(text.parse().unwrap());
        assert_eq!(real_client(peer("192.0.2.7"), &networks(), &spoofed), None);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &spoofed), peer("198.51.100.1"));
        let chain = headers(&[("x-forwarded-for", "6.6.6.6, 198.51.100.1"), ("x-forwarded-for", "10.0.0.9:443")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &chain), peer("198.51.100.1"));
        let all_ours = headers(&[("x-forwarded-for", "10.0.0.8, 10.0.0.9")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &all_ours), peer("10.0.0.8"));
        let nonsense = headers(&[("x-forwarded-for", "198.51.100.1, what")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &nonsense), None);
    }

    fn told(peer: &str, lines: &[(&'static str, &str)]) -> [String; 4] {
        let ip: IpAddr = peer.parse().unwrap();
        let headers = headers(lines);
        let f = forwarding(Some(ip), peer, &networks(), &headers, headers.get("host"));
        [f.for_, f.proto, f.host, f.forwarded]
            .map(|value| value.map_or("-".into(), |value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_strangers_fields_are_replaced() {
        assert_eq!(
            told("192.0.2.7", &[("host", "a.example"), ("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]),
            ["192.0.2.7", "http", "a.example", "for=192.0.2.7;host=a.example;proto=http"]
        );
    }

    #[test]
    fn a_trusted_proxys_fields_are_added_to() {
        assert_eq!(
            told(
                "2001:db8::1",
                &[("host", "a:80"), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"),
                  ("x-forwarded-host", "b"), ("forwarded", "for=6.6.6.6")]
            ),
            ["6.6.6.6, 2001:db8::1", "-", "-", "for=6.6.6.6, for=\"[2001:db8::1]\";host=\"a:80\";proto=http"]
        );
    }

    #[test]
    fn a_usable_request_id_is_kept_and_another_replaced() {
        let id = |lines: &[(&'static str, &str)]| request_id(&headers(lines), 0xabc).to_str().unwrap().to_owned();
        assert_eq!(id(&[("x-request-id", "r-1")]), "r-1");
        let made = "cba00000000000000000000000000000";
        assert_eq!(id(&[]), made);
        assert_eq!(id(&[("x-request-id", "a b")]), made);
        assert_eq!(id(&[("x-request-id", &"x".repeat(129))]), made);
    }
}
