//! The parts of a policy that are more than rules about fields.

use super::field_name::header_name;
use super::keys;
use super::matcher::{method, regex};
use super::networks::NamedLists;
use super::place::At;
use super::plan::policy::{
    Bandwidth, BandwidthPer, Canonical, Cors, EarlyHints, ErrorPage, ErrorPages, Fault as FaultPlan,
    Inheritable, Maintenance, OriginPattern, PageFile, Rewrite, SecurityHeaders, Wanted,
};
use super::problem::{Fault, quoted};
use super::process::file_path;
use super::section::Section;
use super::text::template;
use super::tree::Scalar;
use crate::template::Template;
use crate::units;
use bytes::Bytes;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub(super) fn rewrite(section: &Section<'_>) -> Option<Rewrite> {
    let rewrite = Rewrite {
        strip_prefix: section.nullable("strip_prefix", prefix),
        add_prefix: section.nullable("add_prefix", added_prefix),
        regex: section.nullable("regex", regex),
        to: section.nullable("to", target),
        host: section.nullable("host", host),
    };
    let (to, others) = (section.get("to"), ["strip_prefix", "add_prefix"]);
    if let Some(to) = to.filter(|at| !at.is_null()) {
        for at in others.iter().filter_map(|name| section.get(name)).filter(|at| !at.is_null()) {
            at.refuse_key(Fault::new(
                "`to` takes the place of the whole path",
                format!("keep this or `to` (line {})", to.line()),
            ));
        }
    } else if let Some(at) = section.get("regex").filter(|at| !at.is_null()) {
        at.refuse_key(Fault::new("there is no `to`, which would take the path's place", "add `to`"));
    }
    Some(rewrite)
}

/// Kept without a slash at its end.
fn prefix(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = scalar.text.trim_end_matches('/');
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_path && !text.contains(['?', '#', '{', '}']) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            format!("{} is not the beginning of a path", quoted(&scalar.text)),
            "write it like `/api`, percent-encoded as in requests",
        )),
    }
}

/// The same of what servers get, whichever protocol they speak.
fn added_prefix(scalar: &Scalar<'_>) -> Result<String, Fault> {
    escaped(scalar)?;
    prefix(scalar)
}

/// Refuses what has to be percent-encoded (RFC 3986 section 2): HTTP/2 has no form for a target with it.
fn escaped(scalar: &Scalar<'_>) -> Result<(), Fault> {
    match scalar.text.chars().find(|byte| matches!(byte, '"' | '<' | '>' | '`')) {
        None => Ok(()),
        Some(byte) => Err(Fault::new(
            format!("{} has `{byte}`, which paths have percent-encoded only", quoted(&scalar.text)),
            format!("write `%{:02X}` for it", u32::from(byte)),
        )),
    }
}

fn target(scalar: &Scalar<'_>) -> Result<Template, Fault> {
    let to = template(scalar)?;
    escaped(scalar)?;
    let text = &*scalar.text;
    let mut pairs = text.as_bytes().windows(2);
    if pairs.any(|pair| pair[0] == b'$' && pair[1].is_ascii_digit()) {
        return Err(Fault::new(
            format!("{} has a group by its number, which stands for nothing here", quoted(text)),
            "name the group in `regex`, like `(?P<id>[0-9]+)`, and write `{path.id}`",
        ));
    }
    let begins = text.starts_with('/') || text.starts_with("{path}");
    match begins && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#') {
        true => Ok(to),
        false => Err(Fault::new(
            format!("{} is not a path", quoted(text)),
            "write it like `/shop{path}`, with a query or without",
        )),
    }
}

fn host(scalar: &Scalar<'_>) -> Result<Template, Fault> {
    let host = template(scalar)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]{}".contains(&byte);
    let has_empty_label = scalar.text.starts_with(['.', ':']) || scalar.text.contains("..");
    match !scalar.text.is_empty() && scalar.text.bytes().all(fits) && !has_empty_label {
        true => Ok(host),
        false => Err(Fault::new(
            format!("{} is not a host", quoted(&scalar.text)),
            "write it like `shop.internal` or `shop.internal:8080`",
        )),
    }
}

pub(super) const WANTED: [(&str, Wanted); 2] = [("add", Wanted::Add), ("remove", Wanted::Remove)];

pub(super) fn canonical(section: &Section<'_>) -> Option<Canonical> {
    let wanted = |scalar: &Scalar<'_>| super::section::choose(scalar, &WANTED);
    Some(Canonical {
        https: section.flag("https"),
        www: section.nullable("www", wanted),
        trailing_slash: section.nullable("trailing_slash", wanted),
    })
}

pub(super) fn maintenance(section: &Section<'_>, networks: &NamedLists<'_>) -> Option<Maintenance> {
    Some(Maintenance {
        enabled: section.flag("enabled"),
        file: section.nullable("file", page_file),
        retry_after: section.duration("retry_after"),
        except: section.get("except").map(|at| networks.list(&at)).unwrap_or_default(),
    })
}

fn page_file(scalar: &Scalar<'_>) -> Result<PageFile, Fault> {
    Ok(PageFile { path: file_path(scalar)?, content: Bytes::new() })
}

/// Pages by their statuses, beside what is intercepted.
pub(super) fn errors(section: &Section<'_>) -> Inheritable<ErrorPages> {
    let Some(at) = section.get("errors") else { return Inheritable::Inherited };
    if at.is_null() {
        return Inheritable::Off;
    }
    let (mut pages, mut intercept, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for (name, at) in at.names().into_iter().flatten() {
        if name == keys::ERRORS[0].name {
            let items = at.items().into_iter().flatten();
            intercept.extend(items.filter_map(|item| item.scalar(&"a status like `502`", intercepted)));
            continue;
        }
        match statuses(name) {
            Ok(statuses) => pages.extend(at.section(keys::ERROR_PAGE).map(|section| {
                let page = ErrorPage {
                    statuses,
                    html: section.nullable("html", page_file),
                    json: section.nullable("json", page_file),
                };
                if section.get("html").is_none() && section.get("json").is_none() {
                    bare.push((page.statuses.clone(), at));
                }
                page
            })),
            Err(fault) => at.refuse_key(fault),
        }
    }
    let has_page = |status: &u16| pages.iter().any(|page: &ErrorPage| page.statuses.contains(status));
    if let Some(status) = intercept.iter().find(|status| !has_page(status)) {
        at.refuse_key(Fault::new(
            format!("`intercept` has {status}, for which there is no page"),
            format!("add one, like `\"{status}\": {{ html: /etc/evenkeel/{status}.html }}`"),
        ));
    }
    // Where servers' own pages are kept from clients, our text in their place may be what is wanted.
    let is_bare =
        |(statuses, _): &&(RangeInclusive<u16>, At<'_>)| !intercept.iter().any(|one| statuses.contains(one));
    for (_, at) in bare.iter().filter(is_bare) {
        at.warn(Fault::new(
            "has no page, so clients get evenkeel's own text",
            "name a file, like `{ html: /etc/evenkeel/error.html }`, or leave it out",
        ));
    }
    Inheritable::Set(Arc::new(ErrorPages { pages, intercept }))
}

fn intercepted(scalar: &Scalar<'_>) -> Result<u16, Fault> {
    match statuses(&scalar.text) {
        Ok(range) if range.start() == range.end() => Ok(*range.start()),
        _ => Err(Fault::new(format!("{} is not an error's status", quoted(&scalar.text)), "use 400 to 599")),
    }
}

/// `503` or `502-504`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (400..600).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Fault::new(
            format!("{} is neither an error's status nor a range of them", quoted(text)),
            "write it like `\"503\"` or `\"502-504\"`, from 400 to 599",
        )),
    }
}

pub(super) fn cors(section: &Section<'_>) -> Option<Cors> {
    let list = |name: &str| section.get(name);
    let items = |at: &At<'_>, wanted: &'static str| -> Vec<(String, usize)> {
        let items = at.items().into_iter().flatten();
        let read =
            |item: At<'_>| Some((item.scalar(&wanted, |scalar| Ok(scalar.text.to_string()))?, item.line()));
        items.filter_map(read).collect()
    };
    let at = list("origins");
    let mut origins = Vec::new();
    for item in at.iter().filter_map(At::items).flatten() {
        origins.extend(item.scalar(&"an origin like `https://shop.example`", origin));
    }
    if origins.is_empty() {
        section.at.refuse_key(Fault::new(
            "names no origins, so no page could read anything",
            "add `origins`, like `origins: [\"https://shop.example\"]`",
        ));
    }
    let credentials = section.flag("credentials");
    if credentials && origins.contains(&OriginPattern::Any) {
        section.at.refuse_key(Fault::new(
            "`\"*\"` with `credentials` would let any page act as its visitor",
            "name the origins, or leave `credentials` out",
        ));
    }
    let methods = match list("methods") {
        None => vec![http::Method::GET],
        Some(at) => {
            let items = at.items().into_iter().flatten();
            items.filter_map(|item| item.scalar(&"a method like `GET`", method)).collect()
        }
    };
    let named = list("headers").map(|at| items(&at, "the name of a field")).unwrap_or_default();
    let headers = match named.iter().any(|(name, _)| name == "*") {
        true => None,
        false => Some(
            named
                .iter()
                .filter_map(|(name, _)| header_name(name).map_err(|fault| section.at.refuse_key(fault)).ok())
                .collect(),
        ),
    };
    Some(Cors { origins, methods, headers, credentials, max_age: section.duration("max_age") })
}

/// A scheme and a host, as browsers serialize them: in lower case, without a default port and a path (RFC 6454 section 6.2).
fn origin(scalar: &Scalar<'_>) -> Result<OriginPattern, Fault> {
    let text = &*scalar.text;
    if text == "*" {
        return Ok(OriginPattern::Any);
    }
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]*".contains(&byte);
    let is_host = |host: &str| {
        let rest = host.strip_prefix("*.").unwrap_or(host);
        !rest.is_empty() && rest.bytes().all(fits) && !rest.contains('*')
    };
    let has_default = text.starts_with("https://") && text.ends_with(":443")
        || text.starts_with("http://") && text.ends_with(":80");
    if !host.is_some_and(is_host) || has_default {
        return Err(Fault::new(
            format!("{} is not an origin as browsers send them", quoted(text)),
            "write it like `https://shop.example`, in lower case, without a path and a default port",
        ));
    }
    Ok(match text.split_once('*') {
        Some((before, behind)) => OriginPattern::Below(before.to_owned(), behind.to_owned()),
        None => OriginPattern::Exact(text.to_owned()),
    })
}

pub(super) const SECURITY_HEADERS: [(&str, SecurityHeaders); 1] = [("standard", SecurityHeaders::Standard)];

pub(super) fn security_headers(section: &Section<'_>) -> Inheritable<SecurityHeaders> {
    match section.get("security_headers") {
        None => Inheritable::Inherited,
        Some(at) if at.is_null() => Inheritable::Off,
        Some(_) => {
            let chosen = section
                .nullable("security_headers", |scalar| super::section::choose(scalar, &SECURITY_HEADERS));
            chosen.map_or(Inheritable::Inherited, |chosen| Inheritable::Set(Arc::new(chosen)))
        }
    }
}

pub(super) fn fault(section: &Section<'_>) -> Option<FaultPlan> {
    let fault = FaultPlan {
        share: section.percent("share"),
        delay: section.duration("delay"),
        status: section.nullable_count("status").and_then(|status| u16::try_from(status.get()).ok()),
        only_with: section.nullable("only_with", |scalar| header_name(&scalar.text)),
    };
    if fault.delay.is_zero() && fault.status.is_none() {
        section.at.refuse_key(Fault::new("does nothing", "add `delay`, `status` or both"));
    }
    if fault.only_with.is_none() && fault.share.0 == 100 {
        section.at.warn(Fault::new("every request has this fault", "add `only_with`, or a smaller `share`"));
    }
    Some(fault)
}

pub(super) const BANDWIDTH_PERS: [(&str, BandwidthPer); 2] =
    [("response", BandwidthPer::Response), ("client", BandwidthPer::Client)];

pub(super) fn bandwidth(section: &Section<'_>) -> Bandwidth {
    Bandwidth {
        per: section.choice("per", &BANDWIDTH_PERS),
        rate: section.value("rate", bytes_in_a_second),
        after: section.size("after"),
    }
}

fn bytes_in_a_second(scalar: &Scalar<'_>) -> Result<u64, Fault> {
    let bytes = scalar.text.strip_suffix("/s").and_then(|size| units::size(size.trim_end()).ok());
    bytes.filter(|bytes| (1 << 10..=1 << 40).contains(bytes)).ok_or_else(|| {
        Fault::new(
            format!("{} is not a rate of bytes", quoted(&scalar.text)),
            "write 1KiB/s to 1024GiB/s, like `1MiB/s`",
        )
    })
}

pub(super) fn early_hints(section: &Section<'_>) -> Option<EarlyHints> {
    Some(EarlyHints { pass: section.flag("pass") })
}
