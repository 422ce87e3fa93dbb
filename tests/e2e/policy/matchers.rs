//! What rules ask for, by every version of HTTP, and the spellings of one path.

use crate::support::app::App;
use crate::support::ways::{Asked, Ways};

#[test]
fn a_rule_is_met_by_what_it_asks_for() {
    let app = App::saying("hello");
    let rules = r#"
networks: { here: [127.0.0.0/8], there: [192.0.2.0/24] }
routes:
  shop:
    - { match: { path_regex: "^/item/(?P<id>[0-9]+)(/|$)" }, respond: { body: item, headers: { X-Item: "{path.id}" } } }
    - { match: { path: /q, query: { page: "a b", debug: "*" } }, respond: { body: query } }
    - { match: { path: /c, cookies: { beta: "1" } }, respond: { body: cookie } }
    - { match: { path: /n, client: [here], not: { headers: { X-Not: "1" }, methods: [GET] } }, respond: { body: here } }
    - { match: { path: /n, client: [there] }, respond: { body: there } }
    - { match: { path: /any, any: [{ host: a.example }, { query: { x: "1" } }] }, respond: { body: any } }
    - { respond: { body: else } }
"#;
    let rest = format!("{rules}pools: {{ app: {{ servers: ['{}'] }} }}\n", app.address);
    let shop = Ways::start("routes: shop", &rest);
    let beta: &[(&str, &str)] = &[("cookie", "a=b; beta=\"1\"")];
    let not: &[(&str, &str)] = &[("x-not", "1")];
    for (asked, body) in [
        (Asked::get("/item/42"), "item"),
        (Asked::get("/item/42/x?y"), "item"),
        (Asked::get("/item/x42"), "else"),
        (Asked::get("/q?debug&page=a%20b"), "query"),
        (Asked::get("/q?debug=&p%61ge=a%20b"), "query"),
        (Asked::get("/q?page=a%20b"), "else"),
        (Asked { fields: beta, ..Asked::get("/c") }, "cookie"),
        (Asked::get("/c"), "else"),
        (Asked::get("/n"), "here"),
        (Asked { fields: not, ..Asked::get("/n") }, "else"),
        (Asked { fields: not, method: "POST", ..Asked::get("/n") }, "here"),
        (Asked::get("/any"), "else"),
        (Asked::get("/any?x=1"), "any"),
        (Asked { host: "a.example", ..Asked::get("/any") }, "any"),
    ] {
        shop.each(asked, |way, response| {
            assert_eq!(response.text(), body, "{} {} {way:?}", asked.method, asked.target);
        });
    }
    shop.each(Asked::get("/item/42"), |way, response| assert_eq!(response.field("x-item"), "42", "{way:?}"));
    let (_, told, _) = shop.balancer.command(&["explain", "GET", "http://shop.example/n", "-H", "x-not: 1"]);
    for said in ["does not match ^/item", "it is what `not` has", "is in none of its networks"] {
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn whoever_is_kept_out_by_one_spelling_of_a_path_is_by_every_other() {
    let app = App::saying("hello");
    let rest = format!(
        "routes:\n  shop:\n    - {{ match: {{ path: /static/* }}, pool: app }}\n    \
         - {{ match: {{ path: /admin/* }}, respond: {{ status: 403 }} }}\n    - {{ pool: app }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let shop = Ways::start("routes: shop", &rest);
    for target in [
        "/admin",
        "/admin/",
        "/admin/users?x",
        "//admin",
        "/./admin",
        "/a/../admin",
        "/static/../admin",
        "/static/..%2fadmin",
        "/%61dmin",
        "/admin;x",
        "/admin;x=1/users",
        "/static/..;/admin",
        "/static/%2e%2e/admin",
        "/admin%2f",
    ] {
        shop.each(Asked::get(target), |way, response| assert_eq!(response.status, 403, "{target} {way:?}"));
    }
    assert_eq!(app.hits(), 0);
    for target in ["/static/admin", "/admins", "/a/../b", "//static/x", "/%2561dmin"] {
        shop.each(Asked::get(target), |way, response| assert_eq!(response.status, 200, "{target} {way:?}"));
        assert_eq!(app.last().target, target, "a path goes on as it came");
    }
}
