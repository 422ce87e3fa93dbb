//! Compression, as a policy says it.

use super::names::Once;
use super::place::At;
use super::plan;
use super::plan::compress::{CompressLevels, CompressPlan, Encoding, MediaTypes};
use super::problem::{Fault, quoted};
use super::section::{Section, choose};
use super::tree::Scalar;

pub(super) const ENCODINGS: [(&str, Encoding); 3] =
    [("zstd", Encoding::Zstd), ("br", Encoding::Br), ("gzip", Encoding::Gzip)];

/// What is text, as most web servers have it.
const TYPES: [&str; 4] = ["application/json", "application/javascript", "application/xml", "image/svg+xml"];

pub(super) fn compress(section: &Section<'_>) -> Option<CompressPlan> {
    Some(CompressPlan {
        encodings: encodings(section),
        min: section.size("min"),
        types: types(section),
        level: section.section("level", |level| levels(&level)).unwrap_or_else(default_levels),
        streams: section.flag("streams"),
    })
}

fn encodings(section: &Section<'_>) -> Vec<Encoding> {
    let Some(at) = section.get("encodings") else { return Encoding::ALL.to_vec() };
    let (mut read, mut taken) = (Vec::new(), Once::default());
    for item in some_items(&at, "codings") {
        let Some(encoding) = item.scalar(&"`zstd`, `br` or `gzip`", |scalar| choose(scalar, &ENCODINGS))
        else {
            continue;
        };
        match taken.seen(encoding, item.line()) {
            Some(line) => item.refuse(Fault::new(
                format!("`{}` is listed twice", encoding.label()),
                format!("remove it here or in line {line}"),
            )),
            None => read.push(encoding),
        }
    }
    read
}

fn types(section: &Section<'_>) -> Vec<MediaTypes> {
    let Some(at) = section.get("types") else { return default_types() };
    let items = some_items(&at, "media types");
    items.filter_map(|item| item.scalar(&"a media type like `text/html`", media_types)).collect()
}

fn default_types() -> Vec<MediaTypes> {
    let one = |one: &str| MediaTypes::One(one.to_owned());
    [MediaTypes::Below("text/".to_owned())].into_iter().chain(TYPES.map(one)).collect()
}

/// The items of a list that must have some.
fn some_items<'a>(at: &'a At<'_>, what: &str) -> impl Iterator<Item = At<'a>> {
    let items = at.items();
    if items.as_ref().is_some_and(|items| items.len() == 0) {
        at.refuse(Fault::new(
            format!("lists no {what}, so nothing would be compressed"),
            "leave it out for the default, or write `compress: null`",
        ));
    }
    items.into_iter().flatten()
}

/// `text/html` or `text/*`; RFC 9110 section 8.3.1.
fn media_types(scalar: &Scalar<'_>) -> Result<MediaTypes, Fault> {
    let text = scalar.text.to_ascii_lowercase();
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    match text.split_once('/') {
        Some((kind, "*")) if is_token(kind) => Ok(MediaTypes::Below(format!("{kind}/"))),
        Some((kind, name)) if is_token(kind) && is_token(name) => Ok(MediaTypes::One(text)),
        _ => Err(Fault::new(
            format!("{} is not a media type", quoted(&scalar.text)),
            "write it like `text/html` or `text/*`, without parameters",
        )),
    }
}

fn levels(section: &Section<'_>) -> CompressLevels {
    let level = |name| u8::try_from(section.count(name)).expect("the table's ranges end far below");
    CompressLevels { gzip: level("gzip"), br: level("br"), zstd: level("zstd") }
}

/// Of a section that could not be read, whose plan nobody sees.
fn default_levels() -> CompressLevels {
    CompressLevels { gzip: 4, br: 4, zstd: 3 }
}

/// Where pages are compressed for clients who are known by cookies: what a stranger has in such a page's URL may tell him, by how
/// long it gets, what else is in it (BREACH). Right where pages have no secrets.
pub(super) fn notes(plan: &plan::Plan) -> String {
    let policy = |place: Option<usize>| place.map(|place| &plan.policies[place].policy);
    let mut told = String::new();
    for listener in &plan.listeners {
        let plan::TargetPlan::Routes(routes) = listener.target else { continue };
        for rule in &plan.routes[routes].rules {
            let layers = [policy(listener.policy), policy(rule.policy), Some(&rule.own_policy)];
            let layers = layers.into_iter().flatten();
            let holds = layers.fold(plan::policy::PolicyPlan::default(), |below, layer| layer.after(&below));
            let pool = rule.pool().map(|pool| &plan.pools[pool]);
            let has_sessions = pool.is_some_and(|pool| pool.sticky.is_some())
                || !rule.matcher.cookies.is_empty()
                || holds.cors.get().is_some_and(|cors| cors.credentials);
            if holds.compress.get().is_some() && has_sessions {
                let line = format!(
                    "  rule {}: clients with sessions get compressed pages: none may have both a secret and what its URL says (BREACH)\n",
                    rule.name
                );
                if !told.contains(&line) {
                    told += &line;
                }
            }
        }
    }
    told
}
