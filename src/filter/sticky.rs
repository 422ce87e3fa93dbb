//! Cookies that bind clients to servers: servers do not see them, and clients are given them where nobody else can be.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::config::plan::{Name, SameSite, StickyMode, StickyPlan};
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
    Suffix { cookie: Name, token: String },
}

#[derive(Debug)]
pub(super) struct Sticky;

impl Filter for Sticky {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        if facts.sticky.is_empty() {
            return;
        }
        for (index, field) in request.fields.each().enumerate().filter(|(_, field)| field.is("cookie")) {
            let mut left = Cow::Borrowed(field.value());
            for (name, mode) in facts.sticky {
                if let Some(edited) = cookie::edited(&left, name, |value| for_server(*mode, value)) {
                    left = Cow::Owned(edited);
                }
            }
            if let Cow::Owned(edited) = left {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Networks;
    use crate::wire::request_head::sample_head;
    use crate::wire::response_head::BodyKind;
    use http::{HeaderMap, HeaderValue};

    const TOKEN: &str = "AUp-6uDJ-AeOtQRbejsQblgB0TYzAbqBQMDr3MRiMxfpPhp_vgH-l4k";

    fn fields(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        map
    }

    /// What a server gets of the Cookie fields with these values.
    fn for_server(mode: StickyMode, cookies: &[&[u8]]) -> Vec<Vec<u8>> {
        for_server_of(&[("EK".into(), mode)], cookies)
    }

    /// The same of all these cookies.
    fn for_server_of(sticky: &[(Name, StickyMode)], cookies: &[&[u8]]) -> Vec<Vec<u8>> {
        let cookies: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
        let map = fields(&cookies);
        let asked = sample_head("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut edits = Edits::default();
        let request = RequestView { fields: FieldList::Map(&map), ..RequestView::from(&asked) };
        let peer = super::super::Peer { ip: None, text: "unix", is_secure: false, identity: None };
        let facts = RequestFacts { sticky, ..RequestFacts::of(peer, Networks::NONE, "") };
        Sticky.request(&request, &facts, &mut edits);
        let mut left = HeaderMap::new();
        edits.staying(request.fields).for_each(|field| field.append_to(&mut left));
        edits.append_added(&mut left);
        left.get_all("cookie").iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    fn plan() -> StickyPlan {
        StickyPlan {
            cookie: "EK".into(),
            mode: StickyMode::Insert,
            wait: std::time::Duration::ZERO,
            max_age: None,
            max_life: None,
            key_file: None,
            same_site: SameSite::Lax,
            domain: None,
            path: "/".to_owned(),
            keys: crate::sticky::StickyKeys::default(),
        }
    }

    #[test]
    fn servers_see_nothing_of_it_whatever_else_there_is() {
        let insert = |cookies: &[&[u8]]| for_server(StickyMode::Insert, cookies);
        assert_eq!(insert(&[b"a=1", b"EK=x; EK=y", b"b=\xff; EK=z"]), [&b"a=1"[..], b"b=\xff"]);
        let suffixed = format!("{TOKEN}; EK=\"b~{TOKEN}\"; EK=c~{}", &TOKEN[1..]);
        let suffix = for_server(StickyMode::Suffix, &[format!("EK=a~{suffixed}").as_bytes()]);
        let left = format!("EK=a; EK=\"b\"; EK=c~{}", &TOKEN[1..]);
        assert_eq!(suffix, [left.into_bytes()], "what has not the form of ours is the application's");
    }

    #[test]
    fn cookies_of_several_pools_are_taken_out() {
        let sticky = [("EK".into(), StickyMode::Insert), ("SID".into(), StickyMode::Suffix)];
        let left = for_server_of(&sticky, &[format!("EK=x; a=1; SID=s~{TOKEN}").as_bytes(), b"EK=y"]);
        assert_eq!(left, [b"a=1; SID=s"]);
    }

    #[test]
    fn the_field_has_what_the_configuration_says() {
        let written = |plan: &StickyPlan, is_secure| field(plan, "T", is_secure);
        assert_eq!(written(&plan(), false), "EK=T; Path=/; HttpOnly; SameSite=Lax");
        let all = StickyPlan {
            max_age: Some(std::time::Duration::from_secs(60)),
            domain: Some("shop.example".to_owned()),
            path: "/shop".to_owned(),
            same_site: SameSite::None,
            ..plan()
        };
        let text = "EK=T; Path=/shop; Max-Age=60; Domain=shop.example; HttpOnly; Secure; SameSite=None";
        assert_eq!(written(&all, true), text);
        assert!(!written(&all, false).contains("SameSite"), "browsers would refuse it");
    }

    #[test]
    fn what_caches_may_give_to_others_is_known() {
        let may_keep = |method: &str, asked: &str, said: &[(&'static str, &str)]| {
            let head = sample_head(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{asked}\r\n"));
            let said: Vec<_> = said.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let map = fields(&said);
            let response = ResponseView {
                status: 200,
                reason: b"",
                body: BodyKind::UntilClose,
                is_chunked: false,
                fields: FieldList::Map(&map),
            };
            !may_carry(&response, &RequestView::from(&head), "EK")
        };
        let secret = "Authorization: Basic eA==\r\n";
        for (method, asked, said, is_kept) in [
            ("GET", "", &[][..], false),
            ("GET", "", &[("cache-control", "max-age=5")], true),
            ("HEAD", "", &[("cache-control", "Max-Age=\"5\"")], true),
            ("POST", "", &[("cache-control", "max-age=5")], false),
            ("GET", secret, &[("cache-control", "max-age=5")], false),
            ("GET", secret, &[("cache-control", "public")], true),
            ("GET", secret, &[("cache-control", "s-maxage=5")], true),
            ("GET", "", &[("cache-control", "s-maxage=0")], false),
            ("GET", "", &[("cache-control", "private"), ("expires", "Thu, 01 Jan 2099 00:00:00 GMT")], false),
            ("GET", "", &[("cache-control", "private=\"x\", max-age=5")], true),
            (
                "GET",
                "",
                &[("cache-control", "max-age=0"), ("expires", "Thu, 01 Jan 2099 00:00:00 GMT")],
                false,
            ),
            ("GET", "", &[("cache-control", "no-store"), ("surrogate-control", "max-age=5")], true),
            ("GET", "", &[("cdn-cache-control", "no-store")], false),
            ("GET", "", &[("set-cookie", "EK=1")], true),
        ] {
            assert_eq!(may_keep(method, asked, said), is_kept, "{method} {asked:?} {said:?}");
        }
    }
}
