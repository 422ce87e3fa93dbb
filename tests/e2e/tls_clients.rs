//! Certificates that clients show: who is let in, what servers and the log are told, and that nobody can say so of
//! themselves.

use crate::support::app::{App, say};
use crate::support::balancer::{Balancer, Reloaded, evenkeel, plain};
use crate::support::client::{Client, Response};
use crate::support::h2;
use crate::support::tls::{Authority, Certificate, Shop, Speaker, TlsStream};
use data_encoding::{BASE64, HEXLOWER};
use std::io::Write;
use tokio_rustls::rustls::HandshakeKind;

/// A listener with `client_ca`, as written, and one that is plain.
struct Scene {
    app: App,
    files: Shop,
    balancer: Balancer,
    text: String,
}

fn scene(authorities: &[&Authority], client_ca: &str) -> Scene {
    let app = App::new(|request, stream| say(stream, &request.target.clone()));
    let files = Shop::new(&[("shop", &Certificate::named(&["shop.example"]))]);
    write_authorities(&files, authorities);
    let client_ca = client_ca.replace("FILE", &files.path("clients.pem").display().to_string());
    let tls = files.tls(&["shop"], &format!("client_ca: {client_ca}"));
    let text = plain(&[app.address], &tls, "").replace(
        "pools:\n",
        "  plain: { address: 127.0.0.1:0, pool: app, trusted_proxies: [127.0.0.0/8] }\npools:\n",
    );
    let balancer = Balancer::start(&text);
    Scene { app, files, balancer, text }
}

fn write_authorities(files: &Shop, authorities: &[&Authority]) {
    let pem: String = authorities.iter().map(|authority| authority.pem()).collect();
    std::fs::write(files.path("clients.pem"), pem).expect("writable");
}

impl Scene {
    /// An answer to one request, if the client is let in.
    fn ask(&self, speaker: &Speaker, path: &str) -> Option<(Response, HandshakeKind)> {
        let stream = speaker.connect(self.balancer.address("web"), "shop.example").ok()?;
        let mut client = Client::over_tls(stream);
        let response = client.try_get(path)?;
        Some((response, client.tls().conn.handshake_kind().expect("hands were shaken")))
    }

    #[track_caller]
    fn is_refused(&self, speaker: &Speaker, detail: &str) {
        let count =
            || self.balancer.metric("evenkeel_tls_handshakes_total", &[("result", "client_certificate")]);
        let before = count();
        assert!(self.ask(speaker, "/refused").is_none(), "{detail}");
        self.balancer.record_where(detail, |record| {
            record["why"] == "client_certificate" && record["detail"] == detail && record["status"] == 0
        });
        crate::support::wait_until("it is counted", || count() > before);
        assert!(self.app.requests().iter().all(|request| request.target != "/refused"));
    }
}

fn both() -> [Speaker; 2] {
    [Speaker::tls12(), Speaker::tls13()]
}

#[test]
fn servers_and_the_log_are_told_who_the_client_is() {
    let root = Authority::root("root");
    let alice = root.client("alice", (2000, 2100));
    let scene = scene(&[&Authority::root("other"), &root], "FILE");
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, alice.der());
    for speaker in both() {
        let (response, _) = scene.ask(&speaker.showing(&alice), "/a").expect("let in");
        assert_eq!(response.text(), "/a");
        let request = scene.app.last();
        assert_eq!(request.field("client-cert"), format!(":{}:", BASE64.encode(alice.der())));
        assert_eq!(request.field("x-client-cert-subject"), "CN=alice,O=Shop");
        assert_eq!(request.field("x-client-cert-fingerprint"), HEXLOWER.encode(fingerprint.as_ref()));
    }
    assert_eq!(scene.balancer.record("/a")["client_cert"], "CN=alice,O=Shop");
    // Over HTTP/2 as well, in each request.
    let speaker = Speaker::new().showing(&alice).offering(&["h2"]);
    let stream = speaker.connect(scene.balancer.address("web"), "shop.example").expect("let in");
    let mut connection = h2::Connection::over(stream);
    for stream in [1, 3] {
        let path = format!("/{stream}");
        let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", &path)];
        connection.fields(
            stream,
            &[&fields[..], &[("client-cert", "mine"), ("client_cert", "mine")]].concat(),
            true,
        );
        assert_eq!(connection.response(stream).0, 200);
        let request = scene.app.last();
        assert_eq!(request.field("client-cert"), format!(":{}:", BASE64.encode(alice.der())));
        assert_eq!(request.field("x-client-cert-subject"), "CN=alice,O=Shop");
        assert!(!request.has("client_cert"));
        assert_eq!(scene.balancer.record(&path)["client_cert"], "CN=alice,O=Shop");
    }
}

#[test]
fn an_identity_is_kept_over_resumed_sessions() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "FILE");
    for speaker in both() {
        let speaker = speaker.showing(&root.client("alice", (2000, 2100)));
        let (_, kind) = scene.ask(&speaker, "/full").expect("let in");
        assert_eq!(kind, HandshakeKind::Full);
        for _ in 0..3 {
            let (_, kind) = scene.ask(&speaker, "/resumed").expect("let in");
            assert_eq!(kind, HandshakeKind::Resumed);
            assert_eq!(scene.app.last().field("x-client-cert-subject"), "CN=alice,O=Shop");
        }
    }
    assert_eq!(scene.balancer.record("/resumed")["client_cert"], "CN=alice,O=Shop");
}

#[test]
fn who_shows_no_good_certificate_is_refused() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let scene = scene(&[&root], "{ file: FILE }");
    for speaker in both() {
        scene.is_refused(&speaker, "no certificate");
        scene.is_refused(
            &speaker.showing(&other.client("eve", (2000, 2100))),
            "certificate of an unknown authority",
        );
        scene.is_refused(&speaker.showing(&root.client("old", (2000, 2001))), "certificate expired");
        scene.is_refused(&speaker.showing(&root.client("new", (2099, 2100))), "certificate not valid yet");
        let server = root.sign(&{
            let mut parameters = rcgen::CertificateParams::default();
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            parameters
        });
        scene.is_refused(&speaker.showing(&server), "certificate not for clients");
    }
    assert_eq!(scene.app.hits(), 0);
    scene.balancer.wait_for_failures("client_certificate", 10.0);
    assert_eq!(scene.balancer.metric("evenkeel_tls_handshakes_total", &[("result", "failed")]), 0.0);
}

/// Closing at once would reset the connection, and the client would not learn why.
#[test]
fn a_client_that_is_refused_is_told_so_though_it_has_sent_a_request() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "FILE");
    let mut stream: TlsStream = Speaker::tls13()
        .connect(scene.balancer.address("web"), "shop.example")
        .expect("its own part is done");
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let error = std::io::read_to_string(&mut stream).expect_err("refused").to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}

#[test]
fn certificates_may_lead_to_an_authority_by_others() {
    let root = Authority::root("root");
    let deep = root.below("office").below("desk").client("bob", (2000, 2100));
    let scene = scene(&[&root], "FILE");
    for speaker in both() {
        scene.ask(&speaker.showing(&deep), "/").expect("let in");
        assert_eq!(scene.app.last().field("x-client-cert-subject"), "CN=bob,O=Shop");
        assert!(!scene.app.last().has("client-cert-chain"));
    }
}

#[test]
fn who_need_not_show_a_certificate_may_show_a_good_one_only() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "{ file: FILE, required: false }");
    for speaker in both() {
        scene.ask(&speaker, "/nobody").expect("let in");
        assert!(!scene.app.last().has("client-cert") && !scene.app.last().has("x-client-cert-subject"));
        scene.ask(&speaker.showing(&root.client("alice", (2000, 2100))), "/alice").expect("let in");
        assert_eq!(scene.app.last().field("x-client-cert-subject"), "CN=alice,O=Shop");
        let stranger = Authority::root("other").client("eve", (2000, 2100));
        scene.is_refused(&speaker.showing(&stranger), "certificate of an unknown authority");
    }
    assert!(scene.balancer.record("/nobody")["client_cert"].is_null());
}

#[test]
fn nobody_can_say_so_of_themselves() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "{ file: FILE, required: false }");
    let names = [
        "Client-Cert",
        "CLIENT_CERT",
        "Client-Cert-Chain",
        "Client_Cert-Chain",
        "X-Client-Cert-Subject",
        "x_client_cert_subject",
        "X-Client-Cert-Fingerprint",
    ];
    let forged: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let is_clean = |scene: &Scene| {
        let request = scene.app.last();
        assert!(request.has("x-kept"));
        for (name, value) in &request.fields {
            assert_ne!(value, "forged", "{name}");
        }
    };
    for version in ["1.1", "1.0"] {
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\n{forged}X-Kept: 1\r\n\r\n");
        let stream = Speaker::new().connect(scene.balancer.address("web"), "shop.example").expect("let in");
        let mut client = Client::over_tls(stream);
        client.send(&request);
        assert_eq!(client.response().status, 200);
        is_clean(&scene);
        // The server cannot tell by which listener a request came; nor is a trusted proxy believed.
        let mut client = Client::connect(scene.balancer.address("plain"));
        client.send(&request);
        assert_eq!(client.response().status, 200);
        is_clean(&scene);
    }
    let mut connection = h2::Connection::new(scene.balancer.address("plain"));
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let lower = names.map(str::to_ascii_lowercase);
    fields.extend(lower.iter().map(|name| (name.as_str(), "forged")));
    fields.push(("x-kept", "1"));
    connection.fields(1, &fields, true);
    assert_eq!(connection.response(1).0, 200);
    is_clean(&scene);
}

#[test]
fn a_reload_that_changes_the_authorities_ends_sessions() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let scene = scene(&[&root], "FILE");
    let alice = root.client("alice", (2000, 2100));
    for speaker in both() {
        write_authorities(&scene.files, &[&root]);
        assert_eq!(scene.balancer.reload(&scene.text), Reloaded::Taken);
        let speaker = speaker.showing(&alice);
        scene.ask(&speaker, "/first").expect("let in");
        assert_eq!(scene.balancer.reload(&scene.text), Reloaded::Taken);
        let (_, kind) = scene.ask(&speaker, "/same").expect("let in");
        assert_eq!(kind, HandshakeKind::Resumed, "the same authorities: nothing is lost");
        let stream = speaker.connect(scene.balancer.address("web"), "shop.example").expect("let in");
        let mut open = Client::over_tls(stream);
        assert_eq!(open.get("/open").status, 200);
        write_authorities(&scene.files, &[&other]);
        assert_eq!(scene.balancer.reload(&scene.text), Reloaded::Taken);
        scene.is_refused(&speaker, "certificate of an unknown authority");
        assert_eq!(open.get("/open").status, 200, "open connections go on");
    }
    // Nor does a session of a time when no certificate was needed let anybody in.
    let optional = scene
        .text
        .replace("client_ca: ", "client_ca: { required: false, file: ")
        .replace("clients.pem", "clients.pem }");
    for speaker in both() {
        assert_eq!(scene.balancer.reload(&optional), Reloaded::Taken);
        scene.ask(&speaker, "/nobody").expect("let in");
        assert_eq!(scene.balancer.reload(&scene.text), Reloaded::Taken);
        scene.is_refused(&speaker, "no certificate");
    }
}

/// Nobody verifies a session's certificate again when it is resumed, and each brings the ticket for the next.
#[test]
fn a_session_ends_with_its_certificate() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "FILE");
    let now = time::OffsetDateTime::now_utc();
    let end = now + time::Duration::seconds(5);
    let mut parameters = rcgen::CertificateParams::default();
    parameters.not_before = now - time::Duration::days(1);
    parameters.not_after = end;
    let brief = root.sign(&parameters);
    let speakers = both().map(|speaker| speaker.showing(&brief));
    for speaker in &speakers {
        scene.ask(speaker, "/in-time").expect("let in");
    }
    crate::support::wait_until("it is over", || {
        time::OffsetDateTime::now_utc() > end + time::Duration::seconds(1)
    });
    // The first one's refusal has all shake hands anew, so that it can show its next certificate; that of the second,
    // whose session went with the others, does not.
    let bob = Speaker::new().showing(&root.client("bob", (2000, 2100)));
    for speaker in &speakers {
        let kinds = || scene.ask(&bob, "/bob").expect("let in").1;
        assert_eq!((kinds(), kinds()), (HandshakeKind::Full, HandshakeKind::Resumed));
        scene.is_refused(speaker, "certificate expired");
    }
    assert_eq!(scene.ask(&bob, "/bob").expect("let in").1, HandshakeKind::Resumed);
}

#[test]
fn a_file_of_authorities_that_is_bad_refuses_a_reload() {
    let root = Authority::root("root");
    let scene = scene(&[&root], "FILE");
    let alice = Speaker::new().showing(&root.client("alice", (2000, 2100)));
    let file = scene.files.path("clients.pem");
    for (contents, said) in [
        (Some(String::new()), "clients.pem holds no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\nAA".to_owned()), "clients.pem is not good PEM"),
        (
            Some(format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", root.pem())),
            "no authority: certificate 2 in it cannot be read",
        ),
        (None, "clients.pem is not there"),
    ] {
        match contents {
            Some(contents) => std::fs::write(&file, contents).expect("writable"),
            None => std::fs::remove_file(&file).expect("removable"),
        }
        assert_eq!(scene.balancer.reload(&scene.text), Reloaded::Refused, "{said}");
        let line = scene.balancer.log.wait_for(said);
        assert!(
            line.contains("evenkeel.yaml:3:") && line.contains("listeners.web.tls.client_ca: "),
            "{line}"
        );
        scene.ask(&alice, "/still").expect("let in");
        scene.is_refused(&Speaker::new(), "no certificate");
    }
}

#[test]
fn check_finds_what_is_wrong_with_authorities() {
    let (root, files) =
        (Authority::root("root"), Shop::new(&[("shop", &Certificate::named(&["a.example"]))]));
    let said = |pem: Option<String>, client_ca: &str| {
        let path = files.path("clients.pem");
        match pem {
            Some(pem) => std::fs::write(&path, pem).expect("writable"),
            None => drop(std::fs::remove_file(&path)),
        }
        let client_ca = client_ca.replace("FILE", &path.display().to_string());
        let tls = files.tls(&["shop"], &format!("client_ca: {client_ca}"));
        let file = files.path("evenkeel.yaml");
        std::fs::write(&file, plain(&[([127, 0, 0, 1], 1).into()], &tls, "")).expect("writable");
        let output = evenkeel().arg("check").arg(&file).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (good, text) = said(Some(root.pem()), "FILE");
    assert!(good && text.lines().count() == 1, "{text}");
    let leaf = root.client("alice", (2000, 2001)).pem();
    let (good, text) = said(Some(root.pem() + &leaf), "FILE");
    assert!(good && text.contains("certificate 2 in it may sign no others"), "{text}");
    assert!(text.contains("holds an authority that has expired: certificate 2"), "{text}");
    let (good, text) = said(None, "{ file: FILE }");
    assert!(good && text.contains("clients.pem is not there") && text.contains("1 warning"), "{text}");
    let (good, text) = said(Some(String::new()), "{ file: FILE }");
    assert!(!good && text.contains("client_ca: ") && text.contains("holds no certificate"), "{text}");
    for (client_ca, problem) in [
        ("{ required: false }", "`file` is missing"),
        ("\"\"", "is empty"),
        ("{ file: FILE, required: maybe }", "is not true or false"),
        ("[FILE]", "is a list"),
    ] {
        let (good, text) = said(Some(root.pem()), client_ca);
        assert!(!good && text.contains(problem), "{text}");
    }
}
