//! Routes: which requests a rule matches, and rules that can never match because of one before them.

use super::field_name::header_name;
use super::names::{Names, Once, check_section_name, word};
use super::place::At;
use super::plan::{HeaderMatch, HostPattern, Match, PathPattern, PoolPlan, Priority, RoutesPlan, RulePlan};
use super::problem::{Fault, nearest, quoted};
use super::section::Section;
use super::tree::Scalar;
use super::{keys, plan::Name, policy, rule_target};
use http::{HeaderValue, Method};

/// What a connection may switch to if nothing is said.
const WEBSOCKET: &str = "websocket";

pub(super) const PRIORITIES: [(&str, Priority); 3] =
    [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];

/// Reads one list of rules. `taken` are the rule names of the lists before it: they are one metric label.
pub(super) fn routes(
    name: &str,
    at: &At<'_>,
    (pools, policies): (&Names<'_>, &Names<'_>),
    taken: &mut Once<Name>,
) -> Option<RoutesPlan> {
    check_section_name(name, at);
    let items = at.items()?;
    if items.len() == 0 {
        at.refuse_key(Fault::new("has no rules", "add at least `- pool: NAME`, which takes every request"));
    }
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.enumerate() {
        let errors = item.errors();
        let Some(section) = item.section(keys::RULE) else { continue };
        let rule = rule(name, index, &section, (pools, policies), taken);
        // What a broken rule would match is not known.
        if let Some(rule) = rule.filter(|_| section.at.errors() == errors) {
            warn_if_covered(&rule, &rules, &section.at);
            rules.push((rule, section.at.line()));
        }
    }
    Some(RoutesPlan { name: name.into(), rules: rules.into_iter().map(|(rule, _)| rule).collect() })
}

/// Reports rules that let some wait before others where nobody ever waits.
pub(super) fn warn_of_idle_priorities(at: &At<'_>, routes: &RoutesPlan, pools: &[PoolPlan]) {
    let is_idle = |rule: &RulePlan| {
        let pool = rule.pool().and_then(|pool| pools.get(pool));
        rule.priority != Priority::Normal && pool.is_some_and(|pool| !ever_waits(pool))
    };
    let items = at.items().into_iter().flatten();
    for (_, item) in routes.rules.iter().zip(items).filter(|(rule, _)| is_idle(rule)) {
        item.below("priority").unwrap_or(item).warn(Fault::new(
            "nobody ever waits for a server of this pool",
            "give the pool a `queue` and `max_connections`, or remove it",
        ));
    }
}

/// Whether the pool, or what serves in its place, may have anybody wait.
fn ever_waits(pool: &PoolPlan) -> bool {
    let limits = pool.servers.iter().map(|server| server.max_connections);
    let mut limits = limits.chain(pool.sources.iter().map(|source| source.template.max_connections));
    pool.fallback.is_some() || pool.queue.is_some() && limits.any(|limit| limit.is_some())
}

fn rule(
    routes: &str,
    index: usize,
    section: &Section<'_>,
    (pools, policies): (&Names<'_>, &Names<'_>),
    taken: &mut Once<Name>,
) -> Option<RulePlan> {
    let name: Name = match section.given("name", word) {
        Some(name) => name.into(),
        None => format!("{routes}/{}", index + 1).into(),
    };
    let place = section.get("name").unwrap_or(section.at);
    if let Some(line) = taken.seen(name.clone(), place.line()) {
        place.refuse(Fault::new(
            format!("another rule is named {}", quoted(&name)),
            format!("see line {line}; rule names label metrics and logs, so use each once"),
        ));
    }
    let matcher = section.section("match", matcher);
    let target = rule_target::target(section, matcher.as_ref().unwrap_or(&Match::default()), pools);
    let upgrades = section.get("upgrades").map(|at| upgrades(&at));
    let upgrades = upgrades.filter(|upgrades| upgrades[..] != [WEBSOCKET]);
    let priority = section.choice("priority", &PRIORITIES);
    let policy = policy::reference(section, policies);
    let own_policy = policy::policy(section);
    Some(RulePlan { name, matcher: matcher?, target: target?, upgrades, priority, policy, own_policy })
}

fn matcher(section: Section<'_>) -> Match {
    Match {
        host: section.nullable("host", host),
        path: section.nullable("path", path),
        methods: section.get("methods").map(|at| methods(&at)).unwrap_or_default(),
        headers: section.get("headers").map(|at| headers(&at)).unwrap_or_default(),
        alpn: section.get("alpn").map(|at| alpn(&at)).unwrap_or_default(),
    }
}

fn host(scalar: &Scalar<'_>) -> Result<HostPattern, Fault> {
    let text = scalar.text.to_ascii_lowercase();
    let example = "write it like `shop.example` or `\"*.shop.example\"`";
    if text == "*" {
        return Err(Fault::new("`*` matches every host", "leave `host` out for that"));
    }
    if text.starts_with('[') && text.ends_with(']') {
        return match text[1..text.len() - 1].parse::<std::net::Ipv6Addr>() {
            // In the one spelling that requests are compared in.
            Ok(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            Err(_) => Err(Fault::new(format!("{} is not a host", quoted(&scalar.text)), example)),
        };
    }
    if let Some((name, _)) = text.split_once(':') {
        return Err(Fault::new(
            format!("{} is more than a host name", quoted(&scalar.text)),
            format!(
                "leave scheme and port away, like {}",
                quoted(if name.contains('.') { name } else { "shop.example" })
            ),
        ));
    }
    let suffix = text.strip_prefix("*.");
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() > 253 || !suffix.unwrap_or(&text).split('.').all(label) {
        return Err(Fault::new(format!("{} is not a host name", quoted(&scalar.text)), example));
    }
    Ok(match suffix {
        Some(suffix) => HostPattern::Suffix(format!(".{suffix}")),
        None => HostPattern::Exact(text),
    })
}

fn path(scalar: &Scalar<'_>) -> Result<PathPattern, Fault> {
    let text = &*scalar.text;
    let prefix = text.strip_suffix("/*");
    let fixed = prefix.unwrap_or(text);
    if !text.starts_with('/') {
        return Err(Fault::new(
            format!("{} does not begin with `/`", quoted(text)),
            "write `/exact` or `/prefix/*`",
        ));
    }
    if fixed.contains('*') {
        return Err(Fault::new(
            format!("{} has a `*` in another place than its end", quoted(text)),
            "write `/exact`, or `/prefix/*` for everything below it",
        ));
    }
    if let Some(c) = fixed.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        return Err(Fault::new(
            format!("{} has a {} in it, which no path has", quoted(text), quoted(&c.to_string())),
            "match the path alone, percent-encoded as in the request",
        ));
    }
    Ok(match prefix {
        Some(prefix) => PathPattern::Prefix(format!("{prefix}/")),
        None => PathPattern::Exact(text.to_owned()),
    })
}

fn methods(at: &At<'_>) -> Vec<Method> {
    let Some(items) = at.items() else { return Vec::new() };
    items.filter_map(|item| item.scalar(&"a method like `GET`", method)).collect()
}

fn method(scalar: &Scalar<'_>) -> Result<Method, Fault> {
    const USUAL: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    let text = &*scalar.text;
    let capitals =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if capitals => Ok(method),
        _ => {
            let message = format!("{} is not a method", quoted(text));
            Err(match nearest(text, USUAL) {
                Some(usual) => Fault { message: format!("{message}, did you mean `{usual}`?"), help: None },
                None => Fault::new(message, "methods are in capitals, like `GET`"),
            })
        }
    }
}

/// RFC 7301 section 3.1: a protocol's name has 1 to 255 bytes. All registered ones but GREASE are ASCII words.
fn alpn(at: &At<'_>) -> Vec<String> {
    let Some(items) = at.items() else { return Vec::new() };
    let protocol = |scalar: &Scalar<'_>| {
        let fits =
            (1..=255).contains(&scalar.text.len()) && scalar.text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| scalar.text.to_string()).ok_or_else(|| {
            Fault::new(
                format!("{} is not the name of a protocol", quoted(&scalar.text)),
                "write it as IANA has it, like `h2`, `http/1.1` or `postgresql`",
            )
        })
    };
    items.filter_map(|item| item.scalar(&"a protocol like `h2`", protocol)).collect()
}

/// RFC 9110 section 7.8: `name` or `name/version`.
fn upgrades(at: &At<'_>) -> Vec<String> {
    let Some(items) = at.items() else { return Vec::new() };
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let protocol = |scalar: &Scalar<'_>| {
        let text = &scalar.text;
        if text.eq_ignore_ascii_case("h2c") {
            return Err(Fault::new(
                "HTTP/2 inside an upgraded connection would pass every rule and limit by",
                "clients speak HTTP/2 to a listener at once; remove it",
            ));
        }
        let (name, version) = text.split_once('/').unwrap_or((text, "1"));
        match is_token(name) && is_token(version) {
            true => Ok(text.to_string()),
            false => Err(Fault::new(
                format!("{} is not the name of a protocol", quoted(text)),
                "write it as clients do in `Upgrade`, like `websocket` or `SPDY/3.1`",
            )),
        }
    };
    items.filter_map(|item| item.scalar(&"a protocol like `websocket`", protocol)).collect()
}

fn headers(at: &At<'_>) -> Vec<HeaderMatch> {
    let Some(names) = at.names() else { return Vec::new() };
    let mut headers: Vec<HeaderMatch> = Vec::new();
    let mut taken = Once::default();
    for (name, at) in names {
        let value = at.scalar(&"the field's value, or `\"*\"` for any", header_value);
        match header_name(name) {
            Ok(name) if taken.seen(name.clone(), at.line()).is_some() => at.refuse_key(Fault::new(
                format!("the field `{name}` is here twice"),
                "field names are compared without case; remove one",
            )),
            Ok(name) => headers.extend(value.map(|value| HeaderMatch { name, value })),
            Err(fault) => at.refuse_key(fault),
        }
    }
    headers
}

fn header_value(scalar: &Scalar<'_>) -> Result<Option<String>, Fault> {
    if scalar.text == "*" {
        return Ok(None);
    }
    let visible = HeaderValue::from_str(&scalar.text).is_ok_and(|value| value.to_str().is_ok());
    // A received value has no spaces around it, so one that has would never match.
    if visible && scalar.text.trim() == scalar.text {
        return Ok(Some(scalar.text.to_string()));
    }
    Err(Fault::new(
        format!("{} is not the value of a header field", quoted(&scalar.text)),
        "use visible ASCII characters without spaces at either end",
    ))
}

/// Comparing each rule with all before it is quadratic; a list this long is generated, not read.
const MOST_COMPARED: usize = 1000;

fn warn_if_covered(rule: &RulePlan, before: &[(RulePlan, usize)], at: &At<'_>) {
    let covering =
        before.iter().take(MOST_COMPARED).find(|(earlier, _)| covers(&earlier.matcher, &rule.matcher));
    if let Some((earlier, line)) = covering {
        at.warn(Fault::new(
            format!("this rule can never match: `{}` on line {line} takes all of its requests", earlier.name),
            "move this rule before that one, or remove it",
        ));
    }
}

/// Whether every request that `late` matches is matched by `early` too.
fn covers(early: &Match, late: &Match) -> bool {
    let host = match (&early.host, &late.host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(HostPattern::Suffix(early)), Some(HostPattern::Exact(late) | HostPattern::Suffix(late))) => {
            late.ends_with(early.as_str())
        }
        (Some(early), Some(late)) => early == late,
    };
    let path = match (&early.path, &late.path) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(PathPattern::Prefix(early)), Some(PathPattern::Exact(late))) => {
            late.starts_with(early.as_str()) || late == early.trim_end_matches('/')
        }
        (Some(PathPattern::Prefix(early)), Some(PathPattern::Prefix(late))) => {
            late.starts_with(early.as_str())
        }
        (Some(early), Some(late)) => early == late,
    };
    let methods = early.methods.is_empty()
        || (!late.methods.is_empty() && late.methods.iter().all(|method| early.methods.contains(method)));
    let headers = early.headers.iter().all(|early| {
        late.headers
            .iter()
            .any(|late| late.name == early.name && (early.value.is_none() || early.value == late.value))
    });
    let alpn = early.alpn.is_empty()
        || (!late.alpn.is_empty() && late.alpn.iter().all(|protocol| early.alpn.contains(protocol)));
    host && path && methods && headers && alpn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(host: Option<&str>, path: Option<&str>) -> Match {
        let host = host.map(|text| super::host(&Scalar::plain(text)).expect("a host"));
        let path = path.map(|text| super::path(&Scalar::plain(text)).expect("a path"));
        Match { host, path, ..Match::default() }
    }

    #[test]
    fn a_wider_rule_covers_a_narrower_one_and_never_the_other_way_round() {
        for (wide, narrow) in [
            ((None, None), (Some("a.example"), None)),
            ((None, Some("/*")), (None, Some("/x"))),
            ((None, Some("/a/*")), (None, Some("/a"))),
            ((None, Some("/a/*")), (None, Some("/a/b/*"))),
            ((Some("*.example"), None), (Some("a.b.example"), Some("/x"))),
            ((Some("*.example"), None), (Some("*.a.example"), None)),
        ] {
            let (early, late) = (matching(wide.0, wide.1), matching(narrow.0, narrow.1));
            assert!(covers(&early, &late), "{wide:?} covers {narrow:?}");
            assert!(!covers(&late, &early), "{narrow:?} covers {wide:?}");
        }
        for (one, other) in [
            ((None, Some("/a/*")), (None, Some("/ab"))),
            ((Some("*.example"), None), (Some("example"), None)),
            ((Some("*.b.example"), None), (Some("*.ab.example"), None)),
        ] {
            assert!(!covers(&matching(one.0, one.1), &matching(other.0, other.1)), "{one:?} {other:?}");
        }
    }
}
