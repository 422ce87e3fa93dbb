use super::*;
use crate::config::plan::PathPattern;
use crate::config::plan::cache::{Bypass, CachePlan, KeyPlan, QueryKey, TagsPlan};
use crate::fields::FieldList;
use crate::units::Percent;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

pub(super) fn plan() -> CachePlan {
    CachePlan {
        ttl: None,
        ttl_by_status: Vec::new(),
        force_ttl: None,
        heuristic: None,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        obey_client: false,
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
        key: KeyPlan {
            host: true,
            query: QueryKey::All,
            ignore_query: vec!["utm_*".to_owned(), "gclid".to_owned()],
            sort_query: true,
            headers: Vec::new(),
            cookies: Vec::new(),
            device: false,
            methods: vec![http::Method::GET],
        },
        bypass: Bypass::default(),
        drop_set_cookie: false,
        tags: TagsPlan { fields: Vec::new(), send: false },
        coalesce: Duration::ZERO,
        uncacheable_for: Duration::ZERO,
        min_uses: 1,
        status_field: true,
    }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).expect("a value");
        map.append(HeaderName::try_from(*name).expect("a name"), value);
    }
    map
}

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: Moment = Moment(784_111_777_000);
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn at(seconds: u64) -> Moment {
    Moment(NOW.0 + seconds * 1000)
}

fn judged(plan: &CachePlan, status: u16, fields: &[(&str, &str)]) -> Result<Terms, NotStored> {
    judge(plan, false, (status, &map(fields)), Exchanged { asked: NOW, received: NOW })
}

/// Until which second it is fresh, or why it is not kept.
#[track_caller]
fn check(plan: &CachePlan, status: u16, fields: &[(&str, &str)], expected: Result<u64, NotStored>) {
    let fresh = judged(plan, status, fields).map(|terms| {
        (0..100_000).find(|second| terms.reuse(None, at(*second)) != Reuse::Fresh).unwrap_or(u64::MAX)
    });
    assert_eq!(fresh, expected, "{status} {fields:?}");
}

#[test]
fn what_a_response_says_of_its_time_counts_in_one_order() {
    let plan = plan();
    for (fields, expected) in [
        (&[("cache-control", "max-age=60")][..], Ok(60)),
        (&[("cache-control", "max-age=60, s-maxage=5")], Ok(5)),
        (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=7")], Ok(7)),
        (&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=7")], Ok(7)),
        (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=7, &&")], Ok(60)),
        (&[("cache-control", "max-age=60"), ("cdn-cache-control", "no-store")], Err(NotStored::NoStore)),
        (&[("date", DATE), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")], Ok(60)),
        (
            &[("date", DATE), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("cdn-cache-control", "foo")],
            Err(NotStored::NoLifetime),
        ),
        (&[("cache-control", "max-age=9"), ("expires", "0")], Ok(9)),
        (&[("expires", "0")], Err(NotStored::Expired)),
        (&[("expires", "0"), ("etag", "\"a\"")], Ok(0)),
        (&[("cache-control", "max-age=60"), ("age", "20")], Ok(40)),
        (&[("cache-control", "max-age=60"), ("age", "20, 1")], Ok(40)),
        (&[("cache-control", "max-age=60"), ("age", "x")], Ok(60)),
        (&[("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], Ok(30)),
        (&[("cache-control", "max-age=60"), ("age", "7200")], Err(NotStored::Expired)),
        (&[("last-modified", DATE)], Err(NotStored::NoLifetime)),
        (&[], Err(NotStored::NoLifetime)),
    ] {
        check(&plan, 200, fields, expected);
    }
}

#[test]
fn what_the_configuration_has_counts_where_nothing_is_said() {
    let long = ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT");
    let ttl = CachePlan {
        ttl: Some(Duration::from_secs(9)),
        ttl_by_status: vec![(404, Duration::from_secs(3)), (400, Duration::from_secs(4))],
        ..plan()
    };
    let guess = CachePlan { heuristic: Some(Percent(10)), ..plan() };
    let force = CachePlan { force_ttl: Some(Duration::from_secs(8)), ..plan() };
    let date = ("date", DATE);
    for (plan, status, fields, expected) in [
        (&ttl, 200, &[][..], Ok(9)),
        (&ttl, 404, &[], Ok(3)),
        (&ttl, 500, &[], Err(NotStored::NoLifetime)),
        // The configuration knows that it is about the URL.
        (&ttl, 400, &[], Ok(4)),
        (&ttl, 400, &[("cache-control", "max-age=60")], Ok(60)),
        (&ttl, 431, &[("cache-control", "max-age=60")], Err(NotStored::Status)),
        (&ttl, 200, &[("cache-control", "max-age=60")], Ok(60)),
        (&ttl, 200, &[("cache-control", "no-store")], Err(NotStored::NoStore)),
        (&ttl, 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], Ok(0)),
        (&guess, 200, &[long, date], Ok(100)),
        (&guess, 404, &[long, date], Ok(100)),
        (&guess, 201, &[long, date], Err(NotStored::NoLifetime)),
        (&guess, 599, &[long, date], Err(NotStored::NoLifetime)),
        (&guess, 599, &[long, date, ("cache-control", "public")], Ok(100)),
        (
            &guess,
            200,
            &[("last-modified", "Sun, 06 Nov 1904 08:32:57 GMT"), date],
            Err(NotStored::NoLifetime),
        ),
        (&force, 200, &[("cache-control", "no-store, private, no-cache, max-age=0")], Ok(8)),
        (&force, 500, &[("cache-control", "no-store")], Err(NotStored::NoStore)),
        (&force, 200, &[("set-cookie", "a=b")], Err(NotStored::SetCookie)),
        (&force, 200, &[("vary", "*")], Err(NotStored::VaryStar)),
    ] {
        check(plan, status, fields, expected);
    }
}

#[test]
fn what_is_for_one_client_alone_is_not_kept() {
    let (strict, dropping) = (plan(), CachePlan { drop_set_cookie: true, ..plan() });
    let fresh = |more: &str| format!("max-age=60{more}");
    for (plan, status, fields, expected) in [
        (&strict, 200, &[("cache-control", fresh(", private"))][..], Err(NotStored::Private)),
        (&strict, 200, &[("cache-control", fresh(", no-store"))], Err(NotStored::NoStore)),
        (
            &strict,
            200,
            &[("cache-control", fresh("")), ("set-cookie", "a=b".to_owned())],
            Err(NotStored::SetCookie),
        ),
        (&dropping, 200, &[("cache-control", fresh("")), ("set-cookie", "a=b".to_owned())], Ok(60)),
        (
            &strict,
            200,
            &[("cache-control", fresh(", no-cache=\"set-cookie\"")), ("set-cookie", "a=b".to_owned())],
            Ok(60),
        ),
        (&strict, 200, &[("cache-control", fresh("")), ("vary", "*".to_owned())], Err(NotStored::VaryStar)),
        (&strict, 206, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 304, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 400, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 412, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 416, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 429, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 101, &[("cache-control", fresh(""))], Err(NotStored::Status)),
        (&strict, 599, &[("cache-control", fresh(""))], Ok(60)),
        (&strict, 599, &[("cache-control", fresh(", must-understand"))], Err(NotStored::NotUnderstood)),
        (&strict, 200, &[("cache-control", fresh(", no-store, must-understand"))], Ok(60)),
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        check(plan, status, &fields, expected);
    }
    for (control, is_kept) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("max-age=60, must-revalidate", true),
        ("s-maxage=60", true),
    ] {
        let fields = map(&[("cache-control", control)]);
        let judged = judge(&strict, true, (200, &fields), Exchanged { asked: NOW, received: NOW });
        assert_eq!(judged.is_ok_and(|terms| terms.is_for_authorized), is_kept, "{control}");
    }
    // What sets a cookie of the key was made for a client that had another.
    let keyed =
        CachePlan { key: KeyPlan { cookies: vec!["group".to_owned()], ..plan().key }, ..dropping.clone() };
    let of = |cookie| [("cache-control", "max-age=60"), ("set-cookie", "sid=1"), ("set-cookie", cookie)];
    for set in ["group=a; Path=/", "group[a]=b", "\"group\"=a", "group", "x=1, group=a", "Group=a"] {
        check(&keyed, 200, &of(set), Err(NotStored::SetCookie));
    }
    check(&keyed, 200, &of("groups=a"), Ok(60));
    let terms =
        judged(&dropping, 200, &[("cache-control", "max-age=1, no-cache=\"a\"")]).expect("it is kept");
    assert_eq!(terms.without, ["a", "set-cookie"]);
}

#[test]
fn a_slow_answer_is_as_old_as_it_took() {
    let fields = map(&[("cache-control", "max-age=60")]);
    let exchanged = Exchanged { asked: NOW, received: at(10) };
    let terms = judge(&plan(), false, (200, &fields), exchanged).expect("it is kept");
    assert_eq!((terms.age(at(10)), terms.left(at(10)), terms.left(at(75))), (10_000, 50, -15));
}

#[test]
fn what_is_stale_is_used_where_nobody_forbids_it() {
    let generous = CachePlan {
        stale_while_revalidate: Duration::from_secs(10),
        stale_if_error: Duration::from_secs(20),
        ..plan()
    };
    let control = |more: &str| {
        [("cache-control".to_owned(), format!("max-age=60{more}")), ("etag".to_owned(), "\"a\"".to_owned())]
    };
    for (plan, more, while_revalidated, on_error) in [
        (&generous, "", true, true),
        (&generous, ", must-revalidate", false, false),
        (&generous, ", proxy-revalidate", false, false),
        (&generous, ", s-maxage=60", false, false),
        (&generous, ", no-cache", false, false),
        (&generous, ", stale-while-revalidate=1", false, true),
        (&plan(), "", false, false),
        (&plan(), ", stale-while-revalidate=10, stale-if-error=10", true, true),
        (&plan(), ", must-revalidate, stale-while-revalidate=10, stale-if-error=10", false, false),
    ] {
        let fields = control(more);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let terms = judged(plan, 200, &fields).expect("it is kept");
        let reuse = terms.reuse(None, at(65));
        assert_eq!(reuse == Reuse::StaleWhileRevalidate, while_revalidated, "{more}");
        assert_eq!(terms.is_good_on_error(at(65)), on_error, "{more}");
        assert!(!terms.is_good_on_error(at(81)) && terms.reuse(None, at(81)) == Reuse::Validate, "{more}");
    }
}

#[test]
fn a_client_that_is_obeyed_has_its_way() {
    let terms = judged(&plan(), 200, &[("cache-control", "max-age=60")]).expect("it is kept");
    for (said, second, expected) in [
        ("", 30, Reuse::Fresh),
        ("no-cache", 30, Reuse::Validate),
        ("max-age=29", 30, Reuse::Validate),
        ("max-age=30", 30, Reuse::Fresh),
        ("min-fresh=30", 30, Reuse::Validate),
        ("min-fresh=29", 30, Reuse::Fresh),
        ("max-stale=5", 65, Reuse::Fresh),
        ("max-stale=4", 65, Reuse::Validate),
        ("max-stale", 1000, Reuse::Fresh),
    ] {
        let client = Directives::parse([said.as_bytes()].into_iter());
        assert_eq!(terms.reuse(Some(&client), at(second)), expected, "{said} at {second}");
    }
    let strict =
        judged(&plan(), 200, &[("cache-control", "max-age=60, must-revalidate")]).expect("it is kept");
    let client = Directives::parse([&b"max-stale"[..]].into_iter());
    assert_eq!(strict.reuse(Some(&client), at(61)), Reuse::Validate);
}

#[test]
fn a_key_is_another_where_a_part_of_it_is() {
    let fields = map(&[("store", "de"), ("cookie", "group=a; sid=1")]);
    let plan = KeyPlan {
        headers: vec![HeaderName::from_static("store")],
        cookies: vec!["group".to_owned()],
        ..plan().key
    };
    let keyed = Keyed {
        scope: 1,
        is_secure: false,
        host: "a.example",
        other_host: None,
        path: "/a",
        query: "b",
        fields: FieldList::Map(&fields),
        way: b"",
    };
    let base = key(&plan, &keyed, None);
    assert_eq!(base, key(&plan, &Keyed { host: "A.Example:80", ..keyed }, None));
    let other_store = map(&[("store", "fr"), ("cookie", "group=a; sid=2")]);
    let other_group = map(&[("store", "de"), ("cookie", "group=b; sid=1")]);
    let no_group = map(&[("store", "de"), ("cookie", "sid=1")]);
    let empty_group = map(&[("store", "de"), ("cookie", "group=")]);
    let same = map(&[("store", "de"), ("cookie", "sid=7; group=a")]);
    assert_eq!(base, key(&plan, &Keyed { fields: FieldList::Map(&same), ..keyed }, None));
    let others = [
        Keyed { scope: 2, ..keyed },
        Keyed { is_secure: true, ..keyed },
        Keyed { host: "b.example", ..keyed },
        Keyed { host: "a.example:81", ..keyed },
        Keyed { other_host: Some("b"), ..keyed },
        Keyed { path: "/A", ..keyed },
        Keyed { path: "/a?b", query: "", ..keyed },
        Keyed { path: "/ab", query: "", ..keyed },
        Keyed { path: "/%61", ..keyed },
        Keyed { fields: FieldList::Map(&other_store), ..keyed },
        Keyed { fields: FieldList::Map(&other_group), ..keyed },
        Keyed { fields: FieldList::Map(&no_group), ..keyed },
        Keyed { fields: FieldList::Map(&empty_group), ..keyed },
    ];
    let mut keys: Vec<_> = others.iter().map(|keyed| key(&plan, keyed, None)).chain([base]).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1);
    // What is for one connection reaches no server, so it makes no difference (RFC 9110 section 7.6.1).
    let without =
        |fields: &[(&str, &str)]| key(&plan, &Keyed { fields: FieldList::Map(&map(fields)), ..keyed }, None);
    for connection in ["cookie", "close, Cookie ,x"] {
        assert_eq!(
            without(&[("store", "de"), ("cookie", "group=a"), ("connection", connection)]),
            without(&[("store", "de")]),
            "{connection}"
        );
    }
    assert_eq!(without(&[("store", "de"), ("connection", "Store")]), without(&[]));
    assert_eq!(without(&[("store", "de"), ("connection", "stores, sto")]), without(&[("store", "de")]));
    let hostless = KeyPlan { host: false, ..plan.clone() };
    let devices = KeyPlan { device: true, ..plan };
    let of = |agent: &str| {
        let fields = map(&[("user-agent", agent)]);
        key(&devices, &Keyed { fields: FieldList::Map(&fields), ..keyed }, None)
    };
    assert!(of("iPhone") == of("iPod") && of("iPhone") != of("iPad") && of("") == of("curl/8.5.0"));
    assert_eq!(key(&hostless, &keyed, None), key(&hostless, &Keyed { host: "b.example", ..keyed }, None));
}

#[test]
fn a_path_that_is_not_for_the_cache_is_not_by_its_other_spellings() {
    let mut plan = plan();
    plan.bypass.paths = vec![PathPattern::Prefix("/checkout/".to_owned())];
    let fields = HeaderMap::new();
    for (path, is_bypassed) in [
        ("/checkout/x", true),
        ("/%63heckout/x", true),
        ("//checkout/x", true),
        ("/./checkout/x", true),
        ("/z/../checkout/x", true),
        ("/checkout%2Fx", true),
        ("/checkout/x;y", true),
        ("/checkouts/x", false),
        ("/a%20b", false),
    ] {
        let bypassed = bypasses(&plan, (&Method::GET, path), FieldList::Map(&fields), &Directives::default());
        assert_eq!(bypassed, is_bypassed.then_some(Bypassed::Path), "{path}");
    }
}

#[test]
fn of_a_query_what_makes_no_difference_is_left_out() {
    let all = plan().key;
    let some = KeyPlan { query: QueryKey::Some(vec!["page".to_owned()]), ..plan().key };
    let kept = KeyPlan { sort_query: false, ignore_query: Vec::new(), ..plan().key };
    for (plan, text, expected) in [
        (&all, "b=1&a=2&b=0", "a=2&b=1&b=0"),
        (&all, "a=1&utm_source=x&gclid=y&gclids=z&utm=1", "a=1&gclids=z&utm=1"),
        (&all, "utm_a", ""),
        (&all, "", ""),
        (&some, "x=1&page=2", "page=2"),
        (&some, "x=1", ""),
        (&kept, "b=1&utm_a=2&a=3", "b=1&utm_a=2&a=3"),
    ] {
        assert_eq!(query(plan, text), expected, "{text}");
    }
}

/// What our second reader makes of a response that comes at `NOW` to a plain GET: until which second it is fresh, if it may be
/// kept.
fn second_reader(status: u16, fields: &HeaderMap) -> Option<Duration> {
    let request = http::Request::get("http://a.example/").body(()).expect("a request");
    let mut response = http::Response::builder().status(status).body(()).expect("a response");
    *response.headers_mut() = fields.clone();
    let now = UNIX_EPOCH + Duration::from_millis(NOW.0);
    let options = CacheOptions { cache_heuristic: 0.0, ..CacheOptions::default() };
    let policy = CachePolicy::new_options(&request, &response, now, options);
    policy.is_storable().then(|| policy.time_to_live(now))
}

/// Lines that servers send, good ones; what is broken each reader mends in its own way.
fn control() -> impl Strategy<Value = String> {
    let directive = prop_oneof![
        (0..100_u32).prop_map(|n| format!("max-age={n}")),
        (0..100_u32).prop_map(|n| format!("s-maxage={n}")),
        Just("public".to_owned()),
        Just("private".to_owned()),
        Just("no-store".to_owned()),
        Just("must-revalidate".to_owned()),
        Just("foo=\"max-age=1, no-store\"".to_owned()),
    ];
    proptest::collection::btree_map("[a-g]", directive, 0..4).prop_map(|said| {
        let mut said: Vec<_> = said.into_values().collect();
        // Twice the same is read as the smaller by one, and as none by the other.
        said.sort();
        said.dedup_by_key(|one| one.split('=').next().unwrap_or_default().to_owned());
        said.join(", ")
    })
}

proptest! {
    /// Where both have an opinion: explicit times, and statuses that both know.
    #[test]
    fn two_readers_agree_on_what_is_kept_and_for_how_long(
        control in control(),
        status in prop_oneof![Just(200_u16), Just(301), Just(404), Just(410), Just(206)],
        age in prop_oneof![Just(None), (0..50_u32).prop_map(Some)],
        expires in prop_oneof![Just(None), Just(Some("Sun, 06 Nov 1994 08:50:07 GMT")), Just(Some("0"))],
    ) {
        let mut fields = vec![("date", DATE.to_owned()), ("etag", "\"a\"".to_owned())];
        if !control.is_empty() {
            fields.push(("cache-control", control.clone()));
        }
        fields.extend(age.map(|age| ("age", age.to_string())));
        fields.extend(expires.map(|expires| ("expires", expires.to_owned())));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        let ours = judged(&plan(), status, &fields);
        let theirs = second_reader(status, &map(&fields));
        match (&ours, theirs) {
            // Parts are for those who put them together; what says nothing is for those who guess.
            (Err(NotStored::Status | NotStored::NoLifetime), _) => {}
            (Err(_), theirs) => prop_assert!(theirs.is_none(), "{control}: {ours:?} {theirs:?}"),
            (Ok(terms), Some(theirs)) => {
                let left = Duration::from_millis(terms.lifetime.saturating_sub(terms.age(NOW)));
                prop_assert_eq!(left, theirs, "{} {:?}", control, terms);
            }
            (Ok(_), None) => prop_assert!(false, "{control}: only we keep it"),
        }
    }

    #[test]
    fn nothing_that_comes_as_a_field_is_more_than_it_can_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Directives::parse([&bytes[..]].into_iter());
        let _ = super::targeted::parse([&bytes[..]].into_iter());
        let _ = super::date::parse(&bytes);
        let _ = parts(&bytes, 100);
        let joined: Vec<_> = super::directives::members(&bytes).collect();
        prop_assert!(joined.iter().map(|member| member.len()).sum::<usize>() <= bytes.len());
    }

    #[test]
    fn parts_lie_within_the_whole(text in "bytes=[0-9, -]{0,20}", length in 0..50_u64) {
        let ranges = match parts(text.as_bytes(), length) {
            Parts::One(part) => vec![part],
            Parts::Several(parts) => parts,
            Parts::Whole | Parts::Unsatisfiable => Vec::new(),
        };
        prop_assert!(ranges.iter().all(|part| part.start < part.end && part.end <= length), "{ranges:?}");
    }
}
