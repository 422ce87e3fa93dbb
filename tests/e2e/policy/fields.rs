//! Rules about fields, of requests and responses, and the order of those who may say something.

use crate::support::app::App;
use crate::support::balancer::Reloaded;
use crate::support::ways::{Asked, Way, Ways};

/// A shop whose listeners have the policy `all`, and whose rules say the rest.
fn shop(app: &App, policies: &str, rules: &str) -> Ways {
    Ways::start("routes: shop, policy: all", &sections(app, policies, rules))
}

fn sections(app: &App, policies: &str, rules: &str) -> String {
    let address = app.address;
    format!(
        "policies:\n{policies}\nroutes:\n  shop:\n{rules}\npools:\n  app: {{ servers: [{{ name: s1, address: {address} }}] }}\n"
    )
}

#[test]
fn a_server_and_a_client_get_the_fields_that_the_policy_has() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"  all:
    request_headers:
      set: { X-Who: "{client} by {scheme} to {host}", X-Where: "{route}/{pool}/{server}", X-What: "{method} {path}?{query}" }
      add: { X-List: two }
      default: { X-Tier: basic, X-Given: ours }
      remove: [X-Secret]
    response_headers:
      set: { X-Served-By: "{server}", X-Cookie: "{cookie.sid}", X-Empty: "{header.X-None}" }
      remove: [Server]
"#,
        "    - { name: main, pool: app }",
    );
    let fields = [
        ("x-who", "nobody"),
        ("x-list", "one"),
        ("x-given", "theirs"),
        ("x-secret", "1"),
        // Application servers make one variable of these and the ones above.
        ("x_who", "nobody"),
        ("x.where", "nowhere"),
        ("x_secret", "1"),
        ("x_list", "another's"),
        ("cookie", "a=1; sid=7"),
    ];
    let asked = Asked { fields: &fields, ..Asked::get("/a?b=c") };
    shop.each(asked, |way, response| {
        let seen = app.last();
        let field = |name: &str| seen.field(name);
        assert_eq!(field("x-who"), format!("127.0.0.1 by {} to shop.example", way.scheme()), "{way:?}");
        assert_eq!(field("x-where"), "main/app/s1", "{way:?}");
        assert_eq!(field("x-what"), "GET /a?b=c", "{way:?}");
        assert_eq!(field("x-list"), "one|two", "{way:?}");
        assert_eq!((field("x-tier"), field("x-given")), ("basic".to_owned(), "theirs".to_owned()), "{way:?}");
        for name in ["x-secret", "x_secret", "x_who", "x.where"] {
            assert!(!seen.has(name), "{name} {way:?}");
        }
        assert!(seen.has("x_list"), "what is added stands beside others anyway: {way:?}");
        assert_eq!(response.field("x-served-by"), "s1", "{way:?}");
        assert_eq!(response.field("x-cookie"), "7", "{way:?}");
        assert!(response.fields.iter().all(|(name, _)| name != "x-empty" && name != "server"), "{way:?}");
    });
}

#[test]
fn a_rule_has_the_last_word_and_null_takes_away_what_was_said_before() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        "  all: { response_headers: { set: { X-One: listener, X-Two: listener, X-Three: listener } } }\n\
         \x20 named: { response_headers: { set: { X-Two: named, X-Three: named }, add: { X-Four: named } } }",
        "    - { match: { path: /null }, response_headers: null, pool: app }\n\
         \x20   - { match: { path: /rule }, policy: named, response_headers: { set: { X-Three: rule, X-One: null } }, pool: app }\n\
         \x20   - { match: { path: /named }, policy: named, pool: app }\n\
         \x20   - { match: { path: /* }, pool: app }",
    );
    for (path, fields) in [
        ("/", "listener listener listener -"),
        ("/named", "listener named named named"),
        ("/rule", "- named rule named"),
        ("/null", "- - - -"),
    ] {
        shop.each(Asked::get(path), |way, response| {
            let told = ["x-one", "x-two", "x-three", "x-four"].map(|name| match response.field(name) {
                none if none.is_empty() => "-".to_owned(),
                some => some,
            });
            assert_eq!(told.join(" "), fields, "{path} {way:?}");
        });
    }
}

#[test]
fn answers_of_our_own_have_them_too_those_of_no_rule_included() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        "  all: { response_headers: { set: { X-Mark: \"{request_id}\", Retry-After: 30 }, remove: [Cache-Control] } }",
        "    - { match: { path: /app }, pool: app }",
    );
    shop.each(Asked::get("/nowhere"), |way, response| {
        assert_eq!(response.status, 404, "{way:?}");
        assert!(response.field("x-mark").len() > 10, "{way:?}");
        assert_eq!(
            (response.field("cache-control"), response.field("retry-after")),
            (String::new(), "30".to_owned())
        );
    });
}

#[test]
fn a_value_that_no_field_may_have_drops_its_field_and_is_counted() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        "  all: { request_headers: { set: { X-Sid: \"<{cookie.sid}>\" } } }",
        "    - { name: main, pool: app }",
    );
    let fields = [("cookie", "sid=a\u{1}b")];
    // HTTP/2's clients cannot say it, and heads of HTTP/1 that have it are refused: a tab is all that gets this far.
    let asked = Asked { fields: &fields, ..Asked::get("/") };
    let response = shop.ask(Way::Http11, asked);
    assert_eq!(response.status, 400);
    let fields = [("cookie", "sid=a\tb")];
    assert_eq!(shop.ask(Way::Http11, Asked { fields: &fields, ..Asked::get("/") }).status, 200);
    assert_eq!(app.last().field("x-sid"), "<a\tb>");
    assert_eq!(shop.balancer.metric("evenkeel_fields_dropped_total", &[]), 0.0);
}

#[test]
fn a_reload_changes_them_for_the_next_request() {
    let app = App::saying("hello");
    let policy = |value: &str| format!("  all: {{ response_headers: {{ set: {{ X-Mark: {value} }} }} }}");
    let shop = shop(&app, &policy("one"), "    - pool: app");
    assert_eq!(shop.ask(Way::H2, Asked::get("/")).field("x-mark"), "one");
    let next =
        shop.configuration("routes: shop, policy: all", &sections(&app, &policy("two"), "    - pool: app"));
    std::fs::write(shop.balancer.path("next.yaml"), &next).expect("it can be written");
    let (_, plan, _) =
        shop.balancer.command(&["plan", shop.balancer.path("next.yaml").to_str().expect("text")]);
    assert!(plan.contains("policies.all.response_headers.set.X-Mark: one -> two"), "{plan}");
    assert!(plan.contains("listeners: 2 kept") && plan.contains("routes: 1 kept"), "{plan}");
    assert_eq!(shop.balancer.reload(&next), Reloaded::Taken);
    assert_eq!(shop.ask(Way::H2, Asked::get("/")).field("x-mark"), "two");
}
