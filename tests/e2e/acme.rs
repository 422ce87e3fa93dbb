//! Certificates from an authority, against a real one: both challenges, renewal under open connections, an authority
//! that is away, several nodes with one storage, and what happens when something is wrong.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Directory, Reloaded};
use crate::support::client::{self, Client};
use crate::support::pebble::{Pebble, PebbleOptions, Way};
use crate::support::tls::{Speaker, TlsStream};
use crate::support::{wait_for, wait_until};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_rustls::rustls::HandshakeKind;

const IN_FORCE: &str = "evenkeel_acme_certificate_in_force";
const ORDERS: &str = "evenkeel_acme_orders_total";

/// A listener `web` for these names, one `http` that sends clients there, and one server.
fn text(app: &App, acme: &str, names: &str) -> String {
    format!(
        "{acme}listeners:\n  web: {{ address: 127.0.0.1:0, pool: app, tls: {{ acme: {{ names: [{names}] }} }} }}\n  \
         http: {{ address: 127.0.0.1:0, redirect_to_https: true }}\n\
         pools:\n  app: {{ servers: [{}] }}\n",
        app.address
    )
}

/// Starts evenkeel, and lets the authority ask it.
fn start(pebble: &Pebble, text: &str) -> Balancer {
    let balancer = Balancer::start(text);
    pebble.http.lead(Way::To(balancer.address("http")));
    pebble.tls.lead(Way::To(balancer.address("web")));
    balancer
}

fn in_force(balancer: &Balancer, name: &str) -> bool {
    balancer.metric(IN_FORCE, &[("name", name)]) == 1.0
}

#[track_caller]
fn wait_for_certificate(balancer: &Balancer, name: &str) {
    wait_until(&format!("a certificate for {name}"), || in_force(balancer, name));
}

/// The certificate that a client is shown, as it is.
#[track_caller]
fn shown(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("there is one")[0].to_vec()
}

#[track_caller]
fn certificate(at: SocketAddr, name: &str) -> Vec<u8> {
    shown(&Speaker::new().connect(at, name).expect("the handshake succeeds"))
}

/// Whose certificate it is, and for which names.
fn read(certificate: &[u8]) -> (String, Vec<String>) {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    let names = parsed.subject_alternative_name().expect("readable").expect("there are names");
    let name = |name: &x509_parser::extensions::GeneralName<'_>| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
        other => format!("{other:?}"),
    };
    (parsed.issuer().to_string(), names.value.general_names.iter().map(name).collect())
}

#[track_caller]
fn check_issued(balancer: &Balancer, name: &str) {
    wait_for_certificate(balancer, name);
    let (issuer, names) = read(&certificate(balancer.address("web"), name));
    assert!(issuer.contains("Pebble Intermediate"), "{issuer}");
    assert_eq!(names, [name]);
}

#[test]
fn a_certificate_is_had_by_a_handshake() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let acme = pebble.section("tls_alpn_01", "DIR/acme", "contact: [\"mailto:ops@shop.example\"]");
    let balancer = start(&pebble, &text(&app, &acme, "Shop.Example"));
    check_issued(&balancer, "shop.example");
    let stream = Speaker::new().connect(balancer.address("web"), "shop.example").expect("it succeeds");
    assert_eq!(Client::over_tls(stream).get("/").text(), "hello");
    assert_eq!(balancer.metric(ORDERS, &[("result", "success")]), 1.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let days = |name| (balancer.metric(name, &[("name", "shop.example")]) - now) / 86_400.0;
    assert!(days("evenkeel_acme_last_success_timestamp_seconds").abs() < 0.01);
    wait_until("the renewal's time", || {
        (55.0..60.1).contains(&days("evenkeel_acme_next_order_timestamp_seconds"))
    });
    let expiry =
        balancer.metric("evenkeel_tls_listener_certificate_expiry_timestamp_seconds", &[("listener", "web")]);
    assert!((89.0..91.0).contains(&((expiry - now) / 86_400.0)), "{expiry}");
    // Who is no authority and asks for that protocol gets nothing by it.
    let asking = Speaker::new().offering(&["acme-tls/1"]);
    assert!(asking.connect(balancer.address("web"), "shop.example").is_err());
    let both = Speaker::new().offering(&["acme-tls/1", "http/1.1"]);
    let stream = both.connect(balancer.address("web"), "shop.example").expect("it succeeds");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // Keys are for nobody else to read.
    let storage = balancer.path("acme").join(pebble.part());
    for file in [storage.join("account.json"), storage.join("certificates/shop.example.pem")] {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| {
            std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
        };
        assert_eq!(
            (mode(&file), mode(file.parent().expect("a directory"))),
            (0o600, 0o700),
            "{}",
            file.display()
        );
    }
    let left = |part: &str| std::fs::read_dir(storage.join(part)).map_or(0, Iterator::count);
    wait_until("no lock and no challenge is left", || left("locks") + left("challenges") == 0);
}

#[test]
fn a_certificate_is_had_by_a_request() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let acme = pebble.section("http_01", "DIR/acme", "");
    let balancer = start(&pebble, &text(&app, &acme, "shop.example"));
    check_issued(&balancer, "shop.example");
    let record =
        balancer.record_where("of the authority's request", |record| record["why"] == "acme_challenge");
    assert_eq!((&record["status"], &record["listener"]), (&200.into(), &"http".into()));
    assert_eq!(balancer.failures("acme_challenge"), 0.0, "it is what was asked for");
    // A token of somebody else's is none of ours: the server behind may know it.
    let token = "/.well-known/acme-challenge/abc";
    assert_eq!(client::get(balancer.address("http"), token).status, 308);
    let stream = Speaker::new().connect(balancer.address("web"), "shop.example").expect("it succeeds");
    assert_eq!(Client::over_tls(stream).get(token).text(), "hello");
    // What was asked for is answered no more.
    let asked = record["path"].as_str().expect("a path").to_owned();
    wait_until("the challenge is over", || client::get(balancer.address("http"), &asked).status == 308);
    // Without that challenge nobody is offered its protocol.
    let asking = Speaker::new().offering(&["acme-tls/1"]);
    assert!(asking.connect(balancer.address("web"), "shop.example").is_err());
}

#[test]
fn a_certificate_is_renewed_under_open_connections() {
    let app = App::saying("hello");
    let pebble = Pebble::with(&PebbleOptions { validity: 9, ..PebbleOptions::default() });
    pebble.come();
    let balancer =
        start(&pebble, &text(&app, &pebble.section("tls_alpn_01", "DIR/acme", ""), "shop.example"));
    wait_for_certificate(&balancer, "shop.example");
    let speaker = Speaker::new();
    let connect = || speaker.connect(balancer.address("web"), "shop.example").expect("it succeeds");
    let stream = connect();
    let first = shown(&stream);
    let mut open = Client::over_tls(stream);
    assert_eq!(open.get("/before").text(), "hello");
    let generation = balancer.generation();
    let second = wait_for("another certificate", || {
        // A stranger, who resumes nothing.
        let now = certificate(balancer.address("web"), "shop.example");
        (now != first).then_some(now)
    });
    assert_eq!(read(&second).1, ["shop.example"]);
    assert_eq!(open.get("/after").text(), "hello");
    let resumed = connect();
    assert_eq!(resumed.conn.handshake_kind(), Some(HandshakeKind::Resumed), "tickets outlive certificates");
    assert_eq!(balancer.generation(), generation, "it is no reload");
    assert!(balancer.metric(ORDERS, &[("result", "success")]) >= 2.0);
}

#[test]
fn while_the_authority_is_away_what_is_stored_is_served() {
    let app = App::saying("hello");
    let pebble = Pebble::with(&PebbleOptions { way: Way::Away, ..PebbleOptions::default() });
    let storage = Directory::new();
    let acme = pebble.section("tls_alpn_01", &storage.0.display().to_string(), "");
    let text = text(&app, &acme, "shop.example");
    {
        let balancer = start(&pebble, &text);
        let speaker = Speaker::new();
        wait_until("a failed order", || balancer.metric(ORDERS, &[("result", "away")]) >= 1.0);
        balancer.log.wait_for("certificate not ordered");
        assert!(!in_force(&balancer, "shop.example"));
        assert!(speaker.connect(balancer.address("web"), "shop.example").is_err());
        let record =
            balancer.record_where("of the failed handshake", |record| record["why"] == "tls_handshake");
        assert_eq!(record["detail"], "no certificate for that name yet");
        assert_eq!(client::get(balancer.address("http"), "/").status, 308, "all else works");
        pebble.come();
        check_issued(&balancer, "shop.example");
    }
    // The next process has it from the beginning, whether the authority is there or not.
    pebble.go();
    let balancer = start(&pebble, &text);
    assert!(in_force(&balancer, "shop.example"));
    let (issuer, _) = read(&certificate(balancer.address("web"), "shop.example"));
    assert!(issuer.contains("Pebble Intermediate"), "{issuer}");
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn nodes_that_share_a_storage_make_one_order_and_each_answers_for_the_other() {
    for challenge in ["tls_alpn_01", "http_01"] {
        let app = App::saying("hello");
        let pebble = Pebble::with(&PebbleOptions::default());
        let storage = Directory::new();
        let text =
            text(&app, &pebble.section(challenge, &storage.0.display().to_string(), ""), "shop.example");
        let one = Balancer::start(&text);
        one.log.wait_for("ordering a certificate");
        // The first has the lock; the authority will meet the second.
        let other = start(&pebble, &text);
        pebble.come();
        for node in [&one, &other] {
            check_issued(node, "shop.example");
        }
        let [first, second] = [&one, &other].map(|node| certificate(node.address("web"), "shop.example"));
        assert_eq!(first, second, "{challenge}");
        assert_eq!(pebble.orders(), 1, "{challenge}");
        assert_eq!(one.metric(ORDERS, &[("result", "success")]), 1.0);
        assert_eq!(other.metric(ORDERS, &[]), 0.0);
    }
}

#[test]
fn a_reload_adds_and_removes_names() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let acme = pebble.section("tls_alpn_01", "DIR/acme", "");
    let balancer = start(&pebble, &text(&app, &acme, "shop.example"));
    wait_for_certificate(&balancer, "shop.example");
    let first = certificate(balancer.address("web"), "shop.example");
    assert_eq!(balancer.reload(&text(&app, &acme, "shop.example, www.shop.example")), Reloaded::Taken);
    assert_eq!(certificate(balancer.address("web"), "shop.example"), first);
    check_issued(&balancer, "www.shop.example");
    assert_eq!(certificate(balancer.address("web"), "shop.example"), first);
    assert_eq!(pebble.orders(), 2, "a certificate for each, and the first was not ordered again");
    assert_eq!(balancer.reload(&text(&app, &acme, "www.shop.example")), Reloaded::Taken);
    assert_eq!(balancer.series(IN_FORCE, &[]).len(), 1);
    // Who asks for a name that is no longer here is shown what there is.
    assert_eq!(read(&certificate(balancer.address("web"), "shop.example")).1, ["www.shop.example"]);
    // And back: it is still stored.
    assert_eq!(balancer.reload(&text(&app, &acme, "shop.example")), Reloaded::Taken);
    assert_eq!(certificate(balancer.address("web"), "shop.example"), first);
    assert_eq!(pebble.orders(), 2);
}

#[test]
fn what_is_broken_in_the_storage_is_named_and_ends_nothing() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let storage = Directory::new();
    let part = storage.0.join(pebble.part());
    let write = |file: &str, contents: &str| {
        let path: PathBuf = part.join(file);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
        std::fs::write(&path, contents).expect("writable");
        path
    };
    let certificate = write("certificates/shop.example.pem", "-----BEGIN CERTIFICATE-----\nAA");
    let account = write("account.json", "{ half");
    let failures = write("failures/shop.example.json", "[");
    write("challenges/shop.example.json", "");
    let text = text(&app, &pebble.section("http_01", &storage.0.display().to_string(), ""), "shop.example");
    let balancer = start(&pebble, &text);
    let line = balancer.log.wait_for("the stored certificate is no use");
    assert!(line.contains(&certificate.display().to_string()), "{line}");
    let line = balancer.log.wait_for("certificate not ordered");
    assert!(line.contains(&account.display().to_string()) && line.contains("is not JSON"), "{line}");
    balancer.wait_for_metric(ORDERS, &[("result", "own")], 1.0);
    assert_eq!(client::get(balancer.address("http"), "/").status, 308, "all else works");
    // Mended, and not to wait for the next try.
    std::fs::remove_file(&account).expect("it is there");
    wait_until("the failure is written down", || {
        std::fs::read_to_string(&failures).is_ok_and(|record| record.contains("\"own\""))
    });
    std::fs::remove_file(&failures).expect("it is there");
    check_issued(&balancer, "shop.example");
}

#[test]
fn what_the_authority_refuses_waits_until_somebody_has_mended_it() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let balancer = Balancer::start(&text(&app, &pebble.section("http_01", "DIR/acme", ""), "shop.example"));
    // Port 80 of this name leads to somebody else.
    pebble.http.lead(Way::To(app.address));
    let line = balancer.log.wait_for("certificate not ordered");
    assert!(line.contains("fault=\"refused\"") && line.contains("unauthorized"), "{line}");
    balancer.wait_for_metric(ORDERS, &[("result", "refused")], 1.0);
    let failures = balancer.path("acme").join(pebble.part()).join("failures/shop.example.json");
    let record = wait_for("the record", || std::fs::read_to_string(&failures).ok());
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((&record["failures"], &record["fault"]), (&1.into(), &"refused".into()));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let next = || balancer.metric("evenkeel_acme_next_order_timestamp_seconds", &[("name", "shop.example")]);
    wait_until("the wait is known", || next() > now + 200.0);
    assert_eq!(pebble.orders(), 1);
    pebble.http.lead(Way::To(balancer.address("http")));
    std::fs::remove_file(&failures).expect("it is there");
    check_issued(&balancer, "shop.example");
    assert!(!failures.exists());
}

#[test]
fn an_external_account_is_bound_and_bad_nonces_do_no_harm() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let app = App::saying("hello");
    let wish =
        PebbleOptions { external_account: Some(("kid-1", KEY)), bad_nonces: 15, ..PebbleOptions::default() };
    let pebble = Pebble::with(&wish);
    pebble.come();
    let files = Directory::new();
    let key = files.0.join("hmac");
    let file = |key: &str, text: &str| std::fs::write(files.0.join(key), text).expect("writable");
    file("hmac", "not base64!");
    let more = format!("external_account: {{ key_id: kid-1, hmac_key_file: {} }}", key.display());
    let text = text(&app, &pebble.section("tls_alpn_01", "DIR/acme", &more), "shop.example");
    let output = {
        let path = files.0.join("evenkeel.yaml");
        std::fs::write(&path, &text).expect("writable");
        crate::support::balancer::evenkeel().arg("check").arg(&path).output().expect("it runs")
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("hmac does not hold a key in base64"), "{said}");
    file("hmac", &format!("{KEY}\n"));
    let balancer = start(&pebble, &text);
    check_issued(&balancer, "shop.example");
}

#[test]
fn certificates_from_files_stand_beside_those_of_the_authority() {
    let (app, pebble) =
        (App::saying("hello"), Pebble::with(&PebbleOptions { way: Way::Away, ..PebbleOptions::default() }));
    let files = Directory::new();
    let own = crate::support::tls::Certificate::named(&["own.example"]);
    own.write(&files.0, "own");
    let certificates = format!(
        "acme: {{ names: [shop.example] }}, certificates: [{{ cert: {0}/own.pem, key: {0}/own.key }}]",
        files.0.display()
    );
    let text = text(&app, &pebble.section("tls_alpn_01", "DIR/acme", ""), "shop.example")
        .replace("acme: { names: [shop.example] }", &certificates);
    let balancer = start(&pebble, &text);
    let shows_own = |name| {
        own.is_shown_by(
            &Speaker::new().connect(balancer.address("web"), name).expect("the handshake succeeds"),
        )
    };
    assert!(
        shows_own("own.example") && shows_own("shop.example"),
        "until there is one, the default is shown"
    );
    pebble.come();
    check_issued(&balancer, "shop.example");
    assert!(shows_own("own.example") && shows_own("other.example"));
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert!(shows_own("own.example") && !shows_own("shop.example"));
}

#[test]
fn an_authority_that_has_lost_its_accounts_gets_a_new_one() {
    let (app, storage) = (App::saying("hello"), Directory::new());
    let first = Pebble::new();
    let acme = first.section("tls_alpn_01", &storage.0.display().to_string(), "");
    let balancer = start(&first, &text(&app, &acme, "shop.example"));
    wait_for_certificate(&balancer, "shop.example");
    // Another authority at the same place, which knows nobody. Its way is the first one's.
    let second = Pebble::new();
    first.front.lead(Way::To(second.front.address));
    let trusting = acme.replace("accept_terms", &format!("ca: {}, accept_terms", second.ca().display()));
    let trusting = trusting.replacen(&format!("ca: {}, ", first.ca().display()), "", 1);
    second.tls.lead(Way::To(balancer.address("web")));
    assert_eq!(balancer.reload(&text(&app, &trusting, "shop.example, www.shop.example")), Reloaded::Taken);
    check_issued(&balancer, "www.shop.example");
    assert!(storage.0.join(first.part()).join("account.json.unknown").exists());
}

#[test]
fn an_authority_that_wants_to_be_left_alone_is() {
    let (app, storage) = (App::saying("hello"), Directory::new());
    let itself = crate::support::tls::Certificate::named(&["127.0.0.1"]);
    itself.write(&storage.0, "authority");
    for (status, retry) in
        [("503 Service Unavailable", "7200"), ("429 Too Many Requests", "Fri, 01 Jan 2100 00:00:00 GMT")]
    {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: {retry}\r\nContent-Length: 6\r\n\r\n<html>");
        let server = itself.answering(&answer);
        let acme = format!(
            "acme: {{ directory: \"https://{}/dir\", ca: {1}/authority.pem, storage: {1}, accept_terms: true }}\n",
            server.address,
            storage.0.display()
        );
        let balancer = Balancer::start(&text(&app, &acme, "shop.example"));
        let line = balancer.log.wait_for("certificate not ordered");
        assert!(
            line.contains("fault=\"away\"")
                && line.contains(&format!("answers {status} with a body, which is not ACME")),
            "{line}"
        );
        let left =
            line.split_once("retry_in=").and_then(|(_, rest)| rest.split_once(' ')).expect("it is said").0;
        let left: i64 = left.parse().expect("a number");
        let expected = if retry == "7200" { 7190..=7200 } else { 31 * 86_400 - 10..=31 * 86_400 };
        assert!(expected.contains(&left), "{line}");
    }
}

#[test]
fn a_directory_that_has_moved_is_told_with_its_new_place() {
    let (app, storage) = (App::saying("hello"), Directory::new());
    let itself = crate::support::tls::Certificate::named(&["127.0.0.1"]);
    itself.write(&storage.0, "authority");
    let server = itself.answering(
        "HTTP/1.1 301 Moved Permanently\r\nLocation: https://acme.example/directory\r\nContent-Length: 0\r\n\r\n",
    );
    let acme = format!(
        "acme: {{ directory: \"https://{}/dir\", ca: {1}/authority.pem, storage: {1}, accept_terms: true }}\n",
        server.address,
        storage.0.display()
    );
    let balancer = Balancer::start(&text(&app, &acme, "shop.example"));
    let line = balancer.log.wait_for("certificate not ordered");
    assert!(
        line.contains("301 Moved Permanently") && line.contains("https://acme.example/directory"),
        "{line}"
    );
    assert!(line.contains("fault=\"away\""), "{line}");
}

#[test]
fn a_storage_that_cannot_be_read_is_no_reason_to_order() {
    let (app, pebble) = (App::saying("hello"), Pebble::new());
    let storage = Directory::new();
    let file = storage.0.join(pebble.part()).join("certificates/shop.example.pem");
    std::fs::create_dir_all(&file).expect("it can be made");
    let acme = pebble.section("tls_alpn_01", &storage.0.display().to_string(), "");
    let balancer = start(&pebble, &text(&app, &acme, "shop.example"));
    let line = balancer.log.wait_for("the stored certificate cannot be read");
    assert!(line.contains(&file.display().to_string()), "{line}");
    assert_eq!(client::get(balancer.address("http"), "/").status, 308, "all else works");
    std::fs::remove_dir(&file).expect("it is empty");
    check_issued(&balancer, "shop.example");
    assert_eq!(pebble.orders(), 1);
    assert_eq!(
        balancer.log.all().iter().filter(|line| line.contains("cannot be read")).count(),
        1,
        "said once"
    );
}

#[test]
fn certificates_that_are_due_at_once_are_not_ordered_over_and_over() {
    let app = App::saying("hello");
    // As it is when this machine's clock is far ahead.
    let pebble = Pebble::with(&PebbleOptions { validity: 1, ..PebbleOptions::default() });
    pebble.come();
    let balancer =
        start(&pebble, &text(&app, &pebble.section("tls_alpn_01", "DIR/acme", ""), "shop.example"));
    let line = balancer.log.wait_for("look at this machine's clock");
    assert!(line.contains("fault=\"refused\""), "{line}");
    check_issued(&balancer, "shop.example");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let next = || balancer.metric("evenkeel_acme_next_order_timestamp_seconds", &[("name", "shop.example")]);
    wait_until("the next order waits", || next() > now + 200.0);
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn an_authority_is_found_by_the_resolvers_of_the_configuration() {
    let (app, storage) = (App::saying("hello"), Directory::new());
    let dns = crate::support::dns::DnsServer::new();
    dns.lead("authority.internal", &["127.0.0.1"]);
    let itself = crate::support::tls::Certificate::named(&["authority.internal"]);
    itself.write(&storage.0, "authority");
    let server = itself.answering("HTTP/1.1 418 I Am Here\r\nContent-Length: 0\r\n\r\n");
    let acme = format!(
        "{}acme: {{ directory: \"https://authority.internal:{}/dir\", ca: {2}/authority.pem, storage: {2}, \
         accept_terms: true }}\n",
        dns.section(),
        server.address.port(),
        storage.0.display()
    );
    let balancer = Balancer::start(&text(&app, &acme, "shop.example"));
    let line = balancer.log.wait_for("certificate not ordered");
    assert!(line.contains("without a body, which is not ACME"), "{line}");
    assert!(dns.queries() >= 2, "A and AAAA");
}
