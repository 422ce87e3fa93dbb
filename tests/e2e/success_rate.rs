//! Servers that are used as often as they succeed.

use crate::support::app::{App, Then, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::wait_until;

/// Answers with 200, and with this value of the field that says how it went.
fn gateway(result: &'static str) -> App {
    App::new(move |_, stream| {
        send(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Result: {result}\r\n\r\nok"));
        Then::Keep
    })
}

#[test]
fn a_server_that_says_it_fails_gets_the_explored_share() {
    let apps = [gateway("approved"), gateway("unreachable"), gateway("declined")];
    let balance = "balance: { success_rate: { outcome: { header: X-Result, success: [approved, declined], \
                   failure: [unreachable] } } }";
    let balancer = Balancer::start(&plain(&apps.each_ref().map(|app| app.address), "", balance));
    let labels = |server: &'static str| [("pool", "app"), ("server", server)];
    let share = |server| balancer.metric("evenkeel_server_share", &labels(server));
    let mut client = balancer.client();
    wait_until("the second one is found to be worse", || {
        (0..40).for_each(|_| assert_eq!(client.get("/").status, 200));
        (share("s2") - 0.05).abs() < 1e-6
    });
    assert!((share("s1") - 0.475).abs() < 1e-6 && (share("s3") - 0.475).abs() < 1e-6);
    let bound = |server, bound| {
        let [pool, server] = labels(server);
        balancer.metric("evenkeel_server_success_ratio", &[pool, server, ("bound", bound)])
    };
    assert!(bound("s2", "upper") < bound("s1", "lower"));
    let url = format!("http://{}/", balancer.address("web"));
    let told = balancer.command_json(&["explain", &url, "--listener", "web"]);
    let score = told["candidates"][1]["score"].as_str().unwrap_or_default();
    assert!(score.ends_with("provably worse than the best, 5.0% of picks"), "{score}");
}
