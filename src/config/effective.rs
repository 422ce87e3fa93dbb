//! A plan as a file that leaves nothing to defaults. Reading it again gives the same plan.
//!
//! Keys stand in the order of their table, and each is either written or left out by name: a new one cannot be forgotten.

mod cache;
mod health;
mod limits;
mod listener;
mod policy;
mod pool;
mod process;
mod route;
mod writer;

pub(crate) use policy::policy;

use super::keys::{self, spell, spell_size};
use super::plan::Plan;
use crate::geo::{Geo, GeoDatabase};
use crate::networks::{NamedNetworks, NetworksSource};
use serde_yaml::Value;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use writer::SectionWriter;

/// The text of the file.
pub fn write(plan: &Plan) -> String {
    let mut file = file(plan);
    let mut escaped = Vec::new();
    hold_back(&mut file, &mut escaped);
    let mut text = serde_yaml::to_string(&file).expect("a tree of texts and numbers can be written");
    for (index, escaped) in escaped.iter().enumerate() {
        text = text.replacen(&format!("\"{MARK}{index}\""), escaped, 1);
    }
    text
}

/// How serde_yaml writes U+0001, before the number of a text that is held back.
const MARK: &str = "\\x01";

/// Has places kept for the texts that serde_yaml writes by YAML 1.1, in which three characters more end a line: one who
/// reads by 1.2 would see other texts. Those that look like such a place are among them.
fn hold_back(value: &mut Value, escaped: &mut Vec<String>) {
    match value {
        Value::String(text)
            if text.contains(['\u{1}', '\u{85}', '\u{2028}', '\u{2029}']) || text.contains(MARK) =>
        {
            let place = format!("\u{1}{}", escaped.len());
            escaped.push(escape(&std::mem::replace(text, place)));
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| hold_back(item, escaped)),
        Value::Mapping(entries) => entries.values_mut().for_each(|value| hold_back(value, escaped)),
        _ => {}
    }
}

/// A text in double quotes, where escapes stand for whatever is not plain.
fn escape(text: &str) -> String {
    let character = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(character).collect::<String>())
}

/// One of a table's words.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Value {
    let found = words.iter().find(|(_, meaning)| meaning == value);
    found.expect("every value of a choice has its word").0.into()
}

fn text(value: &impl Display) -> Value {
    value.to_string().into()
}

fn texts<T: Display>(values: impl IntoIterator<Item = T>) -> Value {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().into()
}

fn path(path: &Path) -> Value {
    text(&path.display())
}

fn duration(duration: Duration) -> Value {
    spell(duration).into()
}

fn size(bytes: u64) -> Value {
    spell_size(bytes).into()
}

/// Sections under the names that the operator chose.
fn named<'a>(sections: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Mapping(sections.map(|(name, section)| (name.into(), section)).collect())
}

fn file(plan: &Plan) -> Value {
    SectionWriter::new(keys::FILE)
        .set("process", process::process(&plan.process))
        .set("admin", process::admin(&plan.admin))
        .set("log", process::log(&plan.log))
        .set("access_log", process::access_log(plan.access_log.as_ref()))
        .set("events", process::events(&plan.events))
        .set("dns", process::dns(&plan.dns))
        .set("cache", cache::store(&plan.cache))
        .set_or_null("acme", plan.acme.as_ref().map(process::acme))
        .set("geo", geo(&plan.geo))
        .set("networks", named(plan.networks.iter().map(|one| (&*one.name, networks(one)))))
        .set("listeners", named(plan.listeners.iter().map(|one| (&*one.name, listener::listener(plan, one)))))
        .set("policies", named(plan.policies.iter().map(|one| (&*one.name, policy(&one.policy)))))
        .set("routes", named(plan.routes.iter().map(|one| (&*one.name, route::routes(plan, one)))))
        .set("pools", named(plan.pools.iter().map(|one| (&*one.name, pool::pool(one)))))
        .end()
}

fn geo(geo: &Geo) -> Value {
    let file = |database: &Option<Arc<GeoDatabase>>| database.as_ref().map(|database| path(&database.file));
    SectionWriter::new(keys::GEO)
        .set_or_null("country", file(&geo.country))
        .set_or_null("asn", file(&geo.asn))
        .end()
}

fn networks(named: &NamedNetworks) -> Value {
    match &named.source {
        NetworksSource::Listed(networks) => texts(networks),
        NetworksSource::File(file) => SectionWriter::new(keys::NETWORKS).set("file", path(file)).end(),
    }
}

#[cfg(test)]
mod tests;
