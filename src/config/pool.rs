//! Pools: their servers, how one is chosen, when a request is tried again and how long anything may take.

use super::address;
use super::discover;
use super::field_name::{cookie_name, header_name};
use super::health::health;
use super::keys;
use super::names::{Names, Once, check_section_name, word};
use super::outlier;
use super::place::At;
use super::plan::{
    AddressFamily, Balance, DnsSourcePlan, HashKey, HealthPlan, Name, PROBES_AT_ONCE, PoolPlan, PoolTimeouts,
    ProxyVersion, QueueOrder, QueuePlan, Retries, RetryOn, ServerPlan, ServerProtocol, ServerTemplate,
    SlowStart, SourcePlan, WhenAllUnhealthy,
};
use super::problem::{Fault, Severity, quoted};
use super::section::{Section, choose, duration};
use super::sticky::sticky;
use super::success_rate;
use super::tls;
use super::tree::Scalar;
use super::udp::refuse_unprobed;
use crate::units::{Address, Percent, Weight};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Servers that say nothing hold their places until the timeout.
fn warn_of_slow_rounds(servers: usize, health: &HealthPlan, at: At<'_>) {
    let round = health.timeout * u32::try_from(servers.div_ceil(PROBES_AT_ONCE)).unwrap_or(u32::MAX);
    if servers > PROBES_AT_ONCE && round > health.interval {
        at.warn(Fault::new(
            format!(
                "if none of the {servers} servers answers, probing them all takes {round:?}, longer than the interval of \
                 {:?}",
                health.interval
            ),
            format!("{PROBES_AT_ONCE} are probed at once; lengthen `interval` or shorten `timeout`"),
        ));
    }
}

pub(super) const WHEN_ALL_UNHEALTHY: [(&str, WhenAllUnhealthy); 2] =
    [("use_all", WhenAllUnhealthy::UseAll), ("refuse", WhenAllUnhealthy::Refuse)];

pub(super) const QUEUE_ORDERS: [(&str, QueueOrder); 2] =
    [("adaptive", QueueOrder::Adaptive), ("fifo", QueueOrder::Fifo)];

pub(super) const PROXY_VERSIONS: [(&str, ProxyVersion); 2] =
    [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

pub(super) const SERVER_PROTOCOLS: [(&str, ServerProtocol); 3] =
    [("http1", ServerProtocol::Http1), ("h2", ServerProtocol::H2), ("auto", ServerProtocol::Auto)];

pub(super) fn pool(name: &str, section: &Section<'_>, names: &Names<'_>) -> Option<PoolPlan> {
    check_section_name(name, &section.at);
    let balance = balance(section);
    let max_connections = section.nullable_count("max_connections");
    let (mut servers, mut sources) = servers(section);
    if let Some(at) = section.get("discover")
        && !at.is_null()
    {
        let discovered = section.section("discover", discover::discover).flatten();
        if let Some(discovered) = &discovered
            && sources.iter().any(|source| source.label() == discovered.label())
        {
            at.refuse_key(Fault::new(
                format!("{} is among `servers` as well", discovered.label()),
                "remove one of the two: every address of the name is a server",
            ));
        }
        sources.extend(discovered);
    }
    for server in &mut servers {
        server.max_connections = server.max_connections.or(max_connections);
    }
    for source in &mut sources {
        source.template.max_connections = source.template.max_connections.or(max_connections);
    }
    let health = match section.get("health") {
        Some(at) if !at.is_null() => section.section("health", health).flatten().map(Some),
        _ => Some(None),
    };
    if let (Some(Some(health)), Some(at)) = (&health, section.get("health")) {
        warn_of_slow_rounds(servers.len(), health, at);
    }
    let when_all_unhealthy = section.choice("when_all_unhealthy", &WHEN_ALL_UNHEALTHY);
    let drain_timeout = section.duration("drain_timeout");
    let proxy_protocol = section.nullable("proxy_protocol", |scalar| choose(scalar, &PROXY_VERSIONS));
    let tls = match section.get("tls") {
        Some(at) if !at.is_null() => section.section("tls", tls::to_servers).map(Some),
        _ => Some(None),
    };
    let mut protocol = section.choice("protocol", &SERVER_PROTOCOLS);
    if protocol == ServerProtocol::Auto && matches!(tls, Some(None)) {
        // Without TLS there is no ALPN to agree by.
        section.get("protocol").unwrap_or(section.at).warn(Fault::new(
            "`auto` lets servers choose by ALPN, and without `tls` there is none: it can only be HTTP/1.1",
            "add `tls`, or write `http1`; or `h2`, if the servers speak it without TLS",
        ));
        protocol = ServerProtocol::Http1;
    }
    if let Some(at) = section.get("proxy_protocol")
        && proxy_protocol.is_some()
        && protocol != ServerProtocol::Http1
    {
        let written = if protocol == ServerProtocol::H2 { "h2" } else { "auto" };
        at.refuse_key(Fault::new(
            format!("tells of one client, and with `protocol: {written}` many share a connection"),
            "remove it, and have servers read X-Forwarded-For; or use `protocol: http1`",
        ));
    }
    let queue = match section.get("queue") {
        Some(at) if at.is_null() => Some(None),
        _ => section.section("queue", queue).map(Some),
    };
    let slow_start = slow_start(section);
    let fallback = section.nullable("fallback", |scalar| names.resolve(scalar));
    let outlier = match section.get("outlier") {
        Some(at) if !at.is_null() => section.section("outlier", outlier::outlier).map(Some),
        _ => Some(None),
    };
    if let (Some(at), Some(Some(outlier))) = (section.get("outlier"), &outlier) {
        outlier::warn_of_few(at, outlier, &servers, !sources.is_empty());
    }
    let sticky = match section.get("sticky") {
        Some(at) if !at.is_null() => {
            let queue = queue.as_ref().and_then(Option::as_ref);
            section.section("sticky", |section| sticky(&section, queue)).flatten().map(Some)
        }
        _ => Some(None),
    };
    let retries = section.section("retries", retries);
    let timeouts = section.section("timeouts", timeouts);
    let at = section.get("retries");
    if let (Some(at), Some(retries), Some(timeouts)) =
        (at.as_ref().and_then(|at| at.below("per_try")), &retries, &timeouts)
    {
        warn_of_idle_per_try(at, retries, timeouts);
    }
    if let (Some(at), Some(Some(queue)), Some(timeouts)) = (section.get("queue"), &queue, &timeouts) {
        let limits = servers.iter().map(|server| server.max_connections);
        let limits = limits.chain(sources.iter().map(|source| source.template.max_connections));
        warn_of_idle_queue(at, queue, limits.flatten().next().is_some(), timeouts);
    }
    if let Some(Some(health)) = &health {
        refuse_unprobed(section, &health.probe, &servers);
    }
    let port = health.as_ref().and_then(|health| health.as_ref()?.port);
    if let Some(server) =
        servers.iter().find(|server| port.is_some() && matches!(server.address, Address::Unix(_)))
    {
        section.get("health").unwrap_or(section.at).refuse_key(Fault::new(
            format!("`port` is given, and the server {} has none", quoted(&server.name)),
            "remove `port`, or put servers on unix sockets in a pool of their own",
        ));
    }
    Some(PoolPlan {
        name: name.into(),
        balance: balance?,
        servers,
        sources: sources.into_iter().map(Arc::new).collect(),
        health: health?,
        when_all_unhealthy,
        max_connections,
        queue: queue?,
        slow_start: slow_start?,
        fallback: fallback.and_then(|index| names.name(index)).map(Name::from),
        outlier: outlier?,
        sticky: sticky?,
        retries: retries?,
        timeouts: timeouts?,
        drain_timeout,
        proxy_protocol,
        tls: tls?,
        protocol,
    })
}

/// What nginx, HAProxy, Envoy and others call ways to balance.
const OTHER_WORDS: [(&str, &str); 17] = [
    ("least_conn", "least_connections"),
    ("leastconn", "least_connections"),
    ("least_request", "least_connections"),
    ("wlc", "least_connections"),
    ("roundrobin", "round_robin"),
    ("static-rr", "round_robin"),
    ("rr", "round_robin"),
    ("wrr", "round_robin"),
    ("random", "random_two"),
    ("p2c", "random_two"),
    ("ewma", "peak_ewma"),
    ("least_time", "peak_ewma"),
    ("source", "consistent_hash"),
    ("ip_hash", "consistent_hash"),
    ("hash", "consistent_hash"),
    ("uri", "consistent_hash"),
    ("ring_hash", "consistent_hash"),
];

/// Which of ours one of them is.
fn meant(word: &str) -> Option<&'static str> {
    OTHER_WORDS.iter().find(|(other, _)| other.eq_ignore_ascii_case(word)).map(|(_, ours)| *ours)
}

fn balance(section: &Section<'_>) -> Option<Balance> {
    let by_address = Balance::ConsistentHash { key: HashKey::ClientIp, bounded_load: None };
    let words = [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random_two", Balance::RandomTwo),
        ("peak_ewma", Balance::PeakEwma),
        ("consistent_hash", by_address),
        ("maglev", Balance::Maglev { key: HashKey::ClientIp }),
        ("success_rate", Balance::SuccessRate(success_rate::DEFAULT)),
    ];
    if section.get("balance").is_none_or(|at| at.is_scalar()) {
        return Some(section.value("balance", |scalar| {
            choose(scalar, &words).map_err(|fault| match meant(&scalar.text) {
                Some(word) => Fault {
                    message: format!("{} is not known here, did you mean `{word}`?", quoted(&scalar.text)),
                    help: None,
                },
                None => fault,
            })
        }));
    }
    if let Some(at) = section.get("balance").filter(|at| at.is_section()) {
        let is_word = |name: &str| words.iter().any(|(word, _)| *word == name);
        let known = |name: &str| keys::BALANCE.iter().any(|key| key.name == name);
        let word = |name: &'_ str| is_word(name).then(|| name.to_owned()).or(meant(name).map(str::to_owned));
        let names: Vec<_> = at.names()?.map(|(name, at)| (name.to_owned(), at.spot())).collect();
        let bare: Vec<_> = names.iter().filter(|(name, _)| !known(name)).collect();
        if let [(name, spot)] = bare[..]
            && names.len() == 1
            && let Some(word) = word(name)
        {
            let message = format!("{} has no keys of its own", quoted(name));
            at.report(Severity::Error, *spot, Fault::new(message, format!("write `balance: {word}`")));
            return None;
        }
    }
    section.section("balance", |balance| {
        let ways = ["consistent_hash", "maglev", "success_rate"];
        let written: Vec<_> = ways.into_iter().filter(|way| balance.get(way).is_some()).collect();
        if balance.is_empty() || written.len() > 1 {
            balance.at.refuse_key(Fault::new(
                if written.is_empty() {
                    "names no way to balance"
                } else {
                    "names more than one way to balance"
                },
                "write `balance: least_connections`, or `consistent_hash: { key: client_ip }` below it",
            ));
        }
        match written.first() {
            Some(&"success_rate") => {
                balance.section("success_rate", |rate| success_rate::read(&rate).map(Balance::SuccessRate))?
            }
            Some(&"maglev") => {
                balance.section("maglev", |table| Some(Balance::Maglev { key: hash_key(&table)? }))?
            }
            _ => balance.section("consistent_hash", |hash| {
                let (key, bounded_load) = (hash_key(&hash), hash.nullable_percent("bounded_load"));
                Some(Balance::ConsistentHash { key: key?, bounded_load })
            })?,
        }
    })?
}

fn hash_key(section: &Section<'_>) -> Option<HashKey> {
    let words = [("client_ip", HashKey::ClientIp), ("path", HashKey::Path), ("uri", HashKey::Uri)];
    if section.get("key").is_none_or(|at| at.is_scalar()) {
        return Some(section.value("key", |scalar| choose(scalar, &words)));
    }
    section.section("key", |key| {
        let header = key.given("header", |scalar| header_name(&scalar.text)).map(HashKey::Header);
        let cookie = key.given("cookie", cookie_name).map(HashKey::Cookie);
        let query = key.given("query", word).map(HashKey::Query);
        let written =
            ["header", "cookie", "query"].into_iter().filter(|name| key.get(name).is_some()).count();
        if written != 1 {
            key.at.refuse_key(Fault::new(
                if written == 0 { "names nothing to hash" } else { "names more than one thing to hash" },
                "write one of `{header: NAME}`, `{cookie: NAME}` and `{query: NAME}`",
            ));
        }
        header.or(cookie).or(query)
    })?
}

/// Those with addresses, and where the others come from.
fn servers(section: &Section<'_>) -> (Vec<ServerPlan>, Vec<SourcePlan>) {
    let is_discovered = section.get("discover").is_some_and(|at| !at.is_null());
    let (mut servers, mut sources) = (Vec::new(), Vec::new());
    let Some(at) = section.get("servers") else {
        if !is_discovered {
            section.at.refuse_key(Fault::new(
                "has no servers",
                "add `servers`, like `servers: [10.0.0.11:8080]`, or `discover`, like `discover: { dns: app.internal:8080 }`",
            ));
        }
        return (servers, sources);
    };
    let Some(items) = at.items() else { return (servers, sources) };
    if items.len() == 0 && !is_discovered {
        at.refuse_key(Fault::new(
            "is empty",
            "write at least one server, like `[10.0.0.11:8080]`, or remove it and write `discover`",
        ));
    }
    let (mut taken, mut looked_up) = (Once::default(), Once::default());
    for item in items {
        match entry(item) {
            None => {}
            Some(Entry::Server(server)) => {
                if let Some(line) = taken.seen(server.name.clone(), item.line()) {
                    item.refuse(Fault::new(
                        format!("another server of this pool is named {}", quoted(&server.name)),
                        format!("see line {line}; remove one, or give it a `name` of its own"),
                    ));
                }
                servers.push(server);
            }
            Some(Entry::Source(source)) => {
                if let Some(line) = looked_up.seen(source.label(), item.line()) {
                    let help = format!("see line {line}; remove one, every address of the name is a server");
                    item.refuse(Fault::new("is listed twice", help));
                }
                sources.push(source);
            }
        }
    }
    (servers, sources)
}

/// An item of `servers`.
pub(super) enum Entry {
    Server(ServerPlan),
    Source(SourcePlan),
}

/// Where an item leads.
enum Place {
    /// With its text, which is the server's name unless it has another.
    Address(Name, Address),
    Host(DnsSourcePlan),
}

pub(super) fn entry(at: At<'_>) -> Option<Entry> {
    if at.is_scalar() {
        let place = at.scalar(&"an address like `10.0.0.11:8080`", place)?;
        return Some(match place {
            Place::Address(name, address) => Entry::Server(ServerPlan {
                name,
                address,
                weight: Weight::default(),
                max_connections: None,
                drain: false,
                backup: false,
                host: None,
            }),
            Place::Host(host) => {
                at.warn_of_one_label(&host.name);
                Entry::Source(discover::entry(host, ServerTemplate::default()))
            }
        });
    }
    let section = at.section_or(&"an address, or a section with `address`", keys::SERVER)?;
    let name = section.given("name", word);
    let place = section.required("address", place);
    let weight = section.value("weight", weight);
    let max_connections = section.nullable_count("max_connections");
    let (drain, backup) = (section.flag("drain"), section.flag("backup"));
    Some(match place? {
        Place::Address(as_written, address) => {
            let name = name.map_or(as_written, Name::from);
            Entry::Server(ServerPlan { name, address, weight, max_connections, drain, backup, host: None })
        }
        Place::Host(host) => {
            if let Some(at) = section.get("name") {
                at.refuse_key(Fault::new(
                    "is for one server, and a host name leads to as many as it has addresses",
                    "remove it; each is named by its address and port",
                ));
            }
            if let Some(at) = section.get("address") {
                at.warn_of_one_label(&host.name);
            }
            Entry::Source(discover::entry(host, ServerTemplate { weight, max_connections, drain, backup }))
        }
    })
}

fn place(scalar: &Scalar<'_>) -> Result<Place, Fault> {
    if address::is_host_with_port(&scalar.text) {
        let (name, port) = discover::host_with_port(scalar)?;
        return Ok(Place::Host(DnsSourcePlan { name, port, family: AddressFamily::Any }));
    }
    let address = address::to_connect(scalar).map_err(|fault| neither(&scalar.text).unwrap_or(fault))?;
    Ok(Place::Address((*scalar.text).into(), address))
}

/// What is wrong with a text that may have been meant as a host name.
fn neither(text: &str) -> Option<Fault> {
    if text.starts_with("http://") || text.starts_with("https://") {
        let message = format!("{} is a URL, and servers have addresses", quoted(text));
        return Some(Fault::new(
            message,
            "write it like `app.internal:8080`; for `https` give the pool `tls: {}`",
        ));
    }
    let may_be_name = text.contains(':') && !text.contains(['[', '/']) && text.parse::<Address>().is_err();
    may_be_name.then(|| {
        Fault::new(
            format!("{} is neither an address nor a host name with a port", quoted(text)),
            "write it like `10.0.0.11:8080`, `app.internal:8080` or `unix:/run/app.sock`",
        )
    })
}

fn weight(scalar: &Scalar<'_>) -> Result<Weight, Fault> {
    let Some(number) = scalar.as_number() else {
        return Err(Fault::new(
            format!("{} is not a weight", quoted(&scalar.text)),
            "use 1 to 256, without quotes",
        ));
    };
    Weight::new(number).ok_or_else(|| {
        let range = "use 1 to 256";
        let drain = if number == 0 { ", or `drain: true` to stop new requests" } else { "" };
        Fault::new(format!("{number} is out of range"), format!("{range}{drain}"))
    })
}

/// `None` where it is not readable.
fn slow_start(section: &Section<'_>) -> Option<Option<SlowStart>> {
    let of = |over: Duration, from| Some(SlowStart { over, from }).filter(|_| !over.is_zero());
    if section.get("slow_start").is_none_or(|at| at.is_scalar()) {
        let over = section.value("slow_start", |scalar| duration(scalar, &keys::SLOW_START_SHORT));
        return Some(of(over, Percent(10)));
    }
    section.section("slow_start", |ramp| of(ramp.duration("over"), ramp.percent("from")))
}

fn queue(section: Section<'_>) -> QueuePlan {
    QueuePlan {
        max: section.at_least_one("max"),
        timeout: section.duration("timeout"),
        order: section.choice("order", &QUEUE_ORDERS),
    }
}

const DEFAULT_QUEUE: QueuePlan = QueuePlan {
    max: NonZeroU32::new(1000).unwrap(),
    timeout: Duration::from_secs(5),
    order: QueueOrder::Adaptive,
};

/// Of a queue that somebody has written, and that does nothing, or not what it says.
fn warn_of_idle_queue(at: At<'_>, queue: &QueuePlan, is_limited: bool, timeouts: &PoolTimeouts) {
    if !is_limited && *queue != DEFAULT_QUEUE {
        at.warn(Fault::new(
            "nobody ever waits here, for no server has a limit",
            "add `max_connections` to the pool: as many requests as a server does well with at once",
        ));
    }
    if queue.timeout > timeouts.request {
        at.warn(Fault::new(
            format!(
                "a request may wait for {:?}, and is over after {:?} by `timeouts.request`",
                queue.timeout, timeouts.request
            ),
            "shorten `timeout` here, or lengthen `timeouts.request`",
        ));
    }
}

fn retries(section: Section<'_>) -> Retries {
    let mut on = RetryOn { connect: false, reset: false, timeout: false, statuses: Vec::new() };
    match section.get("on") {
        None => on = RetryOn { connect: true, reset: true, timeout: false, statuses: vec![502, 503, 504] },
        Some(at) => at.items().into_iter().flatten().for_each(|item| retry_on(&item, &mut on)),
    }
    Retries {
        max: section.count("max"),
        budget: section.percent("budget"),
        on,
        per_try: section.nullable_duration("per_try"),
    }
}

/// Of a `per_try` that ends nothing.
fn warn_of_idle_per_try(at: At<'_>, retries: &Retries, timeouts: &PoolTimeouts) {
    let Some(per_try) = retries.per_try else { return };
    let (name, around) = match timeouts.request < timeouts.response_header {
        true => ("request", timeouts.request),
        false => ("response_header", timeouts.response_header),
    };
    if !retries.on.timeout || retries.max == 0 || retries.budget.0 == 0 {
        at.warn(Fault::new(
            "cuts no try, for none would follow it",
            "add `timeout` to `on`, with a `max` and a `budget` of at least 1",
        ));
    } else if per_try >= around {
        at.warn(Fault::new(
            format!("cuts no try, for each ends after {around:?} anyway by `timeouts.{name}`"),
            "shorten it: some two or three times of what the slowest one in a hundred takes",
        ));
    }
}

fn retry_on(item: &At<'_>, on: &mut RetryOn) {
    #[derive(Clone, Copy)]
    enum Cause {
        Connect,
        Reset,
        Timeout,
        Status(u16),
    }
    let words = [
        ("connect", Cause::Connect),
        ("reset", Cause::Reset),
        ("timeout", Cause::Timeout),
        ("502", Cause::Status(502)),
        ("503", Cause::Status(503)),
        ("504", Cause::Status(504)),
    ];
    let cause = item.scalar(&"one of `connect`, `reset`, `timeout`, `502`, `503` and `504`", |scalar| {
        choose(scalar, &words)
    });
    let repeated = match cause {
        None => false,
        Some(Cause::Connect) => std::mem::replace(&mut on.connect, true),
        Some(Cause::Reset) => std::mem::replace(&mut on.reset, true),
        Some(Cause::Timeout) => std::mem::replace(&mut on.timeout, true),
        Some(Cause::Status(status)) => {
            let repeated = on.statuses.contains(&status);
            if !repeated {
                on.statuses.push(status);
            }
            repeated
        }
    };
    if repeated {
        item.refuse(Fault::new("is listed twice", "remove one"));
    }
}

fn timeouts(section: Section<'_>) -> PoolTimeouts {
    let timeouts = PoolTimeouts {
        connect: section.duration("connect"),
        response_header: section.duration("response_header"),
        stream_idle: section.duration("stream_idle"),
        tunnel_idle: section.duration("tunnel_idle"),
        request: section.duration("request"),
        keepalive: section.duration("keepalive"),
    };
    for (name, timeout) in [("connect", timeouts.connect), ("response_header", timeouts.response_header)] {
        if timeout > timeouts.request {
            section.get(name).unwrap_or(section.at).warn(Fault::new(
                format!(
                    "`{name}` of {timeout:?} is longer than the {:?} that `request` allows in all",
                    timeouts.request
                ),
                "shorten it, or lengthen `request`",
            ));
        }
    }
    timeouts
}
