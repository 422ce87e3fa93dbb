//! Cookies that bind clients to servers: servers do not see them, and clients are given them where nobody else can be.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::config::plan::{SameSite, StickyMode, StickyPlan};
use crate::cookie::{self, CookieEdit};
use crate::fields::{FieldList, tokens};
use crate::sticky;
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::{Method, header};
use std::borrow::Cow;

static COOKIE: FieldName = FieldName::new(header::COOKIE, "Cookie");
static SET_COOKIE: FieldName = FieldName::new(header::SET_COOKIE, "Set-Cookie");

/// What a client is told of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StickyCookie {
    /// A field of ours.
    Insert(String),
    /// Behind the value that the application gives the cookie of this name.
    Suffix { cookie: crate::config::plan::Name, token: String },
}

#[derive(Debug)]
pub(super) struct Sticky;

impl Filter for Sticky {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        let Some(plan) = facts.sticky else { return };
        for (index, field) in request.fields.each().enumerate().filter(|(_, field)| field.is("cookie")) {
            let edited = cookie::edited(field.value(), &plan.cookie, |value| for_server(plan.mode, value));
            if let Some(edited) = edited {
                edits.remove_at(index);
                if !edited.is_empty() {
                    edits.add_bytes(&COOKIE, edited);
                }
            }
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        match facts.sticky {
            None => {}
            Some(StickyCookie::Insert(value)) => edits.add_judged(&SET_COOKIE, value.as_str()),
            Some(StickyCookie::Suffix { cookie, token }) => {
                for (index, value, attributes) in set_by(response.fields, cookie) {
                    edits.remove_at(index);
                    edits.add_bytes(&SET_COOKIE, suffixed(cookie, value, token, attributes));
                }
            }
        }
    }
}

/// What a server gets of a cookie: nothing of ours, whoever has made it.
fn for_server(mode: StickyMode, value: &[u8]) -> CookieEdit<'_> {
    match mode {
        StickyMode::Insert => CookieEdit::Goes,
        StickyMode::Suffix => {
            let inner = cookie::unquoted(value);
            match sticky::split_suffix(inner) {
                None => CookieEdit::Stays,
                Some((own, _)) if inner.len() == value.len() => CookieEdit::Becomes(Cow::Borrowed(own)),
                Some((own, _)) => CookieEdit::Becomes(Cow::Owned([b"\"", own, b"\""].concat())),
            }
        }
    }
}

/// The fields that give the cookie of this name a value; one that takes it away has none.
fn set_by<'a>(fields: FieldList<'a>, name: &str) -> impl Iterator<Item = (usize, &'a [u8], &'a [u8])> {
    let set = move |(index, field): (usize, crate::fields::Field<'a>)| {
        let (value, attributes) = cookie::set(field.value(), name).filter(|_| field.is("set-cookie"))?;
        (!cookie::unquoted(value).is_empty()).then_some((index, value, attributes))
    };
    fields.each().enumerate().filter_map(set)
}

fn suffixed(name: &str, value: &[u8], token: &str, attributes: &[u8]) -> Vec<u8> {
    let mark = [sticky::SUFFIX_MARK];
    let (own, end): (&[u8], &[u8]) = match value {
        [own @ .., b'"'] if value.len() > 1 && value[0] == b'"' => (own, b"\""),
        _ => (value, b""),
    };
    [name.as_bytes(), b"=", own, &mark, token.as_bytes(), end, attributes].concat()
}

/// Whether a response gives the application's cookie a value that can be added to.
pub(crate) fn sets(response: &ResponseView<'_>, cookie: &str) -> bool {
    set_by(response.fields, cookie).next().is_some()
}

/// Whether a response may carry a cookie of ours: not where it says little of the server's health, nor where others might be
/// given it, nor where the server speaks of it itself.
pub(crate) fn may_carry(response: &ResponseView<'_>, request: &RequestView<'_>, cookie: &str) -> bool {
    let is_fit = matches!(response.status, 101 | 200..=499) && response.status != 304;
    let is_set = |value| cookie::set(value, cookie).is_some();
    is_fit
        && !response.fields.all(&header::SET_COOKIE).any(is_set)
        && !is_for_shared_caches(response.fields, request)
}

/// Whether a shared cache is told that it may give others this response (RFC 9111 section 3, and RFC 9213). One that says
/// nothing of it counts as not: caches keep none with a cookie then.
fn is_for_shared_caches(fields: FieldList<'_>, request: &RequestView<'_>) -> bool {
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return false;
    }
    let mut word = CacheWord::default();
    for field in fields.each() {
        if field.is("cache-control") {
            tokens(std::iter::once(field.value())).for_each(|directive| word.hear(directive));
        } else if field.is("cdn-cache-control") || field.is("surrogate-control") {
            let mut targeted = CacheWord::default();
            tokens(std::iter::once(field.value())).for_each(|directive| targeted.hear(directive));
            word.is_shared |= targeted.may_be_shared() && targeted.is_fresh;
        } else if field.is("expires") {
            // One that is no date, as `0`, has passed.
            word.expires = field.value().ends_with(b"GMT");
        }
    }
    // With credentials only what is meant for all (section 3.5).
    let has_credentials = request.fields.has(&header::AUTHORIZATION);
    word.is_shared || word.may_be_shared() && (word.is_public || word.is_kept() && !has_credentials)
}

/// What Cache-Control says.
#[derive(Debug, Default)]
struct CacheWord {
    is_private: bool,
    is_public: bool,
    is_fresh: bool,
    has_age: bool,
    expires: bool,
    is_shared: bool,
}

impl CacheWord {
    fn hear(&mut self, directive: &[u8]) {
        let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => (&directive[..at], &directive[at + 1..]),
            None => (directive, &b""[..]),
        };
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let is_some = value.iter().any(|byte| matches!(byte, b'1'..=b'9'));
        // With fields named it is about those.
        self.is_private |= is("no-store") || is("private") && value.is_empty();
        self.is_public |= is("public");
        self.is_shared |= is("s-maxage") && is_some;
        self.has_age |= is("max-age");
        self.is_fresh |= is("max-age") && is_some;
    }

    fn may_be_shared(&self) -> bool {
        !self.is_private
    }

    /// It outranks Expires (section 5.3).
    fn is_kept(&self) -> bool {
        if self.has_age { self.is_fresh } else { self.expires }
    }
}

/// The field that binds a client to a server.
pub(crate) fn field(plan: &StickyPlan, token: &str, is_secure: bool) -> String {
    let mut field = format!("{}={token}; Path={}", plan.cookie, plan.path);
    if let Some(max_age) = plan.max_age {
        field += &format!("; Max-Age={}", max_age.as_secs());
    }
    if let Some(domain) = &plan.domain {
        field += &format!("; Domain={domain}");
    }
    field += "; HttpOnly";
    if is_secure {
        field += "; Secure";
    }
    match plan.same_site {
        SameSite::Lax => field += "; SameSite=Lax",
        SameSite::Strict => field += "; SameSite=Strict",
        // Browsers refuse it otherwise.
        SameSite::None if is_secure => field += "; SameSite=None",
        SameSite::None => {}
    }
    field
}
