//! What is kept of servers' responses: where, and what a policy says of it.

use super::field_name::{cookie_name, header_name};
use super::keys;
use super::matcher::path;
use super::names::each_once;
use super::networks::{NamedLists, everybody};
use super::place::At;
use super::plan::AdminPlan;
use super::plan::cache::{Bypass, CachePlan, DiskPlan, KeyPlan, QueryKey, StorePlan, TagsPlan};
use super::problem::{Fault, quoted};
use super::purge_nodes::purge_nodes;
use super::section::Section;
use super::tree::Scalar;
use crate::cache::X_DEVICE;
use crate::networks::Networks;
use crate::units;
use http::{HeaderName, Method, header};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The share of `memory` that a response may have.
const SHARE: u64 = 8;
/// The share of a disk that a response may have.
const DISK_SHARE: u64 = 4;

pub(super) fn store(
    section: &Section<'_>,
    networks: &NamedLists<'_>,
    admin: Option<&AdminPlan>,
) -> StorePlan {
    let plan = StorePlan {
        memory: section.size("memory"),
        disk: disk_plan(section),
        max_object: section.size("max_object"),
        purge_from: section.get("purge_from").map(|at| networks.list(&at)).unwrap_or_default(),
        purge_nodes: section.get("purge_nodes").map(|at| purge_nodes(&at, admin)).unwrap_or_default(),
    };
    if let Some(at) = section.get("purge_from") {
        warn_of_anybody(&at, &plan.purge_from);
    }
    if let Some(at) = section.get("memory").filter(|_| plan.memory == 0 && plan.disk.is_none()) {
        at.warn(Fault::new(
            "nothing is kept, and nobody waits for what another fetches: there is no `disk` either",
            "give the cache memory or a `disk`, or leave `cache` out of rules and policies",
        ));
    }
    let at = section.get("max_object");
    let has_room = plan.memory == 0 || plan.max_object <= plan.memory / SHARE;
    // What is longer goes to the disk, where there is one.
    if let Some(at) = at.filter(|_| !has_room && plan.disk.is_none()) {
        at.warn(Fault::new(
            format!(
                "no response has more than an eighth of `memory`, {}",
                keys::spell_size(plan.memory / SHARE)
            ),
            "give the cache more memory, or let it keep smaller responses",
        ));
    }
    if let Some(disk) = &plan.disk {
        warn_of_disk(section, &plan, disk);
    }
    plan
}

/// What is open to all is open to whoever would have servers make everything anew.
fn warn_of_anybody(at: &At<'_>, networks: &Networks) {
    for item in everybody(at, networks) {
        item.warn(Fault::new(
            "anybody who reaches a listener may have everything purged, so that servers make it anew",
            "name those who purge, like `10.0.1.0/24`",
        ));
    }
}

fn disk_plan(section: &Section<'_>) -> Option<DiskPlan> {
    section.get("disk").filter(|at| !at.is_null())?;
    let read = |section: Section<'_>| {
        let (size, min_object) = (section.size("size"), section.size("min_object"));
        Some(DiskPlan { path: section.required("path", folder_path)?, size, min_object })
    };
    section.section("disk", read).flatten()
}

fn folder_path(scalar: &Scalar<'_>) -> Result<PathBuf, Fault> {
    let path = Path::new(&*scalar.text);
    match path.parent() {
        // Without a doubled or a last slash, so that one folder has one name.
        Some(_) if !scalar.text.is_empty() => Ok(path.components().collect()),
        _ => Err(Fault::new(
            format!("{} is no folder for the cache alone", quoted(&scalar.text)),
            "write the path of one that nothing else uses, like `/var/cache/evenkeel`",
        )),
    }
}

fn warn_of_disk(section: &Section<'_>, plan: &StorePlan, disk: &DiskPlan) {
    let Some(at) = section.get("disk") else { return };
    let most = plan.max_object.min(disk.size / DISK_SHARE);
    if most < plan.max_object {
        at.warn(Fault::new(
            format!("no response has more than a quarter of the disk's `size`, {}", keys::spell_size(most)),
            "give the disk more, or let the cache keep smaller responses",
        ));
    }
    if disk.min_object > most {
        at.warn(Fault::new(
            format!(
                "nothing is ever on the disk: no response is as long as {}",
                keys::spell_size(disk.min_object)
            ),
            "lower `min_object`",
        ));
    }
    if disk.size < plan.memory {
        at.warn(Fault::new(
            format!("has less room than memory has, {}", keys::spell_size(plan.memory)),
            "give the disk more than `memory`, or leave it out",
        ));
    }
}

pub(super) fn cache(section: &Section<'_>) -> Option<CachePlan> {
    let plan = CachePlan {
        ttl: section.nullable_duration("ttl"),
        ttl_by_status: ttl_by_status(section),
        force_ttl: section.nullable_duration("force_ttl"),
        heuristic: section.nullable_percent("heuristic"),
        stale_while_revalidate: section.duration("stale_while_revalidate"),
        stale_if_error: section.duration("stale_if_error"),
        obey_client: section.flag("obey_client"),
        targeted: match section.get("targeted") {
            Some(at) => fields(&at),
            None => vec![HeaderName::from_static("cdn-cache-control")],
        },
        key: section.section("key", |section| key(&section))?,
        bypass: section.section("bypass", |section| bypass(&section)).unwrap_or_default(),
        drop_set_cookie: section.flag("drop_set_cookie"),
        tags: section.section("tags", |section| tags(&section))?,
        coalesce: section.duration("coalesce"),
        uncacheable_for: section.duration("uncacheable_for"),
        min_uses: section.count("min_uses"),
        status_field: section.flag("status_field"),
    };
    if let Some(at) = section.get("force_ttl").filter(|_| plan.force_ttl.is_some()) {
        at.warn(Fault::new(
            "keeps responses that say `no-store` or `private`, too",
            "be sure that none of this rule's is for one client alone, or use `ttl`",
        ));
    }
    Some(plan)
}

fn ttl_by_status(section: &Section<'_>) -> Vec<(u16, Duration)> {
    let at = section.get("ttl_by_status");
    let mut read = Vec::new();
    for (name, at) in at.iter().filter_map(At::names).flatten() {
        let status = name
            .parse()
            .ok()
            .filter(|status| (200..600).contains(status) && !matches!(status, 206 | 304 | 412 | 416));
        let ttl =
            at.scalar(&"a duration like `10s`", |scalar| units::duration(&scalar.text).map_err(Fault::from));
        match (status, ttl) {
            (Some(status), Some(ttl)) => read.push((status, ttl)),
            (None, _) => at.refuse_key(Fault::new(
                format!("{} is not a status that can be kept", quoted(name)),
                "write it like `\"404\"`, from 200 to 599; 206, 304, 412 and 416 answer what one client has",
            )),
            (Some(_), None) => {}
        }
    }
    read
}

fn key(section: &Section<'_>) -> KeyPlan {
    let plan = KeyPlan {
        host: section.flag("host"),
        query: query(section),
        ignore_query: match section.get("ignore_query") {
            Some(at) => texts(&at),
            None => ["utm_*", "gclid", "fbclid"].map(str::to_owned).to_vec(),
        },
        sort_query: section.flag("sort_query"),
        headers: section.get("headers").map(|at| fields(&at)).unwrap_or_default(),
        cookies: section.get("cookies").map(|at| key_cookies(&at)).unwrap_or_default(),
        device: section.flag("device"),
        methods: methods(section),
    };
    let at = section.get("headers");
    let items = at.as_ref().and_then(At::items).into_iter().flatten();
    for item in items.filter(At::is_scalar) {
        let name = item.scalar(&"", |scalar| Ok(header_name(&scalar.text).ok()));
        if let Some(name) = name.flatten() {
            judge_device_field(&name, &item, plan.device);
            warn_of_useless_field(&name, &item);
        }
    }
    plan
}

/// Fields that say what asks are better told apart by kinds.
fn judge_device_field(name: &HeaderName, at: &At<'_>, has_device: bool) {
    if has_device && *name == X_DEVICE {
        at.refuse(Fault::new(
            "a client could send any, and `device: true` has what evenkeel says in the key already",
            "remove it here",
        ));
    } else if *name == header::USER_AGENT {
        at.warn(Fault::new(
            "each version of each browser has responses of its own, so that hardly any is used twice",
            "use `device: true`, which tells phones, tablets, desktops and bots apart",
        ));
    }
}

/// Fields that tell no responses apart, or all of them.
fn warn_of_useless_field(name: &HeaderName, at: &At<'_>) {
    let (message, help) = match name.as_str() {
        "authorization" => (
            "each client has responses of its own, and they are kept only if they say `public`, `must-revalidate` or `s-maxage`",
            "remove it, for what is not for all is not kept, or send such requests past the cache: `bypass: { headers: [Authorization] }`",
        ),
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "expect"
        | "content-length" => (
            "is about one connection or one message, so it makes no difference to what servers answer",
            "remove it",
        ),
        "if-none-match" | "if-modified-since" | "if-range" | "range" | "if-match" | "if-unmodified-since" => {
            (
                "says what a client has already, or wants a part of: servers are asked without it, and what is kept answers it",
                "remove it",
            )
        }
        "cache-control" | "pragma" => (
            "has clients choose whose response they get",
            "remove it, and use `obey_client: true` if clients may ask for everything anew",
        ),
        "host" => ("is in the key already, unless `host: false` has it left out", "remove it"),
        "accept-encoding" | "accept-language" => (
            "each spelling of what browsers accept has responses of its own, so that few are used twice",
            "have servers say `Vary` with this name: lists are then the same however they are written",
        ),
        "x-forwarded-for"
        | "x-real-ip"
        | "forwarded"
        | "client-cert"
        | "x-client-cert-subject"
        | "x-client-cert-fingerprint" => (
            "each client has responses of its own, so that hardly any is used twice",
            "remove it, or leave such requests out by `bypass: { headers: [...] }` or a rule without `cache`",
        ),
        "x-request-id" | "traceparent" | "tracestate" | "date" => {
            ("each request has another, so that no response is used twice", "remove it")
        }
        _ => return,
    };
    at.warn(Fault::new(message, help));
}

fn query(section: &Section<'_>) -> QueryKey {
    match section.get("query") {
        Some(at) if at.is_scalar() && !at.is_null() => {
            at.scalar(&"`all`, or a list of parameters", |scalar| match &*scalar.text {
                "all" => Ok(()),
                other => Err(Fault::new(
                    format!("{} is not known here", quoted(other)),
                    "write `all`, or a list of the parameters that make a difference",
                )),
            });
            QueryKey::All
        }
        Some(at) => QueryKey::Some(each_once(&at, |item| item.scalar(&"a name", parameter))),
        None => QueryKey::All,
    }
}

/// One whose value is in keys.
fn parameter(scalar: &Scalar<'_>) -> Result<String, Fault> {
    match &*scalar.text {
        "" => Err(Fault::new("is empty", "write a name, or leave it out")),
        name if name.ends_with('*') => Err(Fault::new(
            format!("{} would be a parameter of just this name", quoted(name)),
            "write out the names that make a difference; `ignore_query` takes beginnings",
        )),
        name => Ok(name.to_owned()),
    }
}

fn methods(section: &Section<'_>) -> Vec<Method> {
    let Some(at) = section.get("methods") else { return vec![Method::GET, Method::HEAD] };
    let read = each_once(&at, |item| item.scalar(&"`GET` or `HEAD`", known_method));
    if !read.contains(&Method::GET) {
        at.refuse(Fault::new("has no `GET`, whose responses are what is kept", "add `GET`"));
    }
    read
}

fn known_method(scalar: &Scalar<'_>) -> Result<Method, Fault> {
    match &*scalar.text {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        other => Err(Fault::new(
            format!("responses to {} are not kept", quoted(other)),
            "use `GET` and `HEAD`; other methods go to a server each time",
        )),
    }
}

fn tags(section: &Section<'_>) -> TagsPlan {
    TagsPlan {
        fields: match section.get("fields") {
            Some(at) => fields(&at),
            None => ["surrogate-key", "cache-tag", "x-magento-tags"].map(HeaderName::from_static).to_vec(),
        },
        send: section.flag("send"),
    }
}

fn bypass(section: &Section<'_>) -> Bypass {
    let one = |item: &At<'_>| item.scalar(&"a path like `/checkout/*`", path);
    Bypass {
        cookies: section.get("cookies").map(|at| cookies(&at)).unwrap_or_default(),
        headers: section.get("headers").map(|at| fields(&at)).unwrap_or_default(),
        paths: section.get("paths").map(|at| each_once(&at, one)).unwrap_or_default(),
    }
}

fn fields(at: &At<'_>) -> Vec<HeaderName> {
    let name = |scalar: &Scalar<'_>| match header_name(&scalar.text)? {
        header::COOKIE => Err(Fault::new(
            "`Cookie` has all of a client's cookies, so that each client has responses of its own",
            "name the cookies that make a difference under `cookies`",
        )),
        name => Ok(name),
    };
    each_once(at, |item| item.scalar(&"the name of a field", name))
}

fn cookies(at: &At<'_>) -> Vec<String> {
    each_once(at, |item| item.scalar(&"the name of a cookie", cookie_name))
}

/// Those whose values are in keys.
fn key_cookies(at: &At<'_>) -> Vec<String> {
    let name = |scalar: &Scalar<'_>| match cookie_name(scalar)? {
        name if name.ends_with('*') => Err(Fault::new(
            format!("{} stands for several cookies, and a key has one value for each name", quoted(&name)),
            "write out the whole name; `bypass.cookies` takes beginnings",
        )),
        name => Ok(name),
    };
    each_once(at, |item| item.scalar(&"the name of a cookie", name))
}

fn texts(at: &At<'_>) -> Vec<String> {
    let text = |scalar: &Scalar<'_>| match scalar.text.is_empty() {
        false => Ok(scalar.text.to_string()),
        true => Err(Fault::new("is empty", "write a name, or leave it out")),
    };
    each_once(at, |item| item.scalar(&"a name", text))
}
