//! Who the client is, and what servers are told of it: X-Forwarded-For, -Proto and -Host, Forwarded
//! (RFC 7239) and X-Request-Id.
//!
//! Only a trusted proxy's word is taken and added to; anybody else's is replaced, or a client could
//! give itself any address.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use std::net::IpAddr;

// Parsed once: a name given as text is parsed at each use.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client as seen through trusted proxies: the last address of X-Forwarded-For that is not one of
/// theirs. `None` when the peer itself is the client.
pub(super) fn real_client(peer: Option<IpAddr>, trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let mut client = None;
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
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

/// The other end of a connection, in the forms that fields need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// `None` for a unix socket.
    pub(super) ip: Option<IpAddr>,
    pub(super) text: &'a str,
    /// `text` as a field's value, made once for each connection.
    pub(super) value: &'a HeaderValue,
}

/// Sets the fields of a request from `peer` that tell a server of the way it came.
pub(super) fn tell(headers: &mut HeaderMap, peer: Peer<'_>, trusted: &[IpNet], id: HeaderValue) {
    // Growing the table twice costs more than all the rest.
    headers.reserve(5);
    let host = headers.get(header::HOST).cloned();
    let believed = is_trusted(peer.ip, trusted);
    let forwarded = forwarded(headers, peer, believed, host.as_ref());
    // A unix socket's peer has no address to add.
    let before = if believed { joined(headers, &X_FORWARDED_FOR) } else { None };
    match (peer.ip, before) {
        (None, _) => None,
        (Some(_), None) => headers.insert(X_FORWARDED_FOR, peer.value.clone()),
        (Some(_), Some(before)) => HeaderValue::try_from(format!("{before}, {}", peer.text))
            .ok()
            .and_then(|chain| headers.insert(X_FORWARDED_FOR, chain)),
    };
    if !(believed && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(believed && headers.contains_key(X_FORWARDED_HOST)) {
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
    if let Some(forwarded) = forwarded {
        headers.insert(header::FORWARDED, forwarded);
    }
    headers.insert(X_REQUEST_ID, id);
}

fn forwarded(
    headers: &HeaderMap,
    peer: Peer<'_>,
    believed: bool,
    host: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    let before = if believed { joined(headers, &header::FORWARDED) } else { None };
    let mut forwarded = before.map(|before| before + ", ").unwrap_or_else(|| String::with_capacity(96));
    for part in match peer.ip {
        Some(IpAddr::V6(_)) => ["for=\"[", peer.text, "]\""],
        Some(IpAddr::V4(_)) => ["for=", peer.text, ""],
        None => ["for=unknown", "", ""],
    } {
        forwarded.push_str(part);
    }
    if let Some(host) = host.and_then(|host| host.to_str().ok())
        && !host.is_empty()
    {
        // RFC 7239 section 4: a token needs no quotes, a port's colon does.
        let quote =
            if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) { "" } else { "\"" };
        for part in [";host=", quote, host, quote] {
            forwarded.push_str(part);
        }
    }
    forwarded.push_str(";proto=http");
    HeaderValue::try_from(forwarded).ok()
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The request's own id if it has a usable one, else one made of `entropy`.
pub(super) fn request_id(headers: &HeaderMap, entropy: u128) -> HeaderValue {
    const LONGEST: usize = 128;
    let usable = |id: &&HeaderValue| {
        (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte))
    };
    if let Some(id) = headers.get(X_REQUEST_ID).filter(usable) {
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
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<_>>()
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
        let chain =
            headers(&[("x-forwarded-for", "6.6.6.6, 198.51.100.1"), ("x-forwarded-for", "10.0.0.9:443")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &chain), peer("198.51.100.1"));
        let all_ours = headers(&[("x-forwarded-for", "10.0.0.8, 10.0.0.9")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &all_ours), peer("10.0.0.8"));
        let nonsense = headers(&[("x-forwarded-for", "198.51.100.1, what")]);
        assert_eq!(real_client(peer("10.0.0.1"), &networks(), &nonsense), None);
    }

    fn told(peer: &str, lines: &[(&'static str, &str)]) -> [String; 4] {
        let mut headers = headers(lines);
        let value = HeaderValue::from_str(peer).unwrap();
        let peer = Peer { ip: Some(peer.parse().unwrap()), text: peer, value: &value };
        tell(&mut headers, peer, &networks(), HeaderValue::from_static("r-1"));
        assert_eq!(headers["x-request-id"], "r-1");
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
            .map(|name| all(name).join(" | "))
    }

    #[test]
    fn a_strangers_fields_are_replaced() {
        assert_eq!(
            told(
                "192.0.2.7",
                &[("host", "a.example"), ("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]
            ),
            ["192.0.2.7", "http", "a.example", "for=192.0.2.7;host=a.example;proto=http"]
        );
    }

    #[test]
    fn a_trusted_proxys_fields_are_added_to() {
        assert_eq!(
            told(
                "2001:db8::1",
                &[
                    ("host", "a:80"),
                    ("x-forwarded-for", "6.6.6.6"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "b"),
                    ("forwarded", "for=6.6.6.6")
                ]
            ),
            [
                "6.6.6.6, 2001:db8::1",
                "https",
                "b",
                "for=6.6.6.6, for=\"[2001:db8::1]\";host=\"a:80\";proto=http"
            ]
        );
    }

    #[test]
    fn a_usable_request_id_is_kept_and_another_replaced() {
        let id =
            |lines: &[(&'static str, &str)]| request_id(&headers(lines), 0xabc).to_str().unwrap().to_owned();
        assert_eq!(id(&[("x-request-id", "r-1")]), "r-1");
        let made = "cba00000000000000000000000000000";
        assert_eq!(id(&[]), made);
        assert_eq!(id(&[("x-request-id", "a b")]), made);
        assert_eq!(id(&[("x-request-id", &"x".repeat(129))]), made);
    }
}
