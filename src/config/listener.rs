//! Listeners: where clients connect, what they may use, and which pool or routes serve them.

use super::address;
use super::known::{Known, refuse_foreign_match, refuse_request_keys};
use super::limits::rate;
use super::names::{Once, check_section_name};
use super::networks::NamedLists;
use super::place::At;
use super::plan::{
    ClientFin, EncodedSlash, Http2Plan, ListenerLimits, ListenerPlan, ListenerTimeouts, NewConnectionLimit,
    Protocol, TargetPlan, Transport,
};
use super::problem::Fault;
use super::section::Section;
use super::udp::{refuse_stream_keys, refuse_stream_pools, refuse_unix_listener, warn_of_unteachable_pools};
use super::{policy, tls};
use crate::limit::{ClientPrefix, Rate};
use crate::networks::Networks;
use crate::units::Address;

/// What a connection's window begins with, and the most it can have (RFC 9113 sections 6.9.1 and 6.9.2).
const LEAST_WINDOW: u64 = 64 << 10;
const MOST_WINDOW: u64 = (1 << 31) - 1;

pub(super) const PROTOCOLS: [(&str, Protocol); 4] = [
    ("http", Protocol::Http),
    ("tcp", Protocol::Tcp),
    ("tls_passthrough", Protocol::TlsPassthrough),
    ("udp", Protocol::Udp),
];

pub(super) const CLIENT_FINS: [(&str, ClientFin); 3] =
    [("cancel", ClientFin::Cancel), ("serve", ClientFin::Serve), ("close", ClientFin::Close)];

/// What only a listener for HTTP has.
pub(super) const FOR_HTTP: [&str; 6] =
    ["redirect_to_https", "tls", "trusted_proxies", "policy", "client_fin", "http2"];
pub(super) const LIMITS_FOR_HTTP: [&str; 7] =
    ["handshakes", "request_headers", "request_body", "uri", "header_count", "header_line", "encoded_slash"];
pub(super) const ENCODED_SLASHES: [(&str, EncodedSlash); 2] =
    [("keep", EncodedSlash::Keep), ("refuse", EncodedSlash::Refuse)];
pub(super) const TIMEOUTS_FOR_HTTP: [&str; 2] = ["request_header", "request_body"];
/// Of HTTP's idle connections, and of UDP, whose sessions end by silence.
pub(super) const TIMEOUTS_FOR_SILENCE: [&str; 1] = ["idle"];
/// What one for datagrams has not.
pub(super) const FOR_STREAMS: [&str; 1] = ["proxy_protocol"];
pub(super) const TIMEOUTS_FOR_STREAMS: [&str; 1] = ["tls_handshake"];

/// Reads one listener. `taken` are the addresses of those before it.
pub(super) fn listener(
    name: &str,
    section: &Section<'_>,
    known: &Known<'_>,
    taken: &mut Once<(Transport, Address)>,
) -> Option<ListenerPlan> {
    check_section_name(name, &section.at);
    let protocol = section.choice("protocol", &PROTOCOLS);
    let foreign = match protocol {
        Protocol::Http => None,
        Protocol::Tcp => Some("tcp"),
        Protocol::TlsPassthrough => Some("tls_passthrough"),
        Protocol::Udp => Some("udp"),
    };
    if let Some(protocol) = foreign {
        section.refuse_foreign(&FOR_HTTP, protocol);
    }
    if protocol == Protocol::Udp {
        refuse_stream_keys(section, &FOR_STREAMS);
    }
    let addresses = addresses(section, protocol, taken);
    let entry = entry(section, protocol, known);
    check_entry(section, entry, foreign, known);
    let proxies = match section.get("proxy_protocol") {
        Some(at) if !at.is_null() => {
            section.section("proxy_protocol", |section| proxies(&section, known.networks))
        }
        _ => Some(Networks::default()),
    };
    let tls = match section.get("tls") {
        Some(at) if !at.is_null() => section.section("tls", tls::tls).map(Some),
        _ => Some(None),
    };
    let trusted_proxies =
        section.get("trusted_proxies").map(|at| known.networks.list(&at)).unwrap_or_default();
    let policy = policy::reference(section, known.policy_names);
    let client_fin = section.choice("client_fin", &CLIENT_FINS);
    let http2 = section.section("http2", http2);
    let limits = section.section("limits", |section| limits(&section, foreign, known.client_prefix));
    let timeouts = section.section("timeouts", |section| timeouts(&section, foreign));
    Some(ListenerPlan {
        name: name.into(),
        addresses,
        protocol,
        target: entry?,
        tls: tls?,
        proxies: proxies?,
        trusted_proxies,
        policy,
        client_fin,
        http2: http2?,
        limits: limits?,
        timeouts: timeouts?,
    })
}

fn addresses(
    section: &Section<'_>,
    protocol: Protocol,
    taken: &mut Once<(Transport, Address)>,
) -> Vec<Address> {
    let mut addresses = Vec::new();
    let mut add = |at: At<'_>| {
        let Some(address) =
            at.scalar(&"an address like `0.0.0.0:80` or `unix:/run/web.sock`", address::to_listen)
        else {
            return;
        };
        let overlaps = |(transport, other): &(Transport, Address)| {
            *transport == protocol.transport() && *other != address && other.overlaps(&address)
        };
        if let Some(((_, other), line)) = taken.find(overlaps) {
            let place =
                if line == 0 { "the default of `admin.address`".to_owned() } else { format!("line {line}") };
            let every = match &address {
                Address::Inet(address) if address.is_ipv6() => "`[::]` is every IPv6 address",
                _ => "`0.0.0.0` is every IPv4 address",
            };
            at.refuse(Fault::new(
                format!("{address} overlaps {other}, which is listened on already"),
                format!("see {place}; {every} of the machine; use another port"),
            ));
        }
        let kernel_chooses = matches!(&address, Address::Inet(address) if address.port() == 0);
        if !kernel_chooses && let Some(line) = taken.seen((protocol.transport(), address.clone()), at.line())
        {
            let help = match line {
                0 => "it is the default of `admin.address` or `admin.socket`; use another here or there"
                    .to_owned(),
                _ => format!("see line {line}; use another address or port"),
            };
            at.refuse(Fault::new(format!("{address} is already listened on"), help));
        }
        if protocol == Protocol::Udp {
            refuse_unix_listener(&at, &address);
        }
        addresses.push(address);
    };
    match (section.get("address"), section.get("addresses")) {
        (None, None) => {
            section.at.refuse(Fault::new("has no address", "add `address`, like `address: 0.0.0.0:80`"))
        }
        (Some(_), Some(several)) => {
            several.refuse_key(Fault::new(
                "there is an `address` too",
                "keep one of them; `addresses` takes a list",
            ));
        }
        (Some(one), None) => add(one),
        (None, Some(several)) => match several.items() {
            Some(items) if items.len() == 0 => {
                several.refuse_key(Fault::new("is empty", "write at least one address"));
            }
            Some(items) => items.for_each(add),
            None => {}
        },
    }
    addresses
}

fn entry(section: &Section<'_>, protocol: Protocol, known: &Known<'_>) -> Option<TargetPlan> {
    let pool = section.given("pool", |scalar| known.pool_names.resolve(scalar));
    let routes = section.given("routes", |scalar| known.route_names.resolve(scalar));
    if section.flag("redirect_to_https") {
        for name in ["pool", "routes", "tls"] {
            if let Some(at) = section.get(name).filter(|at| !at.is_null()) {
                at.refuse_key(Fault::new(
                    "there is `redirect_to_https` too, which sends every client away",
                    "keep one of them",
                ));
            }
        }
        return Some(TargetPlan::RedirectToHttps);
    }
    match (section.get("pool"), section.get("routes")) {
        (None, None) => section.at.refuse(Fault::new(
            "leads nowhere",
            "add `pool: NAME` for all requests, `routes: NAME` to choose by host or path, or `redirect_to_https: true`",
        )),
        (Some(_), Some(at)) => {
            at.refuse_key(Fault::new("there is a `pool` too", "keep one of `pool` and `routes`"));
        }
        (None, Some(at)) if protocol == Protocol::Tcp => at.refuse_key(Fault::new(
            "`protocol: tcp` shows nothing to choose by",
            "write `pool: NAME` for all connections, or `protocol: tls_passthrough` to choose by TLS server name",
        )),
        (None, Some(at)) if protocol == Protocol::Udp => at.refuse_key(Fault::new(
            "`protocol: udp` shows nothing to choose by",
            "write `pool: NAME` for all datagrams",
        )),
        _ => {}
    }
    pool.map(TargetPlan::Pool).or(routes.map(TargetPlan::Routes))
}

/// Whether what the listener leads to can serve what it speaks.
fn check_entry(section: &Section<'_>, entry: Option<TargetPlan>, foreign: Option<&str>, known: &Known<'_>) {
    let (Some(entry), Some(at)) = (entry, section.get("pool").or(section.get("routes"))) else { return };
    let pools = known.behind(entry);
    if let Some(protocol) = foreign {
        refuse_request_keys(&at, &pools, protocol);
    }
    if foreign == Some("udp") {
        refuse_stream_pools(&at, &pools);
        warn_of_unteachable_pools(&at, &pools);
    }
    for rule in known.rules(entry) {
        refuse_foreign_match(&at, rule, foreign);
    }
}

fn proxies(section: &Section<'_>, known: &NamedLists<'_>) -> Networks {
    let Some(at) = section.get("from") else {
        section.at.refuse_key(Fault::new(
            "names no proxies",
            "add `from`, like `from: [10.0.0.0/8]`: the networks that send PROXY headers",
        ));
        return Networks::default();
    };
    let errors = at.errors();
    let networks = known.list(&at);
    if networks.is_empty() && at.errors() == errors {
        at.refuse_key(Fault::new("is empty", "write at least one network, like `[10.0.0.0/8]`"));
    }
    networks
}

fn http2(section: Section<'_>) -> Http2Plan {
    let max_concurrent_streams = section.count("max_concurrent_streams");
    let (stream_window, connection_window) =
        (section.size("stream_window"), section.nullable_size("connection_window"));
    if connection_window.is_some_and(|window| stream_window > window)
        && let Some(at) = section.get("stream_window").or(section.get("connection_window"))
    {
        at.refuse(Fault::new(
            "a stream's window is larger than its connection's",
            "make `connection_window` at least as large as `stream_window`",
        ));
    }
    Http2Plan {
        max_concurrent_streams,
        stream_window,
        connection_window: connection_window
            .unwrap_or(u64::from(max_concurrent_streams).saturating_mul(stream_window))
            .clamp(LEAST_WINDOW, MOST_WINDOW),
        max_age: section.nullable_duration("max_age"),
        max_requests: section.nullable_count("max_requests"),
    }
}

fn limits(section: &Section<'_>, foreign: Option<&str>, prefix: ClientPrefix) -> ListenerLimits {
    if let Some(protocol) = foreign {
        section.refuse_foreign(&LIMITS_FOR_HTTP, protocol);
    }
    let new_connections = section.nullable("new_connections_per_client", rate);
    ListenerLimits {
        connections: section.nullable_count("connections"),
        connections_per_client: section.nullable_count("connections_per_client"),
        new_connections: new_connections
            .map(|(connections, per)| NewConnectionLimit { rate: Rate::new(connections, per, None), prefix }),
        handshakes: section.nullable_count("handshakes"),
        request_headers: section.size("request_headers"),
        request_body: section.size("request_body"),
        uri: section.size("uri"),
        header_count: section.count("header_count"),
        header_line: section.size("header_line"),
        encoded_slash: section.choice("encoded_slash", &ENCODED_SLASHES),
    }
}

fn timeouts(section: &Section<'_>, foreign: Option<&str>) -> ListenerTimeouts {
    if let Some(protocol) = foreign {
        section.refuse_foreign(&TIMEOUTS_FOR_HTTP, protocol);
        match protocol {
            "udp" => refuse_stream_keys(section, &TIMEOUTS_FOR_STREAMS),
            _ => section.refuse_foreign(&TIMEOUTS_FOR_SILENCE, protocol),
        }
    }
    ListenerTimeouts {
        request_header: section.duration("request_header"),
        request_body: section.duration("request_body"),
        idle: section.duration("idle"),
        tls_handshake: section.duration("tls_handshake"),
    }
}
