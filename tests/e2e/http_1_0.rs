//! Clients that speak HTTP/1.0: what load balancers' and Nagios' checks, ApacheBench and old devices send. They get
//! the same as everybody else, in the words that they know.

use crate::support::app::{App, Then, say, send, status};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::Client;
use crate::support::tls::{Certificate, Shop, Speaker};

/// Servers of both protocols in turn: one that answers so itself, and another evenkeel in front of it that takes HTTP/2.
fn each_kind(app: &App, check: impl Fn(&Balancer, &str)) {
    check(&Balancer::start(&plain(&[app.address], "", "")), "http1");
    let second = Balancer::start(&plain(&[app.address], "", ""));
    check(&Balancer::start(&plain(&[second.address("web")], "", "protocol: h2")), "h2");
}

#[test]
fn it_is_served_and_closed_unless_it_asks_otherwise() {
    let app = App::saying("hello");
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        client.send("GET /one HTTP/1.0\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{kind}");
        assert_eq!(response.field("connection"), "close", "{kind}");
        assert!(client.is_closed());
        let mut client = balancer.client();
        for path in ["/two", "/three"] {
            client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
            assert_eq!(client.response().field("connection"), "keep-alive", "{kind}");
        }
        client.send("GET /four HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n");
        assert_eq!(client.response().field("connection"), "close", "{kind}");
        assert!(client.is_closed());
        assert_eq!(balancer.protocol("/one"), "HTTP/1.0");
    });
}

#[test]
fn its_connection_stays_open_only_after_a_body_with_a_length() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/chunked" => send(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        "/until-close" => {
            send(stream, "HTTP/1.1 200 OK\r\n\r\nabcde");
            Then::Close
        }
        "/empty" => send(stream, "HTTP/1.1 204 No Content\r\n\r\n"),
        _ => say(stream, "abcde"),
    });
    each_kind(&app, |balancer, kind| {
        for path in ["/chunked", "/until-close"] {
            let mut client = balancer.client();
            client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.field("transfer-encoding"), "", "{kind} {path}");
            assert_eq!(response.field("connection"), "close", "{kind} {path}");
            assert_eq!((response.text().as_str(), response.complete), ("abcde", true), "{kind} {path}");
            assert_eq!(balancer.record(path)["bytes_out"], 5, "{kind} {path}");
        }
        let mut client = balancer.client();
        for path in ["/empty", "/length", "/empty"] {
            client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
            assert_eq!(client.response().field("connection"), "keep-alive", "{kind} {path}");
        }
    });
}

/// nginx, Node and Go refuse HTTP/1.1 without a Host, which is how requests go on.
#[test]
fn a_server_gets_a_host_whatever_the_client_has_named() {
    let app = App::saying("hello");
    let own = app.address.to_string();
    let probed = "health: { http: { path: /up, host: probe.example } }";
    for (pool, host) in [("", own.as_str()), (probed, "probe.example")] {
        let balancer = Balancer::start(&plain(&[app.address], "", pool));
        let seen = |request: &str| {
            let mut client = balancer.client();
            client.send(format!("{request}\r\n\r\n"));
            assert_eq!(client.response().status, 200, "{request}");
            let request = app.requests().into_iter().rfind(|request| request.target == "/x");
            let request = request.expect("it has arrived");
            (request.field("host"), request.field("x-forwarded-host"))
        };
        assert_eq!(seen("GET /x HTTP/1.0"), (host.to_owned(), String::new()));
        assert_eq!(seen("GET /x HTTP/1.0\r\nHost: b.example"), ("b.example".into(), "b.example".into()));
        let absolute = "GET http://c.example/x HTTP/1.0";
        assert_eq!(seen(absolute), ("c.example".into(), "c.example".into()));
    }
    let second = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&plain(&[second.address("web")], "", "protocol: h2"));
    let mut client = balancer.client();
    client.send("GET /h2 HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(app.last().field("host"), second.address("web").to_string());
    assert_eq!(balancer.record("/h2")["host"], "", "what the client has said");
}

#[test]
fn the_next_server_is_not_called_by_the_name_of_the_first() {
    let failing = || App::new(|_, stream| status(stream, "503 Busy", "busy"));
    let (one, two) = (failing(), failing());
    let balancer = Balancer::start(&plain(&[one.address, two.address], "", ""));
    let mut client = balancer.client();
    client.send("PUT /x HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response().status, 503);
    for app in [one, two] {
        let request = app.last();
        assert_eq!((request.field("host"), request.body.as_slice()), (app.address.to_string(), &b"body"[..]));
    }
}

#[test]
fn an_absolute_targets_authority_is_judged_and_decides() {
    let (app, other) = (App::saying("a"), App::saying("other"));
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\nroutes:\n  all:\n    \
         - {{ match: {{ host: a.example }}, pool: a }}\n    - {{ pool: other }}\n\
         pools:\n  a: {{ servers: [{}] }}\n  other: {{ servers: [{}] }}\n",
        app.address, other.address
    );
    let balancer = Balancer::start(&text);
    for (head, status, body) in [
        ("GET http://a.example/ HTTP/1.0", 200, "a"),
        ("GET http://A.example:80/ HTTP/1.0", 200, "a"),
        ("GET http://b.example/ HTTP/1.0\r\nHost: b.example", 200, "other"),
        ("GET / HTTP/1.0", 200, "other"),
        ("GET http://a.example/ HTTP/1.0\r\nHost: b.example", 400, "400 Bad Request\n"),
        ("GET http://u@a.example/ HTTP/1.0", 400, "400 Bad Request\n"),
        ("GET http://a.example:x/ HTTP/1.0", 400, "400 Bad Request\n"),
        ("GET http:///x HTTP/1.0", 400, "400 Bad Request\n"),
    ] {
        let mut client = balancer.client();
        client.send(format!("{head}\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (status, body), "{head}");
    }
}

/// The end of the connection is the body's end for such a client.
#[test]
fn a_response_cut_short_does_not_look_whole() {
    let app = App::new(|request, stream| {
        match request.target.as_str() {
            "/chunked" => send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            "/broken" => {
                send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n")
            }
            _ => send(stream, "HTTP/1.1 200 OK\r\n\r\nhalf"),
        };
        match request.target.as_str() {
            "/until-close" => Then::Reset,
            _ => Then::Close,
        }
    });
    each_kind(&app, |balancer, kind| {
        for path in ["/chunked", "/broken", "/until-close"] {
            let mut client = balancer.client();
            client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n"));
            let (text, is_whole) = client.read_to_end();
            // Or it was no response yet.
            let is_answer = text.starts_with("HTTP/1.1 502 ");
            assert!(!is_whole || is_answer, "{kind} {path}: {text:?} looks whole");
            let why = balancer.record(path)["why"].clone();
            assert!(is_answer || why == "server_reset" || why == "server_malformed", "{kind} {path}: {why}");
        }
    });
}

#[test]
fn a_response_cut_short_over_tls_has_no_close_notify() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        Then::Close
    });
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    let balancer = Balancer::start(&plain(&[app.address], &shop.tls(&["a"], ""), ""));
    let stream = Speaker::new().connect(balancer.address("web"), "a.example").expect("a handshake");
    let mut client = Client::over_tls(stream);
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let (text, is_whole) = client.read_to_end();
    assert!(!is_whole, "{text:?} looks whole");
}

/// `curl --http1.0` does.
#[test]
fn it_may_be_all_that_a_client_offers_over_tls() {
    let app = App::saying("hello");
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    let balancer = Balancer::start(&plain(&[app.address], &shop.tls(&["a"], ""), ""));
    for (offer, agreed) in [
        (&["http/1.0"][..], "http/1.0"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
        (&["http/1.0", "http/1.1", "h2"], "h2"),
    ] {
        let speaker = Speaker::new().offering(offer);
        let stream = speaker.connect(balancer.address("web"), "a.example").expect("a handshake");
        assert_eq!(stream.conn.alpn_protocol(), Some(agreed.as_bytes()));
        if agreed == "http/1.0" {
            let mut client = Client::over_tls(stream);
            client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
            assert!(client.read_to_end().0.ends_with("hello"));
        }
    }
}

#[test]
fn interim_responses_are_not_for_it() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
        say(stream, "hello")
    });
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        client.send("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response().text(), "hello", "{kind}");
        assert!(!app.last().has("expect"), "{kind}");
    });
}

#[test]
fn a_servers_date_order_and_capitals_stay() {
    let app = App::new(|_, stream| {
        send(
            stream,
            "HTTP/1.1 200 Fine\r\nx-B: 1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-LENGTH: 2\r\n\r\nok",
        )
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(
        client.read_to_end(),
        (
            "HTTP/1.1 200 Fine\r\nx-B: 1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-LENGTH: 2\r\n\
             Connection: close\r\n\r\nok"
                .to_owned(),
            true
        )
    );
}

#[test]
fn an_upgrade_is_not_for_it() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    assert!(!app.last().has("upgrade"));
}

/// No URL can be made of a host that is not named.
#[test]
fn a_request_that_names_no_host_is_sent_nowhere() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\n  \
         secure: {{ address: 127.0.0.1:0, redirect_to_https: true }}\n\
         routes:\n  all:\n    - {{ match: {{ path: /old/* }}, redirect: \"https://{{host}}/new{{path}}\" }}\n    \
         - {{ match: {{ path: /moved/* }}, redirect: /new }}\n    \
         - {{ match: {{ path: /said }}, respond: {{ headers: {{ X-Host: \"{{host}}\", X-Said: \"<{{host}}>\" }} }} }}\n    \
         - {{ canonical: {{ https: true }}, rewrite: {{ host: \"{{host}}.internal\" }}, \
         request_headers: {{ set: {{ X-Host: \"{{host}}\" }} }}, pool: app }}\n\
         pools:\n  app: {{ servers: ['{}'] }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    for (listener, path, status) in [
        ("web", "/old/x", 400),
        ("secure", "/x", 400),
        ("web", "/moved/x", 308),
        ("web", "/said", 200),
        ("web", "/x", 200),
    ] {
        let mut client = Client::connect(balancer.address(listener));
        client.send(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status, status, "{path}");
        assert!(!response.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-host")), "{path}");
        let location = if status == 308 { "/new" } else { "" };
        assert_eq!(response.field("location"), location, "{path}");
        if status == 400 {
            assert!(client.is_closed(), "{path}");
            let record = balancer.record(path);
            assert_eq!(
                (&record["why"], &record["detail"]),
                (&"malformed".into(), &"a redirect of a request that names no host, or no path".into())
            );
        }
    }
    let request = app.last();
    assert_eq!((request.field("host"), request.has("x-host")), (app.address.to_string(), false));
    // What is there and empty is no host in any version.
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        for host in ["", ":80", "[]"] {
            let mut client = balancer.client();
            client.send(format!("GET /x HTTP/{}\r\nHost: {host}\r\n\r\n", &version[5..]));
            assert_eq!(client.response().status, 400, "{version} {host:?}");
            assert!(client.is_closed());
        }
    }
    assert_eq!(app.hits(), 1);
}
