//! What tells one stored response from another before their variants do. What everybody gets must not be made for one: what is not in
//! a key is not sent to a server either, as far as the query goes, and what leads an application elsewhere than the request's own host,
//! scheme and path is in it.

use super::device::Device;
use super::directives::Directives;
use super::elsewhere;
use super::sent::sent;
use crate::config::plan::cache::{CachePlan, KeyPlan, QueryKey};
use crate::cookie::{self, Likely};
use crate::fields::{Field, FieldList, is_respelt};
use crate::route::normal_path::normal;
use crate::wire::edit::Edits;
use http::{Method, header};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a key is made of beside what the plan names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed<'a> {
    /// Whose responses they are: what leads to the same pool by the same changes.
    pub(crate) scope: u64,
    pub(crate) is_secure: bool,
    pub(crate) host: &'a str,
    /// Where a server is asked for another.
    pub(crate) other_host: Option<&'a str>,
    pub(crate) path: &'a str,
    /// As `query` has left it.
    pub(crate) query: &'a str,
    pub(crate) fields: FieldList<'a>,
    /// What proxies before say of its way that is neither the host nor the scheme, as servers get it; empty without such a word.
    pub(crate) way: &'a [u8],
}

/// Whose responses lie together: those of one pool, by the same changes.
pub(crate) fn scope(pool: &str, changes: u64) -> u64 {
    xxh3_64_with_seed(pool.as_bytes(), changes)
}

/// The key of a request; its parts are told apart by their lengths, whatever is in them. `edits` are what servers get otherwise
/// than it came, where that touches a field that may be in the key.
pub(crate) fn key(plan: &KeyPlan, keyed: &Keyed<'_>, edits: Option<&Edits<'_>>) -> Vec<u8> {
    let mut key = Vec::with_capacity(64 + keyed.path.len() + keyed.query.len());
    key.extend_from_slice(&keyed.scope.to_le_bytes());
    key.push(u8::from(keyed.is_secure));
    let host = if plan.host { folded_host(keyed.host, keyed.is_secure) } else { String::new() };
    push(host.as_bytes(), &mut key);
    push(keyed.other_host.unwrap_or_default().as_bytes(), &mut key);
    push(keyed.path.as_bytes(), &mut key);
    push(keyed.query.as_bytes(), &mut key);
    for name in &plan.headers {
        let lines = sent(keyed.fields, edits, name);
        key.push(u8::from(!lines.is_empty()));
        push(&lines.join(&b','), &mut key);
    }
    let cookies = match plan.cookies.is_empty() {
        true => Vec::new(),
        false => sent(keyed.fields, edits, &header::COOKIE),
    };
    // HTTP/1.1 servers get those of HTTP/2 in one field.
    let are_joined = matches!(keyed.fields, FieldList::Map(_));
    for name in &plan.cookies {
        // Of several, some servers take the first and some the last.
        let (kind, parts) = match cookie::likely(&cookies, are_joined, name) {
            Likely::None => (0, Vec::new()),
            Likely::Values(values) => (1, values),
            Likely::Spelled(parts) => (2, parts),
        };
        key.push(kind);
        push(&parts.join(&b'\n'), &mut key);
    }
    if plan.device {
        push(Device::of(keyed.fields).label().as_bytes(), &mut key);
    }
    // Each begins with a byte that none of the parts above can begin with.
    if !keyed.way.is_empty() {
        key.push(b'w');
        push(keyed.way, &mut key);
    }
    elsewhere::each(keyed.fields, edits, |name, value| {
        key.push(b'e');
        push(name.as_bytes(), &mut key);
        push(value, &mut key);
    });
    key
}

/// Adds a part, with its length before it.
pub(crate) fn push(part: &[u8], key: &mut Vec<u8>) {
    key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    key.extend_from_slice(part);
}

/// In lower case and without the scheme's own port.
pub(crate) fn folded_host(host: &str, is_secure: bool) -> String {
    let own = if is_secure { ":443" } else { ":80" };
    host.strip_suffix(own).unwrap_or(host).to_ascii_lowercase()
}

/// What of a query makes a difference.
pub(crate) fn query<'a>(plan: &KeyPlan, query: &'a str) -> Cow<'a, str> {
    if query.is_empty() {
        return Cow::Borrowed(query);
    }
    let is_ignored = |parameter: &&str| {
        let name = name_of(parameter);
        let is_named = match &plan.query {
            QueryKey::All => true,
            QueryKey::Some(names) => names.iter().any(|one| one == name),
        };
        !is_named || plan.ignore_query.iter().any(|pattern| matches(pattern, name.as_bytes()))
    };
    if !query.contains('&') {
        return Cow::Borrowed(if is_ignored(&query) { "" } else { query });
    }
    let mut kept: Vec<_> = query.split('&').filter(|parameter| !is_ignored(parameter)).collect();
    if plan.sort_query {
        // Those of one name keep their order, which may mean something.
        kept.sort_by_key(|parameter| name_of(parameter));
    }
    let joined = kept.join("&");
    if joined == query { Cow::Borrowed(query) } else { Cow::Owned(joined) }
}

fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// Whether a pattern, which is a beginning if it ends with `*`, stands for a name.
fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => pattern.as_bytes() == name,
    }
}

/// Why a request is not for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bypassed {
    Method,
    Cookie,
    Header,
    Path,
    /// It has a body, which no key has.
    Body,
    /// It depends on a state of the resource that only its server knows (RFC 9110 section 13.1).
    Condition,
    /// It asks to switch protocols.
    Upgrade,
    /// `no-store`, where clients are obeyed.
    Client,
}

impl Bypassed {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Cookie => "bypass.cookies",
            Self::Header => "bypass.headers",
            Self::Path => "bypass.paths",
            Self::Body => "request body",
            Self::Condition => "condition",
            Self::Upgrade => "upgrade",
            Self::Client => "client",
        }
    }
}

/// Whether a request is kept from the cache, by the operator or by what it is; whether it has a body is not asked here.
pub(crate) fn bypasses(
    plan: &CachePlan,
    (method, path): (&Method, &str),
    fields: FieldList<'_>,
    client: &Directives,
) -> Option<Bypassed> {
    if !plan.key.methods.contains(method) {
        return Some(Bypassed::Method);
    }
    if fields.has(&header::UPGRADE) {
        return Some(Bypassed::Upgrade);
    }
    if plan.obey_client && client.no_store {
        return Some(Bypassed::Client);
    }
    let bypass = &plan.bypass;
    let is_listed = |path: &str| bypass.paths.iter().any(|pattern| pattern.matches(path));
    // Another spelling of it leads to the same page.
    if !bypass.paths.is_empty() && (is_listed(path) || normal(path).is_some_and(|path| is_listed(&path))) {
        return Some(Bypassed::Path);
    }
    // Servers make one variable of a field's spellings.
    let is_named =
        |field: Field<'_>| bypass.headers.iter().any(|name| is_respelt(field.name(), name.as_str()));
    if !bypass.headers.is_empty() && fields.each().any(is_named) {
        return Some(Bypassed::Header);
    }
    let is_named = |field| cookie::may_have(field, &bypass.cookies);
    if !bypass.cookies.is_empty() && fields.all(&header::COOKIE).any(is_named) {
        return Some(Bypassed::Cookie);
    }
    if fields.has(&header::IF_MATCH) || fields.has(&header::IF_UNMODIFIED_SINCE) {
        return Some(Bypassed::Condition);
    }
    None
}
