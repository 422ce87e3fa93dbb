//! The status page: what it shows, and what names and strangers can do to it.

use crate::support::app::App;
use crate::support::balancer::{Balancer, plain};
use crate::support::client::{Client, Response};
use crate::support::wait_until;

fn get(balancer: &Balancer, path: &str) -> Response {
    let mut client = Client::connect(balancer.admin_address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", balancer.admin_address()));
    client.response()
}

#[test]
fn the_page_shows_pools_and_servers_without_a_script() {
    let apps = [App::saying("a"), App::saying("b")];
    let addresses: Vec<_> = apps.iter().map(|app| app.address).collect();
    let balancer = Balancer::start(&plain(&addresses, "", "health: { http: /healthz, interval: 20ms }"));
    assert_eq!(balancer.command(&["drain", "app/s2"]).0, Some(0));
    let page = get(&balancer, "/");
    assert_eq!(page.status, 200);
    let text = page.text();
    for part in [
        "1 of 2 up",
        "<th scope=\"row\">s1",
        "state drain\">drain",
        "by alice (uid ",
        "ready → drain",
        "<noscript><meta http-equiv=\"refresh\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What a script fetches is the part that changes, ready to be shown.
    let part = get(&balancer, "/page").text();
    assert!(
        part.starts_with("<dl") && part.contains("state drain\">drain") && !part.contains("<html"),
        "{part}"
    );
    assert_eq!(balancer.command(&["ready", "app/s2"]).0, Some(0));
    wait_until("the page follows", || get(&balancer, "/page").text().contains("2 of 2 up"));
    assert!(get(&balancer, "/page.css").field("content-type").starts_with("text/css"));
    assert!(get(&balancer, "/page.js").field("content-type").starts_with("text/javascript"));
}

#[test]
fn nothing_on_the_page_comes_from_elsewhere_or_runs_inline() {
    let app = App::saying("a");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let page = get(&balancer, "/");
    let policy = page.field("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.field("x-content-type-options"), "nosniff");
    for text in [page.text(), get(&balancer, "/page.js").text(), get(&balancer, "/page.css").text()] {
        assert!(!text.contains("://") && !text.contains(" style=") && !text.contains(" onclick"), "{text}");
    }
}

#[test]
fn names_from_the_file_are_text_and_nothing_else() {
    let app = App::saying("a");
    let name = "<img/src=x/onerror=alert(1)>";
    let text = plain(&[app.address], "", "").replace("name: s1", &format!("name: '{name}'"));
    let balancer = Balancer::start(&text);
    let page = get(&balancer, "/").text();
    assert!(!page.contains(name), "{page}");
    assert!(page.contains("&lt;img/src=x/onerror=alert(1)&gt;"), "{page}");
}

#[test]
fn a_pool_that_fails_open_is_shown_loudly() {
    let gone = crate::support::app::Refusing::new();
    let balancer =
        Balancer::start(&plain(&[gone.address], "", "health: { tcp: {}, interval: 20ms, fall: 1 }"));
    wait_until("the page says so", || {
        let page = get(&balancer, "/").text();
        page.contains("class=\"alarm\" role=\"alert\">Pool app has no healthy server")
    });
}
