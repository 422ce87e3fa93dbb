//! TLS that ends here: which certificate a client is shown, what servers and logs are told, and that a reload swaps
//! certificates under open connections.

use crate::support::app::{App, Then, say, send};
use crate::support::balancer::{Balancer, Reloaded, evenkeel, plain};
use crate::support::client::Client;
use crate::support::h2;
use crate::support::tls::{Certificate, Shop, Speaker, TlsStream};
use crate::support::{DEADLINE, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion, SignatureScheme};

/// One certificate for shop.example, one server, and these settings of the listener.
fn shop(app: &App, listener: &str, tls: &str) -> (Shop, Balancer) {
    let files = Shop::new(&[("shop", &Certificate::named(&["shop.example"]))]);
    let text = plain(&[app.address], &format!("{}, {listener}", files.tls(&["shop"], tls)), "");
    let balancer = Balancer::start(&text);
    (files, balancer)
}

#[track_caller]
fn connect(balancer: &Balancer, speaker: &Speaker, name: &str) -> TlsStream {
    speaker.connect(balancer.address("web"), name).expect("the handshake succeeds")
}

#[track_caller]
fn client(balancer: &Balancer) -> Client<TlsStream> {
    Client::over_tls(connect(balancer, &Speaker::new(), "shop.example"))
}

#[test]
fn a_server_and_the_log_are_told_of_https() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "", "");
    let mut client = client(&balancer);
    assert_eq!(client.get("/a").text(), "hello");
    assert_eq!(app.last().field("x-forwarded-proto"), "https");
    assert_eq!(app.last().field("forwarded"), "for=127.0.0.1;host=test;proto=https");
    assert_eq!(balancer.record("/a")["tls"], "TLSv1.3");
    let old = connect(&balancer, &Speaker::tls12(), "shop.example");
    assert_eq!(Client::over_tls(old).get("/b").text(), "hello");
    assert_eq!(balancer.record("/b")["tls"], "TLSv1.2");
    assert_eq!(balancer.record("/b")["protocol"], "HTTP/1.1");
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "full")]), 2.0);
    let expiry =
        balancer.metric("evenkeel_tls_listener_certificate_expiry_timestamp_seconds", &[("listener", "web")]);
    assert_eq!(expiry, 4_102_444_800.0, "the first of January 2100");
}

#[test]
fn a_connection_serves_many_requests_and_pipelined_ones_in_turn() {
    let app = App::new(|request, stream| say(stream, &request.target.clone()));
    let (_shop, balancer) = shop(&app, "", "");
    let mut client = client(&balancer);
    for _ in 0..3 {
        assert_eq!(client.get("/again").text(), "/again");
    }
    let one = |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send((0..50).map(one).collect::<String>());
    for n in 0..50 {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
    // An HTTP/1.0 request goes another way.
    client.send("GET /old HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().text(), "/old");
    assert_eq!(client.tls().conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn a_client_that_offers_h2_gets_it() {
    let app = App::new(|request, stream| say(stream, &request.target.clone()));
    let (_shop, balancer) = shop(&app, "", "");
    let both = Speaker::new().offering(&["h2", "http/1.1"]);
    let stream = connect(&balancer, &both, "shop.example");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let mut connection = h2::Connection::over(stream);
    for stream in [1, 3, 5] {
        connection.request(stream, "GET", &format!("/{stream}"), true);
        assert_eq!(connection.response(stream), (200, format!("/{stream}").into_bytes()));
    }
    assert_eq!(app.last().field("x-forwarded-proto"), "https");
    let record = balancer.record("/3");
    assert_eq!((&record["protocol"], &record["tls"]), (&"HTTP/2.0".into(), &"TLSv1.3".into()));
    let old = connect(&balancer, &Speaker::new().offering(&["http/1.1"]), "shop.example");
    assert_eq!(old.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(Client::over_tls(old).get("/old").text(), "/old");
}

#[test]
fn a_connection_that_breaks_http2_ends_as_tls_should() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "timeouts: { request_header: 500ms }", "");
    let preface = h2::PREFACE;
    for (what, bytes) in [
        ("broken", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("broken late", [&preface[..20], b"XXXX"].concat()),
        ("half", preface[..18].to_vec()),
        ("nonsense", b"\0\0\0\0\0\0\0\0\0".to_vec()),
        ("no SETTINGS", [preface, &h2::frame(h2::PING, 0, 0, &[0; 8])].concat()),
        ("a frame that is too large", [preface, &[0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0]].concat()),
        ("a preface alone", preface.to_vec()),
        ("another method", b"PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a request of HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
        ("broken and more", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &vec![b'x'; 100_000][..]].concat()),
        ("no HTTP at all", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let speaker = Speaker::new().offering(&["h2"]);
        let mut client = Client::over_tls(connect(&balancer, &speaker, "shop.example"));
        client.send(bytes);
        let (answer, is_whole) = client.read_to_end();
        assert!(is_whole, "{what}: no close_notify");
        assert!(!answer.starts_with("HTTP/1.1"), "{what}: it has agreed on HTTP/2, and is told in HTTP/1.1");
    }
    // None was told a status.
    for record in balancer.records() {
        assert!(record["status"] == 0 || record["why"] == "client_aborted", "{record}");
    }
}

#[test]
fn bodies_of_many_mebibytes_pass_both_ways() {
    const SIZE: usize = 12 << 20;
    let bytes = |n: usize| (0..n).map(|at| (at / 7 % 251) as u8).collect::<Vec<_>>();
    let app = App::new(move |request, stream| {
        assert!(request.body == bytes(request.body.len()), "what the server got");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&request.body);
        Then::Keep
    });
    let (_shop, balancer) = shop(&app, "", "");
    let mut client = client(&balancer);
    for close in ["keep-alive", "close"] {
        client.send(format!(
            "POST /{close} HTTP/1.1\r\nHost: test\r\nConnection: {close}\r\nContent-Length: {SIZE}\r\n\r\n"
        ));
        client.send(bytes(SIZE));
        let response = client.response();
        assert!(response.complete && response.body == bytes(SIZE), "what the client got");
    }
    // The end is told, so that nothing can be cut off unnoticed.
    assert!(client.is_closed());
    assert!(!client.tls().conn.wants_read(), "a close_notify has come");
}

/// What TLS was given and the socket does not take yet is lost easily at a connection's end. A unix socket takes always
/// the same, so bodies of some of these sizes end within what TLS holds.
#[test]
fn a_late_reader_gets_the_end_of_what_it_was_sent() {
    let app = App::new(|request, stream| {
        let (kind, size) = request.target[1..].split_once('/').expect("two parts");
        let body = "x".repeat(size.parse().expect("a size"));
        if kind == "close" {
            return say(stream, &body);
        }
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        send(stream, &body);
        Then::Close
    });
    let certificate = Certificate::named(&["shop.example"]);
    let shop = Shop::new(&[("shop", &certificate)]);
    let socket = shop.path("web.sock");
    let text = plain(&[app.address], &shop.tls(&["shop"], ""), "");
    let balancer = Balancer::start(&text.replace("127.0.0.1:0", &format!("unix:{}", socket.display())));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    for (kind, fields) in [("close", "Connection: close\r\n"), ("tunnel", upgrade)] {
        let mut held = 0;
        for size in (64..512).step_by(16).map(|kib| kib << 10) {
            let path = format!("/{kind}/{size}");
            let stream = UnixStream::connect(&socket).expect("accepted");
            let mut client = Speaker::new().over(stream, "shop.example").expect("the handshake succeeds");
            let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
            client.write_all(request.as_bytes()).expect("taken");
            // Nothing is read before the balancer is done with it, or cannot be.
            let since = Instant::now();
            let is_over = || balancer.records().iter().any(|record| record["path"] == path.as_str());
            while since.elapsed().as_millis() < 150 && !is_over() {
                std::thread::yield_now();
            }
            held += usize::from(is_over());
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).expect("the end is told");
            let head = bytes.windows(4).position(|part| part == b"\r\n\r\n").expect("a head") + 4;
            assert_eq!(bytes.len() - head, size, "{path}");
            if !is_over() {
                break;
            }
        }
        assert!(held > 4, "{held} bodies of this kind were taken at once");
    }
}

#[test]
fn a_websocket_passes_bytes_both_ways() {
    let app = App::new(|request, stream| {
        if request.field("upgrade") != "websocket" {
            return say(stream, "plain");
        }
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        Then::Close
    });
    let (_shop, balancer) = shop(&app, "", "");
    let mut client = client(&balancer);
    client.send(
        "GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response_to_head().status, 101);
    // Large enough for the kernel to be asked to move it, which it cannot.
    for size in [1, 5, 70_000, 3, 200_000] {
        let message: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        client.send(&message);
        assert!(client.bytes(message.len()) == message, "{size} bytes");
    }
    drop(client);
    assert_eq!(balancer.record("/socket")["bytes_out"], 270_009);
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let [first, exact, below, nameless] = [
        Certificate::named(&["first.example", "Other.example"]),
        Certificate::named(&["pay.shop.example"]),
        Certificate::named(&["*.shop.example"]),
        Certificate::named(&[]),
    ];
    let shop = Shop::new(&[("first", &first), ("exact", &exact), ("below", &below), ("nameless", &nameless)]);
    let app = App::saying("hello");
    let tls = shop.tls(&["first", "exact", "below", "nameless"], "");
    let balancer = Balancer::start(&plain(&[app.address], &tls, ""));
    for (name, shown) in [
        ("first.example", &first),
        ("other.example", &first),
        ("pay.shop.example", &exact),
        ("PAY.Shop.example", &exact),
        ("www.shop.example", &below),
        ("shop.example", &first),
        ("a.b.shop.example", &first),
        ("nowhere.example", &first),
        ("127.0.0.1", &first),
    ] {
        for speaker in [Speaker::tls12(), Speaker::tls13()] {
            assert!(shown.is_shown_by(&connect(&balancer, &speaker, name)), "{name}");
        }
    }
    balancer.log.wait_for("nameless.pem is for no host name");
}

#[test]
fn a_client_is_shown_a_certificate_that_it_can_check() {
    let [curve, edwards] = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519]
        .map(|kind| Certificate::of(&["shop.example"], kind, (2000, 2100)));
    let shop = Shop::new(&[("curve", &curve), ("edwards", &edwards)]);
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], &shop.tls(&["curve", "edwards"], ""), ""));
    // Without a name there is a choice as well.
    for name in ["shop.example", "127.0.0.1"] {
        for (schemes, shown) in [
            (vec![SignatureScheme::ECDSA_NISTP256_SHA256], &curve),
            (vec![SignatureScheme::ED25519], &edwards),
            (vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256], &curve),
        ] {
            let speaker = Speaker::checking(schemes);
            assert!(shown.is_shown_by(&connect(&balancer, &speaker, name)), "{name}");
        }
    }
    let speaker = Speaker::checking(vec![SignatureScheme::RSA_PSS_SHA256]);
    assert!(speaker.connect(balancer.address("web"), "shop.example").is_err());
    let record = balancer.record_where("of the failed handshake", |record| record["why"] == "tls_handshake");
    assert_eq!(record["detail"], "no signature algorithm in common");
}

#[test]
fn a_reload_swaps_certificates_and_open_connections_go_on() {
    let [old, new] = [(); 2].map(|()| Certificate::named(&["shop.example"]));
    let shop = Shop::new(&[("shop", &old)]);
    let app = App::saying("hello");
    let text = plain(&[app.address], &shop.tls(&["shop"], ""), "");
    let balancer = Balancer::start(&text);
    let mut open = client(&balancer);
    assert!(old.is_shown_by(open.tls()));
    assert_eq!(open.get("/before").text(), "hello");
    new.write(&shop.files.0, "shop");
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    let fresh = client(&balancer);
    assert!(new.is_shown_by(fresh.tls()), "the file is read again though the configuration has not changed");
    assert_eq!(open.get("/after").text(), "hello");
    let mut beside = client(&balancer);
    // From TLS to plain text and back, on the same address.
    let plain_text = plain(&[app.address], "", "");
    assert_eq!(balancer.reload(&plain_text), Reloaded::Taken);
    assert_eq!(balancer.get("/plain").text(), "hello");
    assert_eq!(beside.get("/beside").text(), "hello");
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(client(&balancer).get("/again").text(), "hello");
}

#[test]
fn a_bad_file_refuses_a_reload_and_everything_stays() {
    let certificate = Certificate::named(&["shop.example"]);
    let stranger = Certificate::named(&["shop.example"]);
    let shop = Shop::new(&[("shop", &certificate)]);
    let app = App::saying("hello");
    let text = plain(&[app.address], &shop.tls(&["shop"], ""), "");
    let balancer = Balancer::start(&text);
    let mut open = client(&balancer);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (file, contents, said) in [
        ("shop.key", stranger.key_pem(), "is not the key of the first certificate in"),
        ("shop.key", encrypted.to_owned(), "is encrypted"),
        ("shop.key", older.to_owned(), "is encrypted"),
        ("shop.key", certificate.pem(), "holds no private key"),
        (
            "shop.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
            "a kind that is not supported",
        ),
        ("shop.pem", certificate.key_pem(), "holds no certificate"),
        ("shop.pem", String::new(), "holds no certificate"),
        (
            "shop.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "no X.509 certificate",
        ),
        ("shop.pem", "-----BEGIN CERTIFICATE-----\nAA".to_owned(), "is not good PEM"),
    ] {
        let path = shop.path(file);
        let before = std::fs::read(&path).expect("readable");
        std::fs::write(&path, contents).expect("writable");
        assert_eq!(balancer.reload(&text), Reloaded::Refused, "{said}");
        let key = if file == "shop.key" { "key" } else { "cert" };
        let line = balancer.log.wait_for(said);
        assert!(line.contains("evenkeel.yaml:3:"), "{line}");
        assert!(
            line.contains(&format!("listeners.web.tls.certificates[0].{key}: {}", path.display())),
            "{line}"
        );
        std::fs::write(&path, before).expect("writable");
        assert!(certificate.is_shown_by(client(&balancer).tls()), "{said}");
    }
    std::fs::remove_file(shop.path("shop.key")).expect("removable");
    assert_eq!(balancer.reload(&text), Reloaded::Refused);
    balancer.log.wait_for("shop.key is not there");
    assert_eq!(open.get("/still").text(), "hello");
}

#[test]
fn check_finds_what_is_wrong_with_files() {
    let fine = Certificate::named(&["a.example"]);
    let [over, early] = [(2000, 2001), (2099, 2100)]
        .map(|years| Certificate::of(&["b.example"], &rcgen::PKCS_ECDSA_P256_SHA256, years));
    let shop = Shop::new(&[("fine", &fine), ("over", &over), ("early", &early)]);
    let said_with = |names: &[&str], more: &str| {
        let text = plain(&[([127, 0, 0, 1], 1).into()], &shop.tls(names, more), "");
        let file = shop.path("evenkeel.yaml");
        std::fs::write(&file, text).expect("writable");
        let output = evenkeel().arg("check").arg(&file).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = |names: &[&str]| said_with(names, "");
    let (good, text) = said(&["fine"]);
    assert!(good && text.lines().count() == 1, "{text}");
    for (hsts, is_good, part) in [
        ("{ preload: true }", true, "browsers' lists take no such site"),
        (
            "{ preload: true, include_subdomains: true, max_age: 364d }",
            true,
            "browsers' lists take no such site",
        ),
        ("{ preload: true, include_subdomains: true }", true, "ok: "),
        ("3651d", false, "use 0s to 3650d"),
        ("true", false, "is not a duration"),
        ("{ max_age: 4000d }", false, "use 0s to 3650d"),
    ] {
        let (good, text) = said_with(&["fine"], &format!("hsts: {hsts}"));
        assert!(good == is_good && text.contains(part), "{text}");
        assert_eq!(text.contains("warning"), is_good && part != "ok: ", "{text}");
    }
    let (good, text) = said(&["fine", "over", "early"]);
    assert!(
        good && text.contains("over.pem has expired") && text.contains("early.pem is not valid yet"),
        "{text}"
    );
    assert!(text.starts_with("warning: ") && text.contains("2 warnings"), "{text}");
    // Where a configuration is checked there are often no keys.
    std::fs::remove_file(shop.path("fine.key")).expect("removable");
    let (good, text) = said(&["fine"]);
    assert!(good && text.contains("fine.key is not there") && text.contains("1 warning"), "{text}");
    std::fs::write(shop.path("fine.key"), over.key_pem()).expect("writable");
    let (good, text) = said(&["fine"]);
    assert!(!good && text.contains("error: ") && text.contains("is not the key of the first"), "{text}");
}

#[test]
fn the_least_version_is_kept_to() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "", "min_version: \"1.3\"");
    assert!(Speaker::tls12().connect(balancer.address("web"), "shop.example").is_err());
    let record = balancer.record_where("of the failed handshake", |record| record["why"] == "tls_handshake");
    assert_eq!((&record["detail"], &record["status"]), (&"no version in common".into(), &0.into()));
    balancer.wait_for_failures("tls_handshake", 1.0);
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "failed")]), 1.0);
    assert_eq!(client(&balancer).get("/").text(), "hello");
}

#[test]
fn sessions_are_resumed_on_any_core_and_after_a_reload() {
    let app = App::saying("hello");
    let certificate = Certificate::named(&["shop.example"]);
    let shop = Shop::new(&[("shop", &certificate)]);
    let text = format!("process: {{ threads: 4 }}\n{}", plain(&[app.address], &shop.tls(&["shop"], ""), ""));
    let balancer = Balancer::start(&text);
    for speaker in [Speaker::tls12(), Speaker::tls13()] {
        let kind = || {
            let mut client = Client::over_tls(connect(&balancer, &speaker, "shop.example"));
            // With TLS 1.3 tickets come with the first answer.
            assert_eq!(client.get("/").text(), "hello");
            client.tls().conn.handshake_kind()
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        for _ in 0..8 {
            assert_eq!(kind(), Some(HandshakeKind::Resumed));
        }
        assert_eq!(balancer.reload(&text), Reloaded::Taken);
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
    }
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "full")]), 2.0);
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "resumed")]), 18.0);
}

#[test]
fn what_is_not_tls_is_closed_at_once_with_a_reason() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "", "");
    for (count, (sent, detail)) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "not TLS"),
        (b"\x16GET / HTTP/1.1\r\n\r\n", "malformed message"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "malformed message"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = TcpStream::connect(balancer.address("web")).expect("accepted");
        stream.set_read_timeout(Some(DEADLINE)).expect("an option");
        stream.write_all(sent).expect("taken");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        balancer.wait_for_metric(
            "evenkeel_tls_handshakes_total",
            &[("result", "failed")],
            (count + 1) as f64,
        );
        wait_until("its record", || balancer.records().len() == count + 1);
        let record = balancer.records().pop().expect("a record");
        assert_eq!(
            (&record["why"], &record["detail"]),
            (&"tls_handshake".into(), &detail.into()),
            "{sent:?}"
        );
    }
    assert_eq!(app.hits(), 0);
    // Somebody who only looks whether the port is open is no failure.
    drop(TcpStream::connect(balancer.address("web")).expect("accepted"));
    assert_eq!(client(&balancer).get("/").text(), "hello");
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "failed")]), 3.0);
}

#[test]
fn a_handshake_that_does_not_end_in_time_is_closed() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "timeouts: { tls_handshake: 300ms }", "");
    for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"] {
        // The time runs from the accept, which may be long over when `connect` returns on a busy machine.
        let since = Instant::now();
        let mut stream = TcpStream::connect(balancer.address("web")).expect("accepted");
        stream.set_read_timeout(Some(DEADLINE)).expect("an option");
        stream.write_all(sent).expect("taken");
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
        assert!(since.elapsed().as_millis() >= 250, "{:?}", since.elapsed());
    }
    wait_until("three records", || balancer.records().len() == 3);
    for record in balancer.records() {
        assert_eq!((&record["why"], &record["status"]), (&"handshake_timeout".into(), &0.into()));
    }
    // One that was in time has no deadline any more.
    let mut client = client(&balancer);
    assert_eq!(client.get("/a").text(), "hello");
    let since = Instant::now();
    wait_until("the deadline would have passed", || since.elapsed().as_millis() > 400);
    assert_eq!(client.get("/b").text(), "hello");
}

#[test]
fn a_hello_in_pieces_and_behind_a_proxy_header_is_read() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "proxy_protocol: { from: [127.0.0.0/8] }", "");
    let relay = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = balancer.address("web");
    let at = relay.local_addr().expect("bound");
    let passing = std::thread::spawn(move || {
        for whole in [true, false] {
            let (mut client, _) = relay.accept().expect("a client");
            let mut server = TcpStream::connect(to).expect("accepted");
            server.set_nodelay(true).expect("an option");
            let mut first = [0; 4096];
            let n = client.read(&mut first).expect("a hello");
            let bytes = [&b"PROXY TCP4 192.0.2.7 192.0.2.8 1 443\r\n"[..], &first[..n]].concat();
            match whole {
                true => server.write_all(&bytes).expect("taken"),
                false => bytes.chunks(11).for_each(|piece| server.write_all(piece).expect("taken")),
            }
            let (mut up, mut down) =
                (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
            let upward = std::thread::spawn(move || {
                let _ = std::io::copy(&mut up, &mut server);
                let _ = server.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut down, &mut client);
            let _ = client.shutdown(Shutdown::Both);
            upward.join().expect("it ends");
        }
    });
    for path in ["/whole", "/pieces"] {
        let stream = Speaker::new().connect(at, "shop.example").expect("the handshake succeeds");
        let mut client = Client::over_tls(stream);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().text(), "hello");
        assert_eq!(balancer.record(path)["client"], "192.0.2.7");
    }
    passing.join().expect("it ends");
}

#[test]
fn plain_requests_are_sent_to_the_same_place_over_tls() {
    let app = App::saying("hello");
    let text = format!(
        "{}  spare: {{ servers: [{}] }}\n",
        plain(&[app.address], "", "").replace(
            "pools:\n",
            "  http: { address: 127.0.0.1:0, redirect_to_https: true }\n  other: { address: 127.0.0.1:0, pool: spare }\npools:\n"
        ),
        app.address
    );
    let balancer = Balancer::start(&text);
    let at = balancer.address("http");
    let mut client = Client::connect(at);
    for (host, target, location) in [
        ("shop.example", "/a?b=c%20d", "https://shop.example/a?b=c%20d"),
        ("Shop.example:8080", "/", "https://Shop.example/"),
        ("[::1]:80", "/", "https://[::1]/"),
        ("shop.example:80", "http://shop.example:80/absolute", "https://shop.example/absolute"),
    ] {
        for method in ["GET", "POST"] {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"));
            let response = client.response();
            assert_eq!((response.status, response.field("location").as_str()), (308, location), "{method}");
        }
    }
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("location"), "https://a/head");
    let mut connection = h2::Connection::new(at);
    connection.request(1, "GET", "/h2", true);
    assert_eq!(connection.response(1), (308, b"308 Permanent Redirect\n".to_vec()));
    assert_eq!(balancer.outcome("/h2"), (308, "redirect".to_owned()));
    assert_eq!(balancer.failures("redirect"), 0.0, "it is what was asked for");
    assert_eq!(app.hits(), 0);
    // Nothing is lost by a reload that makes another kind of listener of it.
    assert_eq!(balancer.reload(&text.replace("redirect_to_https: true", "pool: app")), Reloaded::Taken);
    assert_eq!(client.get("/now").text(), "hello");
}

/// Whoever types `http://` and the port is told what to do instead of looking at an empty page.
#[test]
fn plain_http_on_a_tls_port_is_answered_in_words() {
    let app = App::saying("hello");
    let (_shop, balancer) = shop(&app, "", "hsts: 365d");
    let long = "x".repeat(100_000);
    for (count, request) in [
        "GET /plain?a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("POST /plain?b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{long}"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(balancer.address("web"));
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, 400);
        assert!(response.text().contains("This port speaks TLS"), "{}", response.text());
        // A browser heeds it over TLS only (RFC 6797 section 7.2).
        assert_eq!(response.field("strict-transport-security"), "");
        assert!(client.is_closed());
        drop(client);
        let path = if count == 0 { "/plain?a" } else { "/plain?b" };
        let record = balancer.record(path);
        assert_eq!(
            (&record["status"], &record["why"], &record["detail"]),
            (&400.into(), &"tls_handshake".into(), &"plain HTTP".into())
        );
        assert_eq!(record["bytes_out"], response.body.len());
    }
    balancer.wait_for_metric("evenkeel_http_requests_total", &[("code", "4xx")], 2.0);
    balancer.wait_for_metric("evenkeel_tls_handshakes_total", &[("result", "failed")], 2.0);
    assert_eq!(app.hits(), 0);
}

#[test]
fn responses_over_tls_say_that_it_is_to_stay() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/own" => {
            send(
                stream,
                "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
            );
            Then::Keep
        }
        _ => say(stream, "hello"),
    });
    let (files, balancer) =
        shop(&app, "limits: { request_body: 10B }", "hsts: { max_age: 730d, include_subdomains: true }");
    let ours = "max-age=63072000; includeSubDomains";
    for version in ["1.1", "1.0"] {
        for (request, status, says) in [
            ("GET /", 200, ours),
            ("HEAD /", 200, ours),
            ("GET /own", 200, "max-age=1"),
            ("POST /too-large", 413, ours),
        ] {
            let mut client = client(&balancer);
            let length = if status == 413 { "Content-Length: 11\r\n" } else { "" };
            client.send(format!("{request} HTTP/{version}\r\nHost: a\r\n{length}\r\n"));
            let response = client.response_to_head();
            let said = (response.status, response.field("strict-transport-security"));
            assert_eq!(said, (status, says.to_owned()), "{request} {version}");
        }
    }
    let mut malformed = client(&balancer);
    malformed.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let response = malformed.response();
    assert_eq!((response.status, response.field("strict-transport-security").as_str()), (400, ours));
    // A duration alone; 0s has browsers forget it.
    let text = |more: &str| plain(&[app.address], &files.tls(&["shop"], more), "");
    assert_eq!(balancer.reload(&text("hsts: 0s")), Reloaded::Taken);
    assert_eq!(client(&balancer).get("/").field("strict-transport-security"), "max-age=0");
    assert_eq!(balancer.reload(&text("")), Reloaded::Taken);
    assert_eq!(client(&balancer).get("/").field("strict-transport-security"), "");
}

#[test]
fn handshakes_beyond_the_limit_wait_for_their_turn() {
    let app = App::saying("hello");
    let certificate = Certificate::named(&["shop.example"]);
    let files = Shop::new(&[("shop", &certificate)]);
    let text = |timeout: &str, limit: &str| {
        let limits = format!("timeouts: {{ tls_handshake: {timeout} }}, limits: {{ handshakes: {limit} }}");
        plain(&[app.address], &format!("{}, {limits}", files.tls(&["shop"], "")), "")
    };
    let balancer = Balancer::start(&text("1h", "1"));
    // One that has sent nothing is in nobody's way.
    let _silent = TcpStream::connect(balancer.address("web")).expect("accepted");
    let slow = |count: f64| {
        let mut slow = TcpStream::connect(balancer.address("web")).expect("accepted");
        slow.write_all(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03").expect("taken");
        balancer.wait_for_metric("evenkeel_tls_handshake_waits_total", &[("listener", "web")], count);
        slow
    };
    assert_eq!(client(&balancer).get("/first").text(), "hello");
    let first = slow(0.0);
    // Whether it has its turn shows when the next one waits.
    let second = slow(1.0);
    let to = balancer.address("web");
    let waiting = std::thread::spawn(move || {
        let stream = Speaker::new().connect(to, "shop.example").expect("the handshake succeeds");
        Client::over_tls(stream).get("/waited").text()
    });
    balancer.wait_for_metric("evenkeel_tls_handshake_waits_total", &[("listener", "web")], 2.0);
    drop(first);
    drop(second);
    assert_eq!(waiting.join().expect("it ends"), "hello");
    // Nobody waits beyond the deadline.
    let _third = slow(2.0);
    let _fourth = slow(3.0);
    assert_eq!(balancer.reload(&text("300ms", "1")), Reloaded::Taken);
    assert!(Speaker::new().connect(to, "shop.example").is_err());
    let record = balancer.record_where("of who waited", |record| record["why"] == "handshake_timeout");
    assert_eq!(record["detail"], "waited for other handshakes");
    assert_eq!(balancer.reload(&text("1h", "null")), Reloaded::Taken);
    assert_eq!(client(&balancer).get("/at-once").text(), "hello");
}

/// What a busy shop sees of a renewal: nothing.
#[test]
fn a_certificate_is_swapped_under_handshakes_and_none_fails() {
    let [old, new] = [(); 2].map(|()| Certificate::named(&["shop.example"]));
    let files = Shop::new(&[("shop", &old)]);
    let app = App::saying("hello");
    let text = plain(&[app.address], &files.tls(&["shop"], ""), "");
    let balancer = Balancer::start(&text);
    let at = balancer.address("web");
    let shown = std::thread::scope(|scope| {
        let shake = || {
            let (since, mut old_ones, mut new_ones) = (Instant::now(), 0, 0);
            // Both at least, and 50 for each of the four, so that 200 have been made when all have ended.
            while (old_ones + new_ones < 50 || new_ones == 0) && since.elapsed() < DEADLINE {
                // Nothing to resume: each is a full one.
                let stream = Speaker::new().connect(at, "shop.example").expect("no handshake fails");
                match (old.is_shown_by(&stream), new.is_shown_by(&stream)) {
                    (true, false) => old_ones += 1,
                    (false, true) => new_ones += 1,
                    _ => panic!("a stranger's certificate"),
                }
                assert_eq!(Client::over_tls(stream).get("/").text(), "hello");
            }
            (old_ones, new_ones)
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(shake)).collect();
        wait_until("some handshakes", || {
            balancer.metric("evenkeel_tls_handshakes_total", &[("result", "full")]) >= 20.0
        });
        new.write(&files.files.0, "shop");
        assert_eq!(balancer.reload(&text), Reloaded::Taken);
        clients.into_iter().map(|client| client.join().expect("no handshake fails")).collect::<Vec<_>>()
    });
    let (old_ones, new_ones) = shown.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(old_ones >= 20 && new_ones >= 4 && old_ones + new_ones >= 200, "{shown:?}");
    assert_eq!(balancer.metric("evenkeel_tls_handshakes_total", &[("result", "failed")]), 0.0);
}
