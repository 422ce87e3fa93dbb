//! Servers by name: how names are looked up (`dns`), and where a pool's servers come from (`discover`, and host names
//! among its `servers`).

use super::keys;
use super::names::Once;
use super::place::At;
use super::plan::{
    AddressFamily, DiscoveryRules, DnsPlan, DnsSourcePlan, HttpSourcePlan, Name, ServerTemplate, SourceKind,
    SourcePlan, WhenEmpty,
};
use super::problem::{Fault, quoted};
use super::process::file_path;
use super::section::{Section, choose};
use super::tree::Scalar;
use crate::units::{self, Percent};
use http::Uri;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(super) const ADDRESS_FAMILIES: [(&str, AddressFamily); 3] =
    [("any", AddressFamily::Any), ("ipv4", AddressFamily::Ipv4), ("ipv6", AddressFamily::Ipv6)];

pub(super) const WHEN_EMPTY: [(&str, WhenEmpty); 2] =
    [("keep", WhenEmpty::Keep), ("remove", WhenEmpty::Remove)];

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

pub(super) fn dns(section: Section<'_>) -> DnsPlan {
    let resolvers = match section.get("resolvers") {
        Some(at) if !at.is_scalar() => Some(resolvers(at)),
        _ => section.value("resolvers", |scalar| match resolver(scalar) {
            Ok(_) => Err(Fault::new(
                format!("{} is one address, and not a list", quoted(&scalar.text)),
                format!("write `[\"{}\"]`", scalar.text),
            )),
            Err(_) if scalar.text == "system" => Ok(None),
            Err(_) => Err(Fault::new(
                format!("{} is not `system`", quoted(&scalar.text)),
                "write `system`, or a list of addresses, like `[10.0.0.2]`",
            )),
        }),
    };
    let (min_refresh, max_refresh) = (section.duration("min_refresh"), section.duration("max_refresh"));
    if min_refresh > max_refresh {
        section.get("min_refresh").unwrap_or(section.at).refuse_key(Fault::new(
            format!("{min_refresh:?} is longer than the {max_refresh:?} of `max_refresh`"),
            "shorten it, or lengthen `max_refresh`",
        ));
    }
    DnsPlan { resolvers, timeout: section.duration("timeout"), min_refresh, max_refresh }
}

fn resolvers(at: At<'_>) -> Vec<SocketAddr> {
    let Some(items) = at.items() else { return Vec::new() };
    if items.len() == 0 {
        at.refuse_key(Fault::new("is empty", "name a resolver, like `[10.0.0.2]`, or write `system`"));
    }
    let mut taken = Once::default();
    let mut resolvers = Vec::new();
    for item in items {
        let Some(resolver) = item.scalar(&"an IP address, like `10.0.0.2` or `10.0.0.2:53`", resolver) else {
            continue;
        };
        if let Some(line) = taken.seen(resolver, item.line()) {
            item.refuse(Fault::new("is listed twice", format!("see line {line}; remove one")));
        }
        resolvers.push(resolver);
    }
    resolvers
}

fn resolver(scalar: &Scalar<'_>) -> Result<SocketAddr, Fault> {
    let text = &*scalar.text;
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = address.or_else(|_| text.parse()).map_err(|_| {
        Fault::new(
            format!("{} is not an IP address", quoted(text)),
            "write it like `10.0.0.2`, `10.0.0.2:53` or `\"[2001:db8::2]:53\"`",
        )
    })?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(Fault::new(format!("{address} cannot be sent to"), "write the resolver's own address"));
    }
    Ok(address)
}

/// What is not written of an entry in `servers`.
pub(super) fn entry(name: DnsSourcePlan, template: ServerTemplate) -> SourcePlan {
    SourcePlan {
        kind: SourceKind::Dns(name),
        rules: Defaults::OF_DNS.rules(),
        start_wait: START_WAIT,
        template,
        is_entry: true,
    }
}

/// As the table of keys has it.
const START_WAIT: Duration = Duration::from_secs(5);
const MAX_SERVERS: u32 = 1000;

/// What differs from source to source.
struct Defaults {
    when_empty: WhenEmpty,
    leave_after: Duration,
    large_change: Option<Percent>,
}

impl Defaults {
    /// Records come and go with resolvers' caches, and answers may be short.
    const OF_DNS: Self = Self {
        when_empty: WhenEmpty::Keep,
        leave_after: Duration::from_secs(10),
        large_change: Some(Percent(50)),
    };

    /// Who writes a list means it.
    const OF_LISTS: Self =
        Self { when_empty: WhenEmpty::Remove, leave_after: Duration::ZERO, large_change: None };

    fn of(kind: &SourceKind) -> Self {
        match kind {
            SourceKind::Dns(_) | SourceKind::DnsSrv(_) => Self::OF_DNS,
            SourceKind::File(_) => Self::OF_LISTS,
            SourceKind::Http(_) => Self { large_change: Some(Percent(50)), ..Self::OF_LISTS },
        }
    }

    fn rules(self) -> DiscoveryRules {
        DiscoveryRules {
            when_empty: self.when_empty,
            keep_stale: None,
            leave_after: self.leave_after,
            large_change: self.large_change,
            max_servers: MAX_SERVERS,
        }
    }
}

/// A pool's `discover`.
pub(super) fn discover(section: Section<'_>) -> Option<SourcePlan> {
    let dns = dns_source(&section).map(SourceKind::Dns);
    let service = section.given("dns_srv", service_name).map(SourceKind::DnsSrv);
    let file = section.given("file", file_path).map(SourceKind::File);
    let http = match section.get("http") {
        Some(at) if at.is_scalar() && !at.is_null() => {
            at.refuse(Fault::new(
                "is the address alone",
                "write it like `{ url: https://inventory.internal/app.json }`",
            ));
            None
        }
        Some(at) if !at.is_null() => section.section("http", http_source).flatten(),
        _ => None,
    };
    let http = http.map(SourceKind::Http);
    let is_written = |name: &&str| section.get(name).is_some_and(|at| !at.is_null());
    let written: Vec<_> = keys::SOURCES.iter().copied().filter(is_written).collect();
    if written.len() != 1 {
        section.at.refuse_key(Fault::new(
            match written.is_empty() {
                true => "names no source".to_owned(),
                false => format!("names {} sources", written.len()),
            },
            "write one, like `dns: app.internal:8080`",
        ));
    }
    let kind = dns.or(service).or(file).or(http);
    let of_kind = kind.as_ref().map_or(Defaults::OF_DNS, Defaults::of).rules();
    let start_wait = section.duration("start_wait");
    let large_change = section.get("large_change").is_some();
    let rules = DiscoveryRules {
        when_empty: section
            .given("when_empty", |scalar| choose(scalar, &WHEN_EMPTY))
            .unwrap_or(of_kind.when_empty),
        keep_stale: section.value("keep_stale", keep_stale),
        leave_after: section.given_duration("leave_after").unwrap_or(of_kind.leave_after),
        large_change: match large_change {
            true => section.nullable_percent("large_change"),
            false => of_kind.large_change,
        },
        max_servers: section.count("max_servers"),
    };
    if let (Some(at), Some(_), WhenEmpty::Keep) =
        (section.get("keep_stale"), rules.keep_stale, rules.when_empty)
    {
        at.warn(Fault::new(
            "does nothing: with `when_empty: keep` servers stay however long the source says nothing",
            "write `when_empty: remove` as well, or remove it",
        ));
    }
    Some(SourcePlan { kind: kind?, rules, start_wait, template: ServerTemplate::default(), is_entry: false })
}

/// `_http._tcp.app.internal`
fn service_name(scalar: &Scalar<'_>) -> Result<Name, Fault> {
    let example = "write it like `_http._tcp.app.internal`";
    if scalar.text.contains(':') {
        let text = format!("{} has a port, and SRV records say which", quoted(&scalar.text));
        return Err(Fault::new(text, example));
    }
    let name = host_name(scalar)?;
    let mut labels = name.split('.');
    let is_service = labels.by_ref().take(2).filter(|label| label.starts_with('_')).count() == 2;
    match is_service && labels.next().is_some() {
        true => Ok(name),
        false => Err(Fault::new(
            format!("{} is not the name of a service (RFC 2782)", quoted(&scalar.text)),
            example,
        )),
    }
}

fn keep_stale(scalar: &Scalar<'_>) -> Result<Option<Duration>, Fault> {
    const MOST: Duration = Duration::from_secs(30 * 86_400);
    if scalar.text == "forever" {
        return Ok(None);
    }
    match units::duration(&scalar.text) {
        Ok(keep) if keep <= MOST => Ok(Some(keep)),
        Ok(_) => Err(Fault::new(
            format!("{} is out of range", quoted(&scalar.text).trim_matches('`')),
            "use at most 30d, or `forever`",
        )),
        Err(fault) => Err(Fault::from(format!("{fault}; or `forever`"))),
    }
}

fn dns_source(discover: &Section<'_>) -> Option<DnsSourcePlan> {
    let at = discover.get("dns")?;
    if at.is_scalar() {
        return at.scalar(&"a host name with a port, like `app.internal:8080`", |scalar| {
            let (name, port) = host_with_port(scalar)?;
            at.warn_of_one_label(&name);
            Ok(DnsSourcePlan { name, port, family: AddressFamily::Any })
        });
    }
    discover.section("dns", |dns| {
        let name = dns.required("name", host_name);
        if let (Some(name), Some(at)) = (&name, dns.get("name")) {
            at.warn_of_one_label(name);
        }
        let port = dns.required_port("port");
        let family = dns.choice("family", &ADDRESS_FAMILIES);
        Some(DnsSourcePlan { name: name?, port: port?, family })
    })?
}

fn http_source(section: Section<'_>) -> Option<HttpSourcePlan> {
    let url = section.required("url", url);
    let (interval, timeout) = (section.duration("interval"), section.duration("timeout"));
    let (ca, token_file) = (section.nullable("ca", file_path), section.nullable("token_file", file_path));
    let url = url?;
    if let (Some(at), true) = (section.get("ca"), url.starts_with("http:"))
        && ca.is_some()
    {
        at.warn(Fault::new("is for `https`, and this URL is not", "use an `https` URL, or remove it"));
    }
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_ascii_lowercase));
    if let (Some(at), Some(host)) = (section.get("url"), host)
        && is_host_name(&host)
    {
        at.warn_of_one_label(&host);
    }
    if let (Some(at), true) = (section.get("timeout").or(section.get("interval")), timeout > interval) {
        at.warn(Fault::new(
            format!("an answer may take {timeout:?}, longer than the {interval:?} between two questions"),
            "shorten `timeout`, or lengthen `interval`",
        ));
    }
    if let (Some(at), true) = (section.get("token_file"), url.starts_with("http:"))
        && token_file.is_some()
    {
        at.warn(Fault::new("goes over the network in plain text", "use an `https` URL"));
    }
    Some(HttpSourcePlan { url, interval, timeout, ca, token_file })
}

fn url(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let example = "write it like `https://inventory.internal/app.json`";
    let bad = || Fault::new(format!("{} is not a URL", quoted(&scalar.text)), example);
    let url: Uri = scalar.text.parse().map_err(|_| bad())?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    let is_host = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        address.is_ok() || is_host_name(host.strip_suffix('.').unwrap_or(host))
    };
    if !is_web || !url.host().is_some_and(is_host) {
        return Err(bad());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // It is shown in metrics and in `status`.
        return Err(Fault::new("has a user or a password in it", "use `token_file`"));
    }
    Ok(scalar.text.to_string())
}

impl At<'_> {
    /// A name of one label is mostly one that a search list should complete.
    pub(super) fn warn_of_one_label(&self, name: &str) {
        if !name.contains('.') && name != "localhost" {
            self.warn(Fault::new(
                format!("{} is looked up as it is: no search list completes it", quoted(name)),
                "write the whole name, like `app.internal`",
            ));
        }
    }
}

/// `app.internal:8080`
pub(super) fn host_with_port(scalar: &Scalar<'_>) -> Result<(Name, u16), Fault> {
    let text = &*scalar.text;
    let example = "write it like `app.internal:8080`";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Fault::new(format!("{} has no port", quoted(text)), example));
    };
    let port = match port.parse() {
        Ok(0) | Err(_) => {
            return Err(Fault::new(format!("{} is not a port", quoted(port)), "use 1 to 65535"));
        }
        Ok(port) => port,
    };
    Ok((host_name(&Scalar::plain(host))?, port))
}

/// In lower case, without a dot at its end.
pub(super) fn host_name(scalar: &Scalar<'_>) -> Result<Name, Fault> {
    let text = &*scalar.text;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.parse::<IpAddr>().is_ok() {
        let help = "write addresses in `servers`, like `10.0.0.11:8080`";
        return Err(Fault::new(format!("{} is an address, not a host name", quoted(text)), help));
    }
    if !is_host_name(name) {
        return Err(Fault::new(
            format!("{} is not a host name", quoted(text)),
            "write it like `app.internal`",
        ));
    }
    Ok(name.to_ascii_lowercase().into())
}

/// Underscores are no part of hosts' names by the book, and in wide use.
pub(super) fn is_host_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_bounded = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    let is_label =
        |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits) && is_bounded(label);
    // What ends in a number is an address that was mistyped.
    let last_is_number =
        |name: &str| name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_number(name)
}
