use super::*;
use http::{HeaderMap, HeaderValue, Request};

fn networks() -> Networks {
    ["10.0.0.0/8", "2001:db8::/32"].into_iter().map(|network| network.parse().unwrap()).collect()
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
    assert_eq!(real_client(peer("192.0.2.7"), &networks(), FieldList::Map(&spoofed)), None);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&spoofed)), peer("198.51.100.1"));
    let chain = headers(&[("x-forwarded-for", "6.6.6.6, 198.51.100.1"), ("x-forwarded-for", "10.0.0.9:443")]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&chain)), peer("198.51.100.1"));
    let all_ours = headers(&[("x-forwarded-for", "10.0.0.8, 10.0.0.9")]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&all_ours)), peer("10.0.0.8"));
    let nonsense = headers(&[("x-forwarded-for", "198.51.100.1, what")]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&nonsense)), None);
}

/// What a server gets in place of these fields.
fn tell_map(headers: &mut HeaderMap, peer: Peer<'_>) {
    let mut request = Request::new(()).into_parts().0;
    request.headers = headers.clone();
    let trusted = networks();
    let request = RequestView::of_parts(&request, false);
    let facts = RequestFacts::of(peer, &trusted, "r-1");
    let mut edits = Edits::default();
    Forwarding.request(&request, &facts, &mut edits);
    headers.clear();
    edits.staying(request.fields).for_each(|field| field.append_to(headers));
    edits.append_added(headers);
}

fn told(peer: &str, lines: &[(&'static str, &str)]) -> [String; 4] {
    let mut headers = headers(lines);
    let peer = Peer { ip: Some(peer.parse().unwrap()), text: peer, is_secure: false, identity: None };
    tell_map(&mut headers, peer);
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
        ["6.6.6.6, 2001:db8::1", "https", "b", "for=6.6.6.6, for=\"[2001:db8::1]\";host=\"a:80\";proto=http"]
    );
}

#[test]
fn a_trusted_proxy_may_speak_rfc_7239_alone() {
    let peer = |text: &str| Some(text.parse().unwrap());
    let chain = headers(&[
        ("forwarded", "for=6.6.6.6;proto=http;host=x"),
        ("forwarded", "for=\"198.51.100.1:80\";proto=https;host=b.example, for=10.0.0.9;proto=http;host=c"),
    ]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&chain)), peer("198.51.100.1"));
    assert_eq!(real_client(peer("192.0.2.7"), &networks(), FieldList::Map(&chain)), None);
    let hidden = headers(&[("forwarded", "for=198.51.100.1, for=_secret")]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&hidden)), None);
    assert_eq!(
        told("10.0.0.1", &[("host", "a"), ("forwarded", "for=198.51.100.1;proto=https;host=b.example")]),
        [
            "198.51.100.1, 10.0.0.1",
            "https",
            "b.example",
            "for=198.51.100.1;proto=https;host=b.example, for=10.0.0.1;host=a;proto=http"
        ]
    );
    // Where both are there, what everybody reads counts.
    let both = headers(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.1")]);
    assert_eq!(real_client(peer("10.0.0.1"), &networks(), FieldList::Map(&both)), peer("198.51.100.1"));
}

#[test]
fn whose_word_a_field_may_be_is_known_however_it_is_written() {
    for (name, whose) in [
        ("Client-Cert", Word::Ours),
        ("CLIENT_CERT", Word::Ours),
        ("client-cert_chain", Word::Ours),
        ("X_Client_Cert-Subject", Word::Ours),
        ("x-client-cert-fingerprint", Word::Ours),
        ("X-Forwarded-For", Word::Trusted),
        ("x-forwarded-port", Word::Trusted),
        ("X-FORWARDED-SSL", Word::Trusted),
        ("X-Forwarded-User", Word::Trusted),
        ("Forwarded", Word::Trusted),
        ("X-Real-IP", Word::Trusted),
        ("X_Forwarded_For", Word::Ours),
        ("x-forwarded_proto", Word::Ours),
        ("X_Real-Ip", Word::Ours),
        ("x_request_id", Word::Ours),
        ("X-Request-Id", Word::Ours),
        ("Client-Certs", Word::Anybodys),
        ("clientXcert", Word::Anybodys),
        ("X-Forward", Word::Anybodys),
        ("X-Frame-Options", Word::Anybodys),
        ("Content-Type", Word::Anybodys),
        ("", Word::Anybodys),
    ] {
        assert_eq!(word(name.as_bytes()), whose, "{name}");
    }
}

#[test]
fn of_a_stranger_nothing_stays_that_says_who_it_is() {
    let names = [
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-ssl",
        "x-real-ip",
        "x_forwarded_for",
        "x.forwarded.for",
        "x-forwarded.for",
        "x~real~ip",
        "x-forwarded+proto",
    ];
    for (ip, stays) in [("192.0.2.7", 0), ("10.0.0.1", 4)] {
        let mut headers = headers(&names.map(|name| (name, "6.6.6.6")));
        let peer = Peer { ip: Some(ip.parse().unwrap()), text: ip, is_secure: false, identity: None };
        tell_map(&mut headers, peer);
        assert_eq!(names.iter().filter(|name| headers.contains_key(**name)).count(), stays, "{ip}");
    }
    for (name, told) in
        [("x-forwarded-for", true), ("client_cert", true), ("client.cert", true), ("x-sum", false)]
    {
        assert_eq!(is_told(name.as_bytes()), told, "{name} in trailers");
    }
}

#[test]
fn nobody_is_believed_about_a_certificate() {
    let mut headers = headers(&[("client-cert", ":AA==:"), ("client_cert", ":AA==:"), ("x-a", "1")]);
    let peer =
        Peer { ip: Some("10.0.0.1".parse().unwrap()), text: "10.0.0.1", is_secure: true, identity: None };
    tell_map(&mut headers, peer);
    assert!(!headers.contains_key("client-cert") && !headers.contains_key("client_cert"));
    assert_eq!(headers["x-a"], "1");
}

#[test]
fn a_usable_request_id_is_kept_and_another_replaced() {
    let id = |lines: &[(&'static str, &str)]| request_id(FieldList::Map(&headers(lines)), 0xabc);
    assert_eq!(id(&[("x-request-id", "r-1")]), "r-1");
    let made = "cba00000000000000000000000000000";
    assert_eq!(id(&[]), made);
    assert_eq!(id(&[("x-request-id", "a b")]), made);
    assert_eq!(id(&[("x-request-id", &"x".repeat(129))]), made);
}

/// RFC 7239 section 6.3 would have proxies name nobody.
#[test]
fn a_trusted_proxy_need_not_name_an_address_to_be_believed_about_the_rest() {
    for (forwarded, addresses, proto, host) in [
        ("proto=https", "10.0.0.1", "https", "a"),
        ("host=b.example", "10.0.0.1", "http", "b.example"),
        ("for=unknown;proto=https", "unknown, 10.0.0.1", "https", "a"),
        ("for=\"_sec\";proto=https;host=b.example", "unknown, 10.0.0.1", "https", "b.example"),
        (
            "for=_sec;proto=https;host=b.example, for=10.0.0.9;host=c",
            "unknown, 10.0.0.9, 10.0.0.1",
            "https",
            "b.example",
        ),
        // What somebody said whom no trusted proxy has met.
        ("for=6.6.6.6;proto=https, for=_sec;host=c", "6.6.6.6, unknown, 10.0.0.1", "http", "c"),
        ("for=198.51.100.1;proto=HTTPS", "198.51.100.1, 10.0.0.1", "https", "a"),
        ("for=198.51.100.1;proto=wss", "198.51.100.1, 10.0.0.1", "http", "a"),
        (",,, ,", "10.0.0.1", "http", "a"),
    ] {
        let got = told("10.0.0.1", &[("host", "a"), ("forwarded", forwarded)]);
        assert_eq!(&got[..3], [addresses, proto, host], "{forwarded}");
        let fields = headers(&[("forwarded", forwarded)]);
        let ip = Some("10.0.0.1".parse().unwrap());
        let peer = Peer { ip, text: "10.0.0.1", is_secure: false, identity: None };
        assert_eq!(is_secure(&peer, &networks(), FieldList::Map(&fields)), proto == "https", "{forwarded}");
    }
    let hidden = headers(&[("forwarded", "for=198.51.100.1, for=_secret, for=10.0.0.9")]);
    let client = real_client("10.0.0.1".parse().ok(), &networks(), FieldList::Map(&hidden));
    assert_eq!(client, "10.0.0.9".parse().ok());
    let several = headers(&[("x-forwarded-proto", "HTTPS, http")]);
    let ip = Some("10.0.0.1".parse().unwrap());
    let peer = Peer { ip, text: "10.0.0.1", is_secure: false, identity: None };
    assert!(is_secure(&peer, &networks(), FieldList::Map(&several)));
}
