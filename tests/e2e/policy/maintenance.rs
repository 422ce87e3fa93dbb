//! Routes that operators take out of service and bring back.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Directory, Next, Reloaded};
use crate::support::wait_until;
use rustix::process::Signal;

fn text(app: &App, directory: &Directory, enabled: bool) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: {at}/state.json }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n\
         policies: {{ shut: {{ maintenance: {{ enabled: {enabled}, retry_after: 7s }} }} }}\n\
         routes:\n  shop:\n    - {{ name: cart, match: {{ path: /cart }}, policy: shut, pool: app }}\n    - {{ pool: app }}\n\
         pools: {{ app: {{ servers: [{app}] }} }}\n",
        at = directory.0.display(),
        app = app.address
    )
}

fn statuses(balancer: &Balancer) -> [u16; 2] {
    ["/cart", "/"].map(|path| balancer.get(path).status)
}

#[track_caller]
fn say(balancer: &Balancer, arguments: [&str; 2], told: &str) {
    let (code, out, err) = balancer.command(&[&["maintenance"], &arguments[..]].concat());
    assert_eq!((code, out.as_str()), (Some(0), told), "{arguments:?}: {err}");
}

#[test]
fn an_operator_takes_routes_out_of_service_and_brings_them_back() {
    let (app, directory) = (App::saying("hello"), Directory::new());
    let balancer = Balancer::start(&text(&app, &directory, false));
    let list = || balancer.command(&["maintenance"]).1;
    assert_eq!((statuses(&balancer), list()), ([200, 200], "nothing is in maintenance\n".to_owned()));
    say(&balancer, ["shop", "on"], "cart: in maintenance\nshop/2: in maintenance\n");
    assert_eq!(statuses(&balancer), [503, 503]);
    let retry_after = ["/cart", "/"].map(|path| balancer.get(path).field("retry-after"));
    assert_eq!(retry_after, ["7", "300"], "as far as the file says something, it holds");
    assert!(list().contains("web cart is in maintenance, by "), "{}", list());
    let (_, shown, _) = balancer.command(&["status"]);
    assert!(shown.contains("web shop/2 is in maintenance, by "), "{shown}");
    let told = balancer.command(&["explain", "http://x/cart"]).1;
    assert!(told.contains("maintenance"), "{told}");
    let gauge = |route| balancer.metric("evenkeel_maintenance", &[("listener", "web"), ("route", route)]);
    assert_eq!((gauge("cart"), gauge("shop/2")), (1.0, 1.0));
    say(&balancer, ["cart", "off"], "cart: served\n");
    assert_eq!(statuses(&balancer), [200, 503]);
    say(&balancer, ["shop", "off"], "cart: served\nshop/2: served\n");
    assert_eq!((statuses(&balancer), list()), ([200, 200], "nothing is in maintenance\n".to_owned()));
    let (code, _, err) = balancer.command(&["maintenance", "shpo", "on"]);
    assert!(code == Some(1) && err.contains("there is no route shpo") && err.contains("shop"), "{err}");
    let events = balancer.command(&["events"]).1;
    assert!(events.contains("maintenance of shop is on"), "{events}");
}

#[test]
fn what_an_operator_says_of_a_route_outlives_reloads_upgrades_and_restarts() {
    let (app, directory) = (App::saying("hello"), Directory::new());
    let open = text(&app, &directory, false);
    let balancer = Balancer::start(&open);
    say(&balancer, ["cart", "on"], "cart: in maintenance\n");
    assert_eq!(balancer.reload(&open.replace("retry_after: 7s", "retry_after: 8s")), Reloaded::Taken);
    assert_eq!(statuses(&balancer), [503, 200]);
    let (code, plan, _) = balancer.command(&["plan"]);
    assert_eq!(code, Some(0), "the file is as it was: {plan}");
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    wait_until("it is in maintenance there", || statuses(&balancer) == [503, 200]);
    next.end();
    drop(balancer);

    let again = Balancer::start(&text(&app, &directory, true));
    assert_eq!(statuses(&again), [503, 200]);
    say(&again, ["cart", "off"], "cart: served\n");
    assert_eq!(statuses(&again), [200, 200]);
    again.write(&open.replace("name: cart, ", ""));
    let receipt = again.command_json(&["reload"]);
    assert_eq!(receipt["operator_states_ended"][0], "route cart");
}
