//! The files of conf/ for kinds of sites, run: what they let through, keep out, rewrite and limit.

use crate::support::app::{App, Request, Then, say, send};
use crate::support::balancer::Balancer;
use crate::support::client::{Client, Response};
use regex::Regex;
use std::net::TcpStream;
use std::path::Path;

/// A file of conf/ with this app in place of all servers, and no TLS: the test tells what a proxy in front would.
fn start(name: &str, app: &App) -> Balancer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    let mut text = std::fs::read_to_string(file).expect("it is there");
    let here = app.address.to_string();
    for (what, with) in [
        (r"(?m)^acme: .*\n", ""),
        (r"(?m)^ +tls: .*\n", ""),
        (r"(?m)^  http: .*\n", ""),
        (r"0\.0\.0\.0:\d+", "127.0.0.1:0"),
        (r"10\.0\.[1-9]\.\d+:\d+", &here),
        (r"(?m)^    trusted_proxies: .*\n", ""),
        (r"(?m)^    routes: (\w+)\n", "    routes: $1\n    trusted_proxies: [127.0.0.1]\n"),
    ] {
        text = Regex::new(what).expect("it is one").replace_all(&text, with).into_owned();
    }
    Balancer::start(&text)
}

struct Visitor {
    connection: Client,
    host: &'static str,
}

impl Visitor {
    fn of(balancer: &Balancer, listener: &str, host: &'static str) -> Self {
        Self { connection: Client::connect(balancer.address(listener)), host }
    }

    /// A request of this client: `POST /wp-login.php`, with further fields.
    fn ask(&mut self, client: &str, request: &str, fields: &str) -> Response {
        let host = self.host;
        let length = if request.starts_with("POST") { "Content-Length: 0\r\n" } else { "" };
        self.connection.send(format!(
            "{request} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {client}\r\nX-Forwarded-Proto: https\r\n{length}{fields}\r\n"
        ));
        self.connection.response()
    }

    #[track_caller]
    fn gets(&mut self, client: &str, request: &str, status: u16) -> Response {
        let response = self.ask(client, request, "");
        assert_eq!(response.status, status, "{request} of {client}");
        response
    }
}

/// Says what it was asked for.
fn app() -> App {
    App::new(|request, stream| say(stream, &request.target))
}

#[test]
fn a_wordpress_site_shows_its_pages_and_nothing_else() {
    let (app, office, stranger) = (app(), "192.0.2.7", "198.51.100.1");
    let balancer = start("wordpress.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "web", "blog.example");
    for request in ["GET /", "GET /2026/a-post/?page=2", "GET /wp-admin/admin-ajax.php", "GET /wp-login.php"]
    {
        visitor.gets(stranger, request, 200);
    }
    for (at, request) in [
        "GET /xmlrpc.php",
        "GET /xmlrpc.php/x",
        "GET /.git/config",
        "GET /wp-config.php.bak",
        "GET /wp-content/uploads/2026/shell.PHP",
        "GET /wp-content/uploads/../uploads/x.php",
        "GET /%2egit/config",
        "GET /wp-admin/users.php",
        "GET //wp-admin/users.php",
    ]
    .into_iter()
    .enumerate()
    {
        visitor.gets(&format!("198.51.100.{}", 10 + at), request, 403);
    }
    visitor.gets(office, "GET /wp-admin/users.php", 200);
    assert_eq!(visitor.gets(stranger, "GET /?author=1", 302).field("location"), "/");
    let style = visitor.gets(stranger, "GET /wp-includes/a.css", 200);
    assert_eq!(style.field("cache-control"), "public, max-age=604800");
    assert_eq!(style.field("x-content-type-options"), "nosniff");
    let logins: Vec<u16> = (0..7)
        .map(|n| {
            visitor.ask("198.51.100.9", ["POST /wp-login.php", "POST /wp-login.php/x"][n % 2], "").status
        })
        .collect();
    assert_eq!(logins, [200, 200, 200, 200, 200, 429, 429]);
    let mut www = Visitor::of(&balancer, "web", "www.blog.example");
    assert_eq!(www.gets(stranger, "GET /a", 301).field("location"), "https://blog.example/a");
    // Who looks for what is not there.
    let prober = "203.0.113.66";
    (0..50).for_each(|_| drop(visitor.gets(prober, "GET /.env", 403)));
    assert_eq!(balancer.command(&["bans"]).1.lines().count(), 1);
    visitor.gets(prober, "GET /", 403);
    visitor.gets(stranger, "GET /", 200);
}

#[test]
fn an_api_counts_by_key_and_tells_pages_what_they_may() {
    let (app, office, stranger) = (app(), "192.0.2.7", "198.51.100.1");
    let balancer = start("api.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "api", "api.example");
    assert_eq!(visitor.gets(stranger, "GET /v2/items?x=1", 200).text(), "/items?x=1");
    visitor.gets(stranger, "GET /internal/metrics", 403);
    visitor.gets(stranger, "GET /v2/..%2finternal/metrics", 400);
    // After that a connection is over.
    let mut visitor = Visitor::of(&balancer, "api", "api.example");
    visitor.gets(office, "GET /internal/metrics", 200);
    let nothing = visitor.gets(stranger, "GET /v3/items", 404);
    assert_eq!(nothing.field("content-type"), "application/problem+json");
    assert!(nothing.text().contains("\"status\": 404"));
    let old = visitor.gets(stranger, "GET /v1/items", 200);
    assert_eq!((old.text(), old.field("deprecation")), ("/v1/items".to_owned(), "true".to_owned()));
    assert_eq!(app.last().field("x-api-version"), "1");

    let page = "Origin: https://m.shop.example\r\n";
    let preflight =
        format!("{page}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-api-key\r\n");
    let told = visitor.ask(stranger, "OPTIONS /v2/items", &preflight);
    assert_eq!(
        (told.status, told.field("access-control-allow-origin")),
        (204, "https://m.shop.example".to_owned())
    );
    let foreign = visitor.ask(stranger, "GET /v2/items", "Origin: https://evil.example\r\n");
    assert_eq!((foreign.status, foreign.field("access-control-allow-origin")), (200, String::new()));

    // By the key, whoever has it; without one by the client.
    let keyed = visitor.ask("198.51.100.2", "GET /v2/items", "X-Api-Key: k1\r\n");
    assert!(keyed.field("ratelimit").contains(";r=299;"), "{}", keyed.field("ratelimit"));
    let again = visitor.ask("198.51.100.3", "GET /v2/items", "X-Api-Key: k1\r\n");
    assert!(again.field("ratelimit").contains(";r=29"), "{}", again.field("ratelimit"));
    let asked: Vec<u16> = (0..21).map(|_| visitor.ask("198.51.100.4", "GET /v2/items", "").status).collect();
    assert_eq!((asked[..20].to_vec(), asked[20]), (vec![200; 20], 429));
    let other = visitor.ask("198.51.100.5", "GET /v2/items", page);
    assert_eq!(
        (other.status, other.field("access-control-allow-origin")),
        (200, "https://m.shop.example".to_owned())
    );
}

#[test]
fn a_magento_shop_serves_files_by_their_real_paths_and_hides_its_admin() {
    let (app, office, stranger) = (app(), "192.0.2.7", "198.51.100.1");
    let balancer = start("magento.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "web", "www.shop.example");
    let file = visitor.gets(stranger, "GET /static/version1700000000/frontend/a.js", 200);
    assert_eq!(file.text(), "/static/frontend/a.js");
    assert_eq!(
        file.field("cache-control"),
        "",
        "its server says for how long, or else a 404 would be kept for as long"
    );
    let media = visitor.gets(stranger, "GET /media/catalog/a.jpg", 200);
    assert_eq!(media.field("cache-control"), "public, max-age=86400");
    for (at, request) in [
        "GET /.git/config",
        "GET /app/etc/env.php",
        "GET /var/log/system.log",
        "GET /static/../app/etc/env.php",
        "GET //setup/",
        "GET /back_office/admin/dashboard",
        "GET /index.php/back_office/",
        "GET /index.php/back_office",
        "GET /%62ack_office/admin/dashboard",
        "GET /media/../back_office/admin/dashboard",
    ]
    .into_iter()
    .enumerate()
    {
        visitor.gets(&format!("198.51.100.{}", 10 + at), request, 403);
    }
    visitor.gets(office, "GET /back_office/admin/dashboard", 200);
    for request in ["GET /", "GET /checkout/cart/", "GET /catalogsearch/result/?q=a", "POST /graphql"] {
        visitor.gets(stranger, request, 200);
    }
    let tries = |visitor: &mut Visitor, client: &str, request: &str, n: usize| {
        (0..n).filter(|_| visitor.ask(client, request, "").status == 200).count()
    };
    assert_eq!(tries(&mut visitor, "198.51.100.30", "POST /customer/account/loginPost/", 8), 5);
    let token = "POST /rest/default/V1/integration/customer/token";
    assert_eq!(tries(&mut visitor, "198.51.100.32", token, 8), 5);
    assert_eq!(tries(&mut visitor, "198.51.100.33", "POST /index.php/customer/account/loginPost/", 8), 5);
    let card = "POST /rest/default/V1/guest-carts/abc/payment-information";
    assert_eq!(tries(&mut visitor, "198.51.100.31", card, 8), 6);
    let mut bare = Visitor::of(&balancer, "web", "shop.example");
    assert_eq!(bare.gets(stranger, "GET /a?b", 301).field("location"), "https://www.shop.example/a?b");

    assert_eq!(balancer.command(&["maintenance", "shop", "on"]).0, Some(0));
    visitor.gets(stranger, "GET /", 503);
    visitor.gets(office, "GET /", 200);
    assert_eq!(balancer.command(&["maintenance", "shop", "off"]).0, Some(0));
    visitor.gets(stranger, "GET /", 200);
}

/// As Magento answers where its full page cache is Varnish's.
fn magento(request: &Request, stream: &mut TcpStream) -> Then {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let control = match path.starts_with("/customer") || path.starts_with("/cart") {
        true => "no-store, private",
        false => "public, max-age=86400, s-maxage=86400",
    };
    let group = if query == "login" { "Set-Cookie: X-Magento-Vary=b; Path=/\r\n" } else { "" };
    let body = format!("{path} {}", request.field("cookie"));
    send(
        stream,
        &format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nX-Magento-Tags: cat_p_1,store\r\n\
             Set-Cookie: PHPSESSID=1\r\n{group}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn magentos_pages_are_kept_for_each_group_of_visitors_until_they_are_purged() {
    let app = App::new(magento);
    let balancer = start("magento.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "web", "www.shop.example");
    let asked = |path: &str| app.requests().iter().filter(|request| request.target.starts_with(path)).count();
    for (client, cookie) in [("198.51.100.1", ""), ("198.51.100.2", "Cookie: PHPSESSID=2\r\n")] {
        let page = visitor.ask(client, "GET /dress?utm_source=x", cookie);
        assert_eq!(
            (page.text().as_str(), page.field("cache-control").as_str()),
            ("/dress ", "no-store"),
            "{client}"
        );
        assert_eq!(page.field("x-magento-tags"), "");
    }
    // Probes come in between.
    let is_dress = |request: &Request| request.target.starts_with("/dress");
    let dress = app.requests().into_iter().rfind(is_dress).expect("it has arrived");
    assert_eq!((asked("/dress"), dress.target.as_str()), (1, "/dress"));
    // Another group has pages of its own, and one that has just become of it leaves nothing for the one that it was of.
    let group = "Cookie: X-Magento-Vary=b; PHPSESSID=2\r\n";
    for _ in 0..2 {
        let page = visitor.ask("198.51.100.1", "GET /dress", group);
        assert!(page.text().contains("X-Magento-Vary=b"), "{}", page.text());
    }
    assert_eq!(asked("/dress"), 2);
    for hits in 1..3 {
        let page = visitor.ask("198.51.100.1", "GET /welcome?login", "");
        assert!(page.field("set-cookie").contains("X-Magento-Vary=b"));
        assert_eq!(asked("/welcome"), hits);
    }
    for (path, hits) in
        [("/customer/account", 2), ("/cart", 2), ("/checkout/cart", 2), ("/graphql?query=%7Bstore%7D", 1)]
    {
        for _ in 0..2 {
            visitor.gets("198.51.100.1", &format!("GET {path}"), 200);
        }
        assert_eq!(asked(path.split('?').next().unwrap_or_default()), hits, "{path}");
    }
    // A price has changed.
    let pattern = "X-Magento-Tags-Pattern: ((^|,)cat_p_1(,|$))\r\n";
    assert_eq!(visitor.ask("198.51.100.1", "PURGE /", pattern).status, 405);
    visitor.gets("198.51.100.1", "GET /dress", 200);
    assert_eq!(asked("/dress"), 2);
    assert_eq!(visitor.ask("10.0.1.11", "PURGE /", pattern).status, 200);
    visitor.gets("198.51.100.1", "GET /dress", 200);
    assert_eq!(asked("/dress"), 3);
}

/// Says for whom a page was made, and of carts and accounts that they are nobody else's.
fn wordpress(request: &Request, stream: &mut TcpStream) -> Then {
    let path = request.target.split('?').next().unwrap_or_default();
    let control = match path {
        "/my-account/orders" => "Cache-Control: no-cache, must-revalidate, max-age=0, no-store, private\r\n",
        _ => "",
    };
    let cookie = if path == "/opens-a-session" { "Set-Cookie: wp_woocommerce_session_7=1\r\n" } else { "" };
    let status = if path == "/nothing" { "404 Not Found" } else { "200 OK" };
    let body = format!("{} for {}", request.target, request.field("cookie"));
    send(
        stream,
        &format!("HTTP/1.1 {status}\r\n{control}{cookie}Content-Length: {}\r\n\r\n{body}", body.len()),
    )
}

#[test]
fn wordpress_makes_a_page_once_for_all_who_are_nobody() {
    let app = App::new(wordpress);
    let balancer = start("wordpress.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "web", "blog.example");
    let stranger = "198.51.100.1";
    let mut asks = |request: &str, fields: &str| {
        let before = app.hits();
        visitor.ask(stranger, request, fields);
        app.hits() - before
    };
    assert_eq!(asks("GET /a-post/?utm_source=mail&gclid=7", ""), 1);
    assert_eq!(app.last().target, "/a-post/");
    for (request, fields, hits) in [
        ("GET /a-post/", "", 0),
        ("GET /a-post/?mc_cid=1", "Cookie: _ga=1; wp-settings-time-1=2\r\n", 0),
        ("GET /a-post/", "Cookie: _ga=1; wordpress_logged_in_0123abcd=admin\r\n", 1),
        ("GET /a-post/", "Cookie: comment_author_0123abcd=me\r\n", 1),
        ("GET /a-post/", "Cookie: wp-postpass_0123abcd=x\r\n", 1),
        ("GET /a-post/", "Cookie: woocommerce_items_in_cart=1\r\n", 1),
        ("GET /a-post/", "Cookie: wp_woocommerce_session_0123abcd=x\r\n", 1),
        ("GET /a-post/", "", 0),
        ("GET /cart/", "", 1),
        ("GET /cart/", "", 1),
        ("GET /checkout/order-pay/7/", "", 1),
        ("GET /my-account/orders", "", 1),
        ("GET /opens-a-session", "", 1),
        ("GET /opens-a-session", "", 1),
        ("GET /nothing", "", 1),
        ("GET /nothing", "", 0),
        ("GET /wp-admin/admin-ajax.php", "", 1),
        ("GET /wp-admin/admin-ajax.php", "", 1),
        ("GET /wp-content/themes/a.css", "", 1),
        ("GET /wp-content/themes/a.css", "Cookie: wordpress_logged_in_0123abcd=admin\r\n", 0),
        ("PURGE /a-post/", "", 0),
        ("GET /a-post/", "", 0),
    ] {
        assert_eq!(asks(request, fields), hits, "{request} {fields}");
    }
    // The plugin, on one of the application's servers.
    assert_eq!(visitor.ask("10.0.1.11", "PURGE /a-post/", "").status, 200);
    let before = app.hits();
    visitor.gets(stranger, "GET /a-post/", 200);
    assert_eq!(app.hits(), before + 1);
}

/// A catalogue that everybody may see, and orders that nobody else may.
fn catalogue(request: &Request, stream: &mut TcpStream) -> Then {
    let control = match request.target.split('?').next().unwrap_or_default() {
        "/items" | "/graphql" => "Cache-Control: public, s-maxage=30\r\n",
        _ => "",
    };
    send(stream, &format!("HTTP/1.1 200 OK\r\n{control}Vary: Accept\r\nContent-Length: 2\r\n\r\n{{}}"))
}

#[test]
fn an_api_keeps_what_it_says_that_may_be_kept() {
    let app = App::new(catalogue);
    let balancer = start("api.yaml", &app);
    let mut visitor = Visitor::of(&balancer, "api", "api.example");
    for (request, fields, hits) in [
        ("GET /v2/items?sort=name&page=1", "", 1),
        ("GET /v2/items?page=1&sort=name", "", 0),
        // What is public is so for who says who it is, too.
        ("GET /v2/items?page=1&sort=name", "Authorization: Bearer x\r\n", 0),
        ("GET /v2/items?page=1&sort=name", "Accept: text/csv\r\n", 1),
        ("GET /v2/items?page=1&sort=name", "X-Api-Key: k1\r\n", 1),
        ("GET /v2/graphql?extensions=%7B%7D", "", 1),
        ("GET /v2/graphql?extensions=%7B%7D", "", 0),
        ("GET /v2/orders", "Authorization: Bearer x\r\n", 1),
        ("GET /v2/orders", "Authorization: Bearer y\r\n", 1),
        ("GET /v2/orders", "", 1),
    ] {
        let before = app.hits();
        let response = visitor.ask("198.51.100.1", request, fields);
        assert_eq!((response.status, app.hits() - before), (200, hits), "{request} {fields}");
        let told = response.field("cache-control");
        let said = if request.contains("orders") { "no-store" } else { "public, s-maxage=30" };
        assert_eq!(told, said, "{request}");
    }
}
