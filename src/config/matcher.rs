//! What a rule matches, and whether one rule leaves anything to another.

use super::field_name::{cookie_name, header_name};
use super::keys;
use super::names::Once;
use super::networks::NamedLists;
use super::place::At;
use super::plan::{HeaderMatch, HostPattern, Match, PathPattern, PathRegex, ValueMatch};
use super::problem::{Fault, nearest, quoted};
use super::section::Section;
use super::tree::Scalar;
use http::{HeaderValue, Method};
use regex::{Regex, RegexBuilder};

/// Reads what a rule matches.
pub(super) fn matcher(section: &Section<'_>, networks: &NamedLists<'_>) -> Match {
    let below = |at: At<'_>| {
        let (errors, below) = (at.errors(), conditions(&at.section(keys::MATCH_BELOW)?, networks));
        // What has no condition fits every request; what is wrong in it has been told.
        if at.errors() == errors && below == Match::default() {
            at.refuse(Fault::new(
                "has no condition",
                "write one, like `{ path: /admin/* }`, or leave it out",
            ));
        }
        Some(below)
    };
    let not = section.get("not").filter(|at| !at.is_null());
    let any = section.get("any");
    Match {
        not: not.and_then(below).map(Box::new),
        any: any.iter().filter_map(At::items).flatten().filter_map(below).collect(),
        alpn: section.get("alpn").map(|at| alpn(&at)).unwrap_or_default(),
        ..conditions(section, networks)
    }
}

/// The part that may stand below `not` and `any` as well.
fn conditions(section: &Section<'_>, networks: &NamedLists<'_>) -> Match {
    Match {
        host: section.nullable("host", host),
        path: section.nullable("path", path),
        path_regex: section.nullable("path_regex", path_regex),
        methods: section.get("methods").map(|at| methods(&at)).unwrap_or_default(),
        headers: section.get("headers").map(|at| headers(&at)).unwrap_or_default(),
        query: section.get("query").map(|at| values(&at, parameter_name)).unwrap_or_default(),
        cookies: section.get("cookies").map(|at| values(&at, cookie_name)).unwrap_or_default(),
        client: section.get("client").map(|at| networks.list(&at)).unwrap_or_default(),
        country: networks.geo.of(section, "country"),
        asn: networks.geo.of(section, "asn"),
        ..Match::default()
    }
}

/// Of the compiled expression, with what it needs to run.
const LARGEST_REGEX: usize = 1 << 20;

fn path_regex(scalar: &Scalar<'_>) -> Result<PathRegex, Fault> {
    regex(scalar).map(PathRegex)
}

pub(super) fn regex(scalar: &Scalar<'_>) -> Result<Regex, Fault> {
    let built =
        RegexBuilder::new(&scalar.text).size_limit(LARGEST_REGEX).dfa_size_limit(LARGEST_REGEX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            Fault::new("takes more than 1 MiB when it is compiled", "ask for less, or for fewer repetitions")
        }
        error => {
            // The last line says what is wrong, those before show where.
            let said = error.to_string();
            let what = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Fault::new(
                format!("{} is not a regular expression: {what}", quoted(&scalar.text)),
                "write it as Rust's `regex` has it, without look-around and back-references, like `^/item/(?P<id>[0-9]+)$`",
            )
        }
    })
}

fn parameter_name(scalar: &Scalar<'_>) -> Result<String, Fault> {
    match scalar.text.is_empty() || scalar.text.contains(['&', '=', '#']) {
        false => Ok(scalar.text.to_string()),
        true => Err(Fault::new(
            format!("{} is not the name of a parameter", quoted(&scalar.text)),
            "write it without `=`, `&` and `#`, percent-encoded as in the request",
        )),
    }
}

/// Names with the value that each must have, or `*`.
fn values(at: &At<'_>, name: fn(&Scalar<'_>) -> Result<String, Fault>) -> Vec<ValueMatch> {
    let mut values = Vec::new();
    for (key, at) in at.names().into_iter().flatten() {
        let value = at.scalar(&"the value, or `\"*\"` for any", |scalar| {
            Ok((scalar.text != "*").then(|| scalar.text.to_string()))
        });
        match name(&Scalar::plain(key)) {
            Ok(name) => values.extend(value.map(|value| ValueMatch { name, value })),
            Err(fault) => at.refuse_key(fault),
        }
    }
    values
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

pub(super) fn path(scalar: &Scalar<'_>) -> Result<PathPattern, Fault> {
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
    if !fixed.is_ascii() {
        return Err(Fault::new(
            format!("{} has characters that no path has", quoted(text)),
            "write them percent-encoded, as they are in requests: `é` is `%C3%A9`",
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

pub(super) fn method(scalar: &Scalar<'_>) -> Result<Method, Fault> {
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

/// Whether every request that `late` matches is matched by `early` too.
pub(super) fn covers(early: &Match, late: &Match) -> bool {
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
    let has_all = |early: &[ValueMatch], late: &[ValueMatch]| {
        early.iter().all(|early| {
            late.iter()
                .any(|late| late.name == early.name && (early.value.is_none() || early.value == late.value))
        })
    };
    let values = has_all(&early.query, &late.query) && has_all(&early.cookies, &late.cookies);
    // Of these no more is known than whether they are the same.
    let others = (early.path_regex.is_none() || early.path_regex == late.path_regex)
        && (early.client.is_empty() || early.client == late.client)
        && (early.country.is_empty() || early.country == late.country)
        && (early.asn.is_empty() || early.asn == late.asn)
        && (early.not.is_none() || early.not == late.not)
        && (early.any.is_empty() || early.any == late.any);
    let alpn = early.alpn.is_empty()
        || (!late.alpn.is_empty() && late.alpn.iter().all(|protocol| early.alpn.contains(protocol)));
    host && path && methods && headers && values && others && alpn
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
