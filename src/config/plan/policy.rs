//! What is done with requests beside sending them to a pool, as it is written: by a policy of its own name, or by a rule.

use super::Name;
use super::cache::CachePlan;
use super::compress::CompressPlan;
pub use super::inheritable::Inheritable;
use super::limits::{LimitsPlan, Owned};
use crate::networks::Networks;
use crate::template::Template;
use crate::units::Percent;
use bytes::Bytes;
use http::{HeaderName, Method};
use regex::Regex;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A policy that listeners and rules name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPolicy {
    pub name: Name,
    pub policy: PolicyPlan,
}

/// What one place says. A request's policy is that of its listener, then the one that its rule names, then what the rule says
/// itself: a later key replaces an earlier one, and rules about fields replace each other field by field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyPlan {
    pub limits: LimitsPlan,
    pub request_headers: FieldRules,
    pub response_headers: FieldRules,
    pub rewrite: Inheritable<Rewrite>,
    pub canonical: Inheritable<Canonical>,
    pub maintenance: Inheritable<Maintenance>,
    pub errors: Inheritable<ErrorPages>,
    pub cors: Inheritable<Cors>,
    pub security_headers: Inheritable<SecurityHeaders>,
    pub fault: Inheritable<Fault>,
    pub early_hints: Inheritable<EarlyHints>,
    pub buffer: Inheritable<Buffer>,
    pub cache: Inheritable<CachePlan>,
    pub compress: Inheritable<CompressPlan>,
    pub bandwidth: Inheritable<Owned<Bandwidth>>,
}

impl PolicyPlan {
    /// Whether nothing is said at all.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// What holds where this is said after `before`.
    #[must_use]
    pub fn after(&self, before: &Self) -> Self {
        Self {
            limits: self.limits.after(&before.limits),
            request_headers: self.request_headers.after(&before.request_headers),
            response_headers: self.response_headers.after(&before.response_headers),
            rewrite: self.rewrite.after(&before.rewrite),
            canonical: self.canonical.after(&before.canonical),
            maintenance: self.maintenance.after(&before.maintenance),
            errors: self.errors.after(&before.errors),
            cors: self.cors.after(&before.cors),
            security_headers: self.security_headers.after(&before.security_headers),
            fault: self.fault.after(&before.fault),
            early_hints: self.early_hints.after(&before.early_hints),
            buffer: self.buffer.after(&before.buffer),
            cache: self.cache.after(&before.cache),
            compress: self.compress.after(&before.compress),
            bandwidth: self.bandwidth.after(&before.bandwidth),
        }
    }

    /// All texts with variables.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let rules = self.request_headers.rules.iter().chain(&self.response_headers.rules);
        let rewrite = self.rewrite.get().into_iter().flat_map(|rewrite| [&rewrite.to, &rewrite.host]);
        rules.filter_map(FieldRule::value).chain(rewrite.flatten())
    }

    /// The files whose texts its answers have.
    pub fn pages(&self) -> impl Iterator<Item = &PageFile> {
        let maintenance = self.maintenance.get().and_then(|maintenance| maintenance.file.as_ref());
        let errors = self.errors.get().into_iter().flat_map(|errors| &errors.pages);
        maintenance.into_iter().chain(errors.flat_map(|page| page.html.iter().chain(&page.json)))
    }
}

/// What happens to fields of heads; one rule for each name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldRules {
    /// Written as `null`: nothing of what was said before holds.
    pub forgets: bool,
    pub rules: Vec<FieldRule>,
}

impl FieldRules {
    fn after(&self, before: &Self) -> Self {
        let is_said = |rule: &&FieldRule| self.rules.iter().any(|own| own.name == rule.name);
        let before = before.rules.iter().filter(|_| !self.forgets).filter(|rule| !is_said(rule));
        let rules = before.chain(&self.rules).filter(|rule| rule.change != FieldChange::Nothing);
        Self { forgets: false, rules: rules.cloned().collect() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldRule {
    pub name: HeaderName,
    /// With the capitals that it was written with.
    pub title: String,
    pub change: FieldChange,
}

impl FieldRule {
    /// What it gives the field.
    pub fn value(&self) -> Option<&Template> {
        match &self.change {
            FieldChange::Set(value) | FieldChange::Add(value) | FieldChange::Default(value) => Some(value),
            FieldChange::Remove | FieldChange::Nothing => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum FieldChange {
    /// In place of all of its name.
    Set(Template),
    /// Beside those of its name.
    Add(Template),
    /// If there is none.
    Default(Template),
    Remove,
    /// Written as `null`: what was said before does not hold.
    Nothing,
}

/// Where clients are sent instead of being served (RFC 9110 section 15.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub to: Template,
    /// Of GET and HEAD; what has another method keeps it: 308 in place of 301, 307 in place of 302.
    pub status: u16,
    /// The request's query goes along.
    pub keep_query: bool,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    pub status: u16,
    pub page: Page,
    pub fields: Vec<FieldRule>,
}

/// What an answer of our own has for a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    /// The status in words.
    Status,
    Text(String),
    File(PageFile),
}

/// A file whose text is an answer's body. It is read when the configuration is.
#[derive(Clone, Debug, PartialEq)]
pub struct PageFile {
    pub path: PathBuf,
    pub content: Bytes,
}

/// What a server gets in place of the path and the host that the client asked for.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// Cut from the path's beginning where a segment ends behind it; without a slash at its end.
    pub strip_prefix: Option<String>,
    pub add_prefix: Option<String>,
    /// What the path must match for `to` to take its place.
    pub regex: Option<Regex>,
    /// The whole path, with a query or without.
    pub to: Option<Template>,
    pub host: Option<Template>,
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        let parts = |rewrite: &Self| {
            let regex = rewrite.regex.as_ref().map(|regex| regex.as_str().to_owned());
            let texts = (rewrite.to.clone(), rewrite.host.clone());
            (rewrite.strip_prefix.clone(), rewrite.add_prefix.clone(), regex, texts)
        };
        parts(self) == parts(other)
    }
}

/// The one form of a URL; clients that ask for another are sent there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    pub https: bool,
    pub www: Option<Wanted>,
    pub trailing_slash: Option<Wanted>,
}

impl Canonical {
    /// The one form of a host without its port.
    pub fn host(&self, host: &str) -> String {
        let is_name =
            !host.starts_with('[') && host.contains('.') && host.parse::<std::net::Ipv4Addr>().is_err();
        let www = host.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("www."));
        match self.www {
            Some(Wanted::Add) if is_name && !www => format!("www.{host}"),
            // `www.example` is a name, of which `example` is none.
            Some(Wanted::Remove) if www && host[4..].contains('.') => host[4..].to_owned(),
            _ => host.to_owned(),
        }
    }

    /// The one form of a path. A name with an ending, as a file's, gets no slash.
    pub fn path(&self, path: &str) -> String {
        let last = path.rsplit('/').next().unwrap_or_default();
        match self.trailing_slash {
            Some(Wanted::Add) if !last.is_empty() && !last.contains('.') => format!("{path}/"),
            Some(Wanted::Remove) if path.len() > 1 && last.is_empty() => {
                let trimmed = path.trim_end_matches('/');
                if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
            }
            _ => path.to_owned(),
        }
    }
}

/// Whether a part of a URL is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Add,
    Remove,
}

/// Clients are told to come back later.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// As long as no operator says otherwise.
    pub enabled: bool,
    pub file: Option<PageFile>,
    pub retry_after: Duration,
    /// Clients that are served all the same.
    pub except: Networks,
}

impl Maintenance {
    /// Whether a client is not served now.
    pub fn keeps_out(&self, client: Option<IpAddr>) -> bool {
        self.enabled && !client.is_some_and(|client| self.except.contains(client))
    }
}

impl Default for Maintenance {
    /// As an empty section has it.
    fn default() -> Self {
        Self {
            enabled: false,
            file: None,
            retry_after: Duration::from_secs(300),
            except: Networks::default(),
        }
    }
}

/// Pages in place of a status in words.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPages {
    pub pages: Vec<ErrorPage>,
    /// Statuses of servers' responses that get a page, too.
    pub intercept: Vec<u16>,
}

impl ErrorPages {
    pub fn page(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.iter().find(|page| page.statuses.contains(&status))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPage {
    pub statuses: RangeInclusive<u16>,
    pub html: Option<PageFile>,
    pub json: Option<PageFile>,
}

impl ErrorPage {
    /// `502-504`, as it is written.
    pub fn label(&self) -> String {
        match (self.statuses.start(), self.statuses.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        }
    }
}

/// Which pages of other origins may read responses (the Fetch standard, "CORS protocol").
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    pub origins: Vec<OriginPattern>,
    pub methods: Vec<Method>,
    /// Beside those that need no leave; `None` (written `["*"]`) is any.
    pub headers: Option<Vec<HeaderName>>,
    pub credentials: bool,
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    Any,
    /// `https://shop.example`
    Exact(String),
    /// `https://*.shop.example`, in two parts around the `*`.
    Below(String, String),
}

/// Fields that keep browsers from guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityHeaders {
    Standard,
}

/// Trouble made on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub share: Percent,
    pub delay: Duration,
    /// `None` only delays.
    pub status: Option<u16>,
    /// Only requests that have this field; `None` is all.
    pub only_with: Option<HeaderName>,
}

/// Interim responses (RFC 8297).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyHints {
    pub pass: bool,
}

/// How fast responses leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    pub per: BandwidthPer,
    /// Bytes in a second.
    pub rate: u64,
    /// Of each response, which cost nothing.
    pub after: u64,
}

/// What a rate of bytes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthPer {
    Response,
    /// All that a client has at once, together.
    Client,
}

/// Bodies that are read before a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Bytes of each; what is longer goes on as it comes from there.
    pub request: u64,
}
