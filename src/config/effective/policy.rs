//! Policies as they are written: only what each says itself.

use super::super::plan::compress::{CompressPlan, Encoding};
use super::super::plan::policy::{
    Bandwidth, Buffer, Canonical, Cors, EarlyHints, ErrorPages, Fault, FieldChange, FieldRule, FieldRules,
    Maintenance, OriginPattern, Page, PolicyPlan, Redirect, Respond, Rewrite, Wanted,
};
use super::super::{filters, keys, rule_target};
use super::cache::cache;
use super::limits;
use super::writer::SectionWriter;
use super::{duration, named, path, size, text, texts, word};
use crate::template::Template;
use serde_yaml::Value;

/// A policy's section.
pub(crate) fn policy(policy: &PolicyPlan) -> Value {
    say(policy, SectionWriter::new(keys::POLICY)).end()
}

/// Adds what a policy says to a section that may have its keys.
pub(super) fn say(policy: &PolicyPlan, section: SectionWriter) -> SectionWriter {
    limits::say(&policy.limits, section)
        .set_if_any("request_headers", field_rules(&policy.request_headers))
        .set_if_any("response_headers", field_rules(&policy.response_headers))
        .set_inheritable("rewrite", &policy.rewrite, rewrite)
        .set_inheritable("canonical", &policy.canonical, canonical)
        .set_inheritable("maintenance", &policy.maintenance, maintenance)
        .set_inheritable("errors", &policy.errors, errors)
        .set_inheritable("cors", &policy.cors, cors)
        .set_inheritable("security_headers", &policy.security_headers, |one| {
            word(&filters::SECURITY_HEADERS, one)
        })
        .set_inheritable("fault", &policy.fault, fault)
        .set_inheritable("early_hints", &policy.early_hints, early_hints)
        .set_inheritable("buffer", &policy.buffer, buffer)
        .set_inheritable("cache", &policy.cache, cache)
        .set_inheritable("compress", &policy.compress, compress)
        .set_inheritable("bandwidth", &policy.bandwidth, |bandwidth| self::bandwidth(&bandwidth.part))
}

fn bandwidth(bandwidth: &Bandwidth) -> Value {
    SectionWriter::new(keys::BANDWIDTH)
        .set("per", word(&filters::BANDWIDTH_PERS, &bandwidth.per))
        .set("rate", format!("{}/s", keys::spell_size(bandwidth.rate)))
        .set("after", size(bandwidth.after))
        .end()
}

fn compress(compress: &CompressPlan) -> Value {
    let level = SectionWriter::new(keys::COMPRESS_LEVEL)
        .set("gzip", compress.level.gzip)
        .set("br", compress.level.br)
        .set("zstd", compress.level.zstd)
        .end();
    SectionWriter::new(keys::COMPRESS)
        .set("encodings", texts(compress.encodings.iter().map(|encoding| Encoding::label(*encoding))))
        .set("min", size(compress.min))
        .set("types", texts(&compress.types))
        .set("level", level)
        .set("streams", compress.streams)
        .end()
}

fn rewrite(rewrite: &Rewrite) -> Value {
    SectionWriter::new(keys::REWRITE)
        .set_or_null("strip_prefix", rewrite.strip_prefix.as_deref())
        .set_or_null("add_prefix", rewrite.add_prefix.as_deref())
        .set_or_null("regex", rewrite.regex.as_ref().map(|regex| regex.as_str()))
        .set_or_null("to", rewrite.to.as_ref().map(Template::source))
        .set_or_null("host", rewrite.host.as_ref().map(Template::source))
        .end()
}

fn canonical(canonical: &Canonical) -> Value {
    let wanted = |wanted: Option<Wanted>| wanted.map(|wanted| word(&filters::WANTED, &wanted));
    SectionWriter::new(keys::CANONICAL)
        .set("https", canonical.https)
        .set_or_null("www", wanted(canonical.www))
        .set_or_null("trailing_slash", wanted(canonical.trailing_slash))
        .end()
}

fn maintenance(maintenance: &Maintenance) -> Value {
    SectionWriter::new(keys::MAINTENANCE)
        .set("enabled", maintenance.enabled)
        .set_or_null("file", maintenance.file.as_ref().map(|file| path(&file.path)))
        .set("retry_after", duration(maintenance.retry_after))
        .set("except", texts(maintenance.except.items()))
        .end()
}

fn errors(errors: &ErrorPages) -> Value {
    let mut section = serde_yaml::Mapping::new();
    for page in &errors.pages {
        let files = SectionWriter::new(keys::ERROR_PAGE)
            .set_or_null("html", page.html.as_ref().map(|file| path(&file.path)))
            .set_or_null("json", page.json.as_ref().map(|file| path(&file.path)))
            .end();
        section.insert(page.label().into(), files);
    }
    section.insert("intercept".into(), errors.intercept.iter().map(|status| Value::from(*status)).collect());
    section.into()
}

fn cors(cors: &Cors) -> Value {
    let origin = |origin: &OriginPattern| match origin {
        OriginPattern::Any => "*".to_owned(),
        OriginPattern::Exact(origin) => origin.clone(),
        OriginPattern::Below(before, behind) => format!("{before}*{behind}"),
    };
    SectionWriter::new(keys::CORS)
        .set("origins", texts(cors.origins.iter().map(origin)))
        .set("methods", texts(&cors.methods))
        .set("headers", cors.headers.as_ref().map_or_else(|| texts(["*"]), texts))
        .set("credentials", cors.credentials)
        .set("max_age", duration(cors.max_age))
        .end()
}

fn fault(fault: &Fault) -> Value {
    SectionWriter::new(keys::FAULT)
        .set("share", text(&fault.share))
        .set("delay", duration(fault.delay))
        .set_or_null("status", fault.status)
        .set_or_null("only_with", fault.only_with.as_ref().map(|name| name.as_str()))
        .end()
}

fn buffer(buffer: &Buffer) -> Value {
    SectionWriter::new(keys::BUFFER).set("request", size(buffer.request)).end()
}

fn early_hints(early_hints: &EarlyHints) -> Value {
    SectionWriter::new(keys::EARLY_HINTS).set("pass", early_hints.pass).end()
}

/// A rule's `redirect`.
pub(super) fn redirect(redirect: &Redirect) -> Value {
    SectionWriter::new(keys::REDIRECT)
        .set("to", redirect.to.source())
        .set("status", word(&rule_target::STATUSES, &redirect.status))
        .set("keep_query", redirect.keep_query)
        .end()
}

/// A rule's `respond`.
pub(super) fn respond(respond: &Respond) -> Value {
    let (body, file) = match &respond.page {
        Page::Status => (None, None),
        Page::Text(text) => (Some(&**text), None),
        Page::File(file) => (None, Some(path(&file.path))),
    };
    SectionWriter::new(keys::RESPOND)
        .set("status", respond.status)
        .set_or_null("body", body)
        .set_or_null("file", file)
        .set("headers", fields(&respond.fields, "set"))
        .end()
}

fn field_rules(rules: &FieldRules) -> Option<Value> {
    if rules.forgets {
        return Some(Value::Null);
    }
    let of = |key: &str| fields(&rules.rules, key);
    let removed = rules.rules.iter().filter(|rule| rule.change == FieldChange::Remove);
    let section = SectionWriter::new(keys::FIELD_RULES)
        .set("set", of("set"))
        .set("add", of("add"))
        .set("default", of("default"))
        .set("remove", texts(removed.map(|rule| &rule.title)));
    (!rules.rules.is_empty()).then(|| section.end())
}

/// The fields that stand below this key.
fn fields(rules: &[FieldRule], key: &str) -> Value {
    let value = |change: &FieldChange| match (change, key) {
        (FieldChange::Set(value), "set")
        | (FieldChange::Add(value), "add")
        | (FieldChange::Default(value), "default") => Some(value.source().into()),
        // Whichever it stood below, it takes away the same.
        (FieldChange::Nothing, "set") => Some(Value::Null),
        _ => None,
    };
    named(rules.iter().filter_map(|rule| Some((&*rule.title, value(&rule.change)?))))
}
