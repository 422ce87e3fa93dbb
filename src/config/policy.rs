//! Policies: what is done with requests beside sending them to a pool, in a section of their own or in a rule.

use super::cache::cache;
use super::compress::compress;
use super::field_name::header_name;
use super::filters;
use super::inheritable::inheritable;
use super::limits;
use super::names::{Names, Once, check_section_name};
use super::networks::NamedLists;
use super::place::At;
use super::plan::limits::{LimitOwner, Owned};
use super::plan::policy::{Buffer, FieldChange, FieldRule, FieldRules, NamedPolicy, PolicyPlan};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::text::template;
use super::tree::Scalar;
use crate::cache::X_DEVICE;
use crate::template::Template;
use http::header::HeaderName;

/// Reads a policy with a name of its own.
pub(super) fn named(name: &str, section: &Section<'_>, networks: &NamedLists<'_>) -> NamedPolicy {
    check_section_name(name, &section.at);
    let owner = LimitOwner::Policy(name.into());
    NamedPolicy { name: name.into(), policy: policy(section, networks, &owner) }
}

/// Reads what a section says of a policy, which may say other things as well.
/// `owner` is where that is.
pub(super) fn policy(section: &Section<'_>, networks: &NamedLists<'_>, owner: &LimitOwner) -> PolicyPlan {
    let policy = PolicyPlan {
        limits: limits::limits(section, networks, owner),
        request_headers: field_rules(section, "request_headers", FieldsOf::Requests),
        response_headers: field_rules(section, "response_headers", FieldsOf::Responses),
        rewrite: inheritable(section, "rewrite", filters::rewrite),
        canonical: inheritable(section, "canonical", filters::canonical),
        maintenance: inheritable(section, "maintenance", |section| filters::maintenance(section, networks)),
        errors: filters::errors(section),
        cors: inheritable(section, "cors", filters::cors),
        security_headers: filters::security_headers(section),
        fault: inheritable(section, "fault", filters::fault),
        early_hints: inheritable(section, "early_hints", filters::early_hints),
        buffer: inheritable(section, "buffer", |section| Some(Buffer { request: section.size("request") })),
        cache: inheritable(section, "cache", cache),
        compress: inheritable(section, "compress", compress),
        bandwidth: inheritable(section, "bandwidth", |section| {
            Some(Owned { owner: owner.clone(), part: filters::bandwidth(section) })
        }),
    };
    networks.geo.check(&section.at, policy.templates());
    warn_of_other_device(section, &policy);
    policy
}

/// What servers are told of devices is what their responses are kept by.
fn warn_of_other_device(section: &Section<'_>, policy: &PolicyPlan) {
    let is_told = policy.cache.get().is_some_and(|cache| cache.key.device);
    let is_other = |rule: &FieldRule| rule.name == X_DEVICE && rule.change != FieldChange::Nothing;
    let at = section.get("request_headers");
    if let Some(at) = at.filter(|_| is_told && policy.request_headers.rules.iter().any(is_other)) {
        at.warn(Fault::new(
            "changes `X-Device`, by which `cache.key.device` keeps what servers make of it",
            "remove the rule about it, or `device: true`",
        ));
    }
}

/// The policy that a listener or a rule names.
pub(super) fn reference(section: &Section<'_>, policies: &Names<'_>) -> Option<usize> {
    section.nullable("policy", |scalar| policies.resolve(scalar))
}

/// Fields that say where a message ends or what becomes of its connection (RFC 9110 sections 7.6.1 and 8.6): they are the
/// writers', who know which version of HTTP it leaves by.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Which fields a section is about.
#[derive(Clone, Copy)]
enum FieldsOf {
    Requests,
    Responses,
}

fn field_rules(section: &Section<'_>, name: &str, of: FieldsOf) -> FieldRules {
    match section.get(name) {
        Some(at) if at.is_null() => FieldRules { forgets: true, rules: Vec::new() },
        Some(_) => section.section(name, |section| rules(&section, of)).unwrap_or_default(),
        None => FieldRules::default(),
    }
}

fn rules(section: &Section<'_>, of: FieldsOf) -> FieldRules {
    let mut reader = RuleReader { of, rules: Vec::new(), taken: Once::default() };
    reader.read_named(section, "set", FieldChange::Set);
    reader.read_named(section, "add", FieldChange::Add);
    reader.read_named(section, "default", FieldChange::Default);
    let at = section.get("remove");
    for item in at.iter().filter_map(At::items).flatten() {
        if let Some(title) = item.scalar(&"the name of a field", |scalar| Ok(scalar.text.to_string())) {
            reader.add(&item, &title, Some(FieldChange::Remove));
        }
    }
    FieldRules { forgets: false, rules: reader.rules }
}

/// Fields with their values, as an answer of our own has them.
pub(super) fn set_rules(section: &Section<'_>, key: &str) -> Vec<FieldRule> {
    let mut reader = RuleReader { of: FieldsOf::Responses, rules: Vec::new(), taken: Once::default() };
    reader.read_named(section, key, FieldChange::Set);
    reader.rules
}

/// Reads rules about fields, one for each name.
struct RuleReader {
    of: FieldsOf,
    rules: Vec<FieldRule>,
    taken: Once<HeaderName>,
}

impl RuleReader {
    /// Reads names with their values.
    fn read_named(&mut self, section: &Section<'_>, key: &str, change: fn(Template) -> FieldChange) {
        let at = section.get(key);
        for (title, at) in at.iter().filter_map(At::names).flatten() {
            match at.is_null() {
                true => self.add(&at, title, Some(FieldChange::Nothing)),
                false => self.add(&at, title, at.scalar(&"the field's value", field_value).map(change)),
            }
        }
    }

    fn add(&mut self, at: &At<'_>, title: &str, change: Option<FieldChange>) {
        let name = match judged(title, self.of) {
            Ok(name) => name,
            Err(fault) => return at.refuse_key(fault),
        };
        if let Some(line) = self.taken.seen(name.clone(), at.line()) {
            return at.refuse_key(Fault::new(
                format!("another rule is about the field `{name}`"),
                format!("see line {line}; each field has one rule"),
            ));
        }
        self.rules.extend(change.map(|change| FieldRule { name, title: title.to_owned(), change }));
    }
}

fn judged(title: &str, of: FieldsOf) -> Result<HeaderName, Fault> {
    let name = header_name(title)?;
    match FRAMING.contains(&name.as_str()) {
        // RFC 9112 section 3.2.
        false if name == http::header::HOST && matches!(of, FieldsOf::Requests) => Err(Fault::new(
            "`Host` is where the request goes, not one of its fields",
            "use `rewrite: { host: NAME }`",
        )),
        false => Ok(name),
        true => Err(Fault::new(
            format!("the field `{name}` is about one connection, whose other side it would mislead"),
            "remove it: evenkeel writes what each side needs",
        )),
    }
}

fn field_value(scalar: &Scalar<'_>) -> Result<Template, Fault> {
    let template = template(scalar)?;
    match scalar.text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true if scalar.text.trim() == scalar.text => Ok(template),
        _ => Err(Fault::new(
            format!("{} is not the value of a header field", quoted(&scalar.text)),
            "use visible ASCII characters without spaces at either end",
        )),
    }
}
