//! What is said of the process itself, as it is written.

use super::super::plan::{
    AccessLogPlan, AcmePlan, AdminPlan, DnsPlan, EventsPlan, ExternalAccount, Log, ProcessPlan,
};
use super::super::{acme, keys, process};
use super::writer::SectionWriter;
use super::{duration, path, text, texts, word};
use crate::limit::ClientPrefix;
use serde_yaml::Value;

pub(super) fn process(process: &ProcessPlan) -> Value {
    let threads = process.threads.map_or_else(|| "auto".into(), Value::from);
    let ClientPrefix { v4, v6 } = process.client_prefix;
    let prefix = SectionWriter::new(keys::CLIENT_PREFIX).set("v4", v4).set("v6", v6).end();
    SectionWriter::new(keys::PROCESS)
        .set("threads", threads)
        .set("max_connections", process.max_connections)
        .set("shutdown_timeout", duration(process.shutdown_timeout))
        .set("client_prefix", prefix)
        .set("limit_keys", process.limit_keys)
        .set("max_tarpits", process.max_tarpits)
        .set("compressors", process.compressors)
        .end()
}

pub(super) fn admin(admin: &AdminPlan) -> Value {
    SectionWriter::new(keys::ADMIN)
        .set_or_null("socket", admin.socket.as_deref().map(path))
        .set_or_null("address", admin.address.as_ref().map(text))
        .set_or_null("token_file", admin.token_file.as_deref().map(path))
        .set_or_null("state_file", admin.state_file.as_deref().map(path))
        .end()
}

pub(super) fn log(log: &Log) -> Value {
    SectionWriter::new(keys::LOG)
        .set("level", word(&process::LOG_LEVELS, &log.level))
        .set("format", word(&process::LOG_FORMATS, &log.format))
        .end()
}

pub(super) fn access_log(access_log: Option<&AccessLogPlan>) -> Value {
    let Some(access_log) = access_log else { return "off".into() };
    SectionWriter::new(keys::ACCESS_LOG)
        .set("path", text(&access_log.path))
        .set("format", word(&process::ACCESS_LOG_FORMATS, &access_log.format))
        .end()
}

pub(super) fn events(events: &EventsPlan) -> Value {
    SectionWriter::new(keys::EVENTS)
        .set_or_null("path", events.path.as_deref().map(path))
        .set("keep", events.keep)
        .end()
}

pub(super) fn acme(acme: &AcmePlan) -> Value {
    let account = |account: &ExternalAccount| {
        SectionWriter::new(keys::EXTERNAL_ACCOUNT)
            .set("key_id", text(&account.key_id))
            .set("hmac_key_file", path(&account.hmac_key_file))
            .end()
    };
    SectionWriter::new(keys::ACME)
        .set("directory", text(&acme.directory))
        .set("accept_terms", true)
        .set("contact", texts(&acme.contact))
        .set("challenge", word(&acme::CHALLENGES, &acme.challenge))
        .set("storage", path(&acme.storage))
        .set_or_null("ca", acme.ca.as_deref().map(path))
        .set_or_null("external_account", acme.external_account.as_ref().map(account))
        .end()
}

pub(super) fn dns(dns: &DnsPlan) -> Value {
    SectionWriter::new(keys::DNS)
        .set("resolvers", dns.resolvers.as_ref().map_or("system".into(), texts))
        .set("timeout", duration(dns.timeout))
        .set("min_refresh", duration(dns.min_refresh))
        .set("max_refresh", duration(dns.max_refresh))
        .end()
}
