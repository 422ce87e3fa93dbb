//! Networks under names: wherever networks are, and as their file has them now.

use crate::support::app::{App, say};
use crate::support::balancer::{Balancer, Reloaded, evenkeel, plain};
use crate::support::wait_until;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("evenkeel-networks-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("there is room");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.0.join(name), self.0.join("new"));
        fs::write(&new, text).expect("there is room");
        fs::rename(&new, &path).expect("it can be put in place");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says whom a request is from.
fn named() -> App {
    App::new(|request, stream| say(stream, &request.field("x-forwarded-for")))
}

fn configuration(app: &App, list: &Path) -> String {
    format!(
        "networks: {{ proxies: {{ file: {} }} }}\n{}",
        list.display(),
        plain(&[app.address], "trusted_proxies: [proxies]", "")
    )
}

/// Whom the server is told that a request is from.
fn told(balancer: &Balancer) -> String {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let mut client = balancer.client();
    client.send(request);
    client.response().text()
}

#[test]
fn a_list_in_a_file_is_followed_and_a_bad_one_changes_nothing() {
    let (folder, app) = (Folder::new("followed"), named());
    let list = folder.file("list", "# none of ours\n192.0.2.0/24\n");
    let text = configuration(&app, &list);
    let balancer = Balancer::start(&text);
    assert_eq!(told(&balancer), "127.0.0.1");
    let labels = [("networks", "proxies")];
    assert_eq!(balancer.metric("evenkeel_networks", &labels), 1.0);
    let generation = balancer.generation();

    folder.file("list", "192.0.2.0/24\n127.0.0.0/8\n");
    wait_until("the list is followed", || told(&balancer) == "203.0.113.9, 127.0.0.1");
    assert_eq!(balancer.metric("evenkeel_networks", &labels), 2.0);
    assert_eq!(balancer.generation(), generation, "it is no reload");

    folder.file("list", "192.0.2.0/24\n127.0.0.1/8\n");
    wait_until("it is found out", || balancer.metric("evenkeel_networks_up", &labels) == 0.0);
    assert_eq!(told(&balancer), "203.0.113.9, 127.0.0.1", "what was read before stays in use");
    let events = balancer.command(&["events", "--kind", "networks"]).1;
    assert!(events.contains("line 2: 127.0.0.1/8"), "{events}");
    assert!(matches!(balancer.reload(&text), Reloaded::Refused));
    balancer.log.wait_for("networks.proxies.file: ");
    assert_eq!(told(&balancer), "203.0.113.9, 127.0.0.1");
}

#[test]
fn check_looks_at_the_files() {
    let (folder, app) = (Folder::new("check"), named());
    let check = |list: &Path| {
        let text = configuration(&app, list);
        let output =
            evenkeel().arg("check").arg(folder.file("evenkeel.yaml", &text)).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    for (list, code, said) in [
        ("10.0.0.0/8", 0, "ok"),
        ("# nothing\n", 0, "has no networks"),
        ("10.0.0.0/8\nshop.example", 1, "line 2: `shop.example` is not a network"),
    ] {
        let (found, report) = check(&folder.file("list", list));
        assert!(found == Some(code) && report.contains(said), "{list:?}: {found:?} {report}");
    }
    let (code, report) = check(&folder.0.join("absent"));
    assert!(code == Some(0) && report.contains("warning") && report.contains("cannot be read"), "{report}");
}
