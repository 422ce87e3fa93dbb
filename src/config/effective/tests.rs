//! What is written means what it was made of, for whatever can be configured.

mod policy;

use super::write;
use crate::config::keys::{self, Key, KeyKind, each_section};
use crate::config::{Plan, parse};
use proptest::prelude::*;
use serde_yaml::{Mapping, Value};
use std::collections::BTreeSet;
use std::fmt::Write;

fn plan(text: &str) -> Plan {
    match parse(text) {
        Ok((plan, _)) => plan,
        Err(problems) => panic!("{}\n{text}", problems.render("test.yaml", text, false)),
    }
}

/// The text, after a look at whether it says what the plan is.
fn written(plan: &Plan) -> String {
    let written = write(plan);
    assert_eq!(&super::tests::plan(&written), plan, "{written}");
    written
}

#[test]
fn the_documented_files_mean_what_is_written_of_them() {
    for file in [
        include_str!("../../../conf/minimal.yaml"),
        include_str!("../../../conf/evenkeel.yaml"),
        include_str!("../../../conf/shop.yaml"),
        include_str!("../../../conf/tcp.yaml"),
        include_str!("../../../packaging/evenkeel.yaml"),
    ] {
        let once = written(&plan(file));
        assert_eq!(written(&plan(&once)), once);
    }
}

#[test]
fn every_key_and_every_default_is_written() {
    let everything = configuration(&mut Choices::all());
    let all = [
        everything.as_str(),
        "listeners: { a: { addresses: ['127.0.0.1:1', '127.0.0.1:2'], pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], health: { tcp: }, balance: { consistent_hash: { key: { header: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p }, b: { address: '127.0.0.1:2', redirect_to_https: true } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], health: { tls: }, balance: { consistent_hash: { key: { cookie: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], health: { grpc: }, balance: { consistent_hash: { key: { query: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], health: { udp: { send: a, expect_hex: 00 } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], health: { udp: { send_hex: ff, expect: b } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], balance: { maglev: { key: { header: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], balance: { maglev: { key: { cookie: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], balance: { maglev: { key: { query: x } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\n\
         pools: { p: { servers: ['127.0.0.1:1'], balance: { success_rate: { outcome: { header: x, success: [y] } } } } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\npools: { p: { discover: { dns_srv: _a._tcp.b } } }",
        "listeners: { a: { address: '127.0.0.1:1', routes: r } }\n\
         routes: { r: [{ redirect: /a }, { respond: { file: a } }, { respond: { body: a } }] }\n\
         policies: { a: { request_headers: { set: { x: y } }, response_headers: { set: { x: y } } } }\n\
         pools: { p: { servers: ['127.0.0.1:1'] } }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\npools: { p: { discover: { file: f } } }\n\
         cache: { disk: { path: /d }, purge_nodes: ['10.0.0.2:9900'] }",
        "listeners: { a: { address: '127.0.0.1:1', pool: p } }\npools: { p: { discover: { http: { url: http://a/ } } } }",
    ];
    let mut found = BTreeSet::new();
    for text in all {
        let file: Value = serde_yaml::from_str(&written(&plan(text))).expect("it is YAML");
        names(keys::FILE, &file, "", &mut found);
    }
    // What a rule has of a policy is told of once.
    let of_policy = |name: &String| {
        name.strip_prefix("routes.NAME[]").is_some_and(|rest| {
            let below_match = rest.starts_with(".match.not/") || rest.starts_with(".match.any[]/");
            below_match
                || keys::POLICY.iter().any(|key| rest[1..].split(['/', '.', '[']).next() == Some(key.name))
        })
    };
    found.retain(|name| !of_policy(name));
    let mut known = BTreeSet::new();
    each_section(&mut |path, keys| known.extend(keys.iter().map(|key| format!("{path}/{}", key.name))));
    assert_eq!(found, known);
}

/// The keys below a value, by the path of their section in the table.
fn names(keys: &'static [Key], value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Value::Mapping(section) = value else { return };
    for (name, below) in section {
        let name = name.as_str().expect("keys are texts");
        let key = keys.iter().find(|key| key.name == name).expect("the table has it");
        found.insert(format!("{path}/{name}"));
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let items = |value: &Value| value.as_sequence().cloned().unwrap_or_default();
        let values = |value: &Value| {
            value.as_mapping().unwrap_or(&Mapping::new()).values().cloned().collect::<Vec<_>>()
        };
        match key.kind {
            KeyKind::Section(keys) | KeyKind::Either(_, keys) => names(keys, below, &path, found),
            KeyKind::EitherOrList(_, keys) => {
                names(keys, below, &path, found);
                items(below).iter().for_each(|item| names(keys, item, &path, found));
            }
            KeyKind::Sections(keys) | KeyKind::ListOfEither(_, keys) => {
                items(below).iter().for_each(|item| names(keys, item, &format!("{path}[]"), found));
            }
            KeyKind::NamedBeside(keys, own) => {
                for (name, below) in below.as_mapping().unwrap_or(&Mapping::new()) {
                    match own.iter().find(|key| Some(key.name) == name.as_str()) {
                        Some(key) => _ = found.insert(format!("{path}/{}", key.name)),
                        None => names(keys, below, &format!("{path}.NAME"), found),
                    }
                }
            }
            KeyKind::Named(keys) | KeyKind::NamedListsOr(_, keys) => {
                values(below).iter().for_each(|item| names(keys, item, &format!("{path}.NAME"), found));
            }
            KeyKind::NamedLists(keys) => values(below)
                .iter()
                .flat_map(items)
                .for_each(|item| names(keys, &item, &format!("{path}.NAME[]"), found)),
            _ => {}
        }
    }
}

#[test]
fn what_only_a_default_can_be_is_left_to_it() {
    let (list, path) = ("r".repeat(99), "x".repeat(106));
    let text = format!(
        "listeners: {{ web: {{ address: '127.0.0.1:80', routes: {list}, http2: {{ max_concurrent_streams: 10000, stream_window: 1GiB }} }} }}\n\
         routes: {{ {list}: [{{ pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['unix:/{path}', 'unix:/run/my app.sock', '[0:0::1]:80'] }} }}\n"
    );
    let written = written(&plan(&text));
    assert!(written.contains("connection_window: null"), "{written}");
    assert_eq!(written.matches("name:").count(), 1, "{written}");
    assert!(written.contains("name: '[0:0::1]:80'\n      address: '[::1]:80'"), "{written}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_the_same_plan(choices in prop::collection::vec(any::<u32>(), 0..400)) {
        let text = configuration(&mut Choices::of(choices));
        let plan = plan(&text);
        let once = written(&plan);
        prop_assert_eq!(write(&super::tests::plan(&once)), once, "a plan has one text");
    }
}

/// Decisions to take; when they have run out, the first of each.
struct Choices {
    left: std::vec::IntoIter<u32>,
    takes_all: bool,
}

impl Choices {
    fn of(choices: Vec<u32>) -> Self {
        Self { left: choices.into_iter(), takes_all: false }
    }

    /// Writes every key that may be there.
    fn all() -> Self {
        Self { left: Vec::new().into_iter(), takes_all: true }
    }

    fn below(&mut self, n: usize) -> usize {
        self.left.next().unwrap_or_default() as usize % n
    }

    fn maybe(&mut self) -> bool {
        self.takes_all || self.below(2) == 1
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn within(&mut self, least: u64, most: u64) -> u64 {
        match self.below(4) {
            0 => least,
            1 => most,
            2 => least + self.below((most - least).min(100) as usize + 1) as u64,
            _ => least + u64::from(self.left.next().unwrap_or_default()) % (most - least + 1),
        }
    }

    /// Any text that YAML could take for something else.
    fn text(&mut self) -> String {
        const PARTS: [&str; 48] = [
            "a",
            "null",
            "~",
            "true",
            "off",
            "yes",
            "1.2",
            "0x1f",
            "1e3",
            "012",
            "2001-01-01",
            ".inf",
            "- ",
            "a: b",
            ": ",
            " #x",
            "#",
            "'q'",
            "\"dq\"",
            "\t",
            "\n",
            "\r\n",
            " ",
            "  ",
            "\u{85}",
            "\u{a0}",
            "é",
            "\u{feff}",
            "\u{7f}",
            "\u{2028}",
            "*",
            "&a",
            "{",
            "]",
            ",",
            "|",
            ">-",
            "%",
            "@",
            "`",
            "? ",
            "---",
            "\\",
            "\u{1f600}",
            "\u{2029}",
            "\u{1}0",
            "\"\\x010\"",
            "\u{fffe}",
        ];
        let parts = 1 + self.below(4);
        (0..parts).map(|_| *PARTS.get(self.below(PARTS.len())).expect("below")).collect()
    }

    /// One of one word.
    fn word(&mut self) -> String {
        let word: String = self.text().chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
        if word.is_empty() { "~".to_owned() } else { word }
    }

    /// So many names, each once.
    fn names(&mut self, n: usize) -> Vec<&'static str> {
        const NAMES: [&str; 9] = ["app", "null", "true", "1.2", "...", "---", "-", "0x1f", "off"];
        let first = self.below(NAMES.len());
        (0..n).map(|index| NAMES[(first + index) % NAMES.len()]).collect()
    }
}

/// In double quotes, by escapes where it is not plain.
fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c.is_ascii_alphanumeric() {
            true => quoted.push(c),
            false => _ = write!(quoted, "\\U{:08x}", u32::from(c)),
        }
    }
    quoted + "\""
}

/// A section in brackets, from lines.
fn section(lines: Vec<String>) -> String {
    format!("{{ {} }}", lines.join(", "))
}

/// Some of a table's keys whose values the table itself describes.
fn simple(keys: &[Key], but: &[&str], choices: &mut Choices) -> Vec<String> {
    let mut lines = Vec::new();
    for key in keys.iter().filter(|key| !but.contains(&key.name)) {
        let value = match &key.kind {
            KeyKind::Duration(least, most) => {
                format!("{}ms", choices.within(least.as_millis() as u64, most.as_millis() as u64))
            }
            KeyKind::Size(least, most) => format!("{}B", choices.within(*least, *most)),
            KeyKind::Count(least, most) => choices.within(*least, *most).to_string(),
            KeyKind::Percent(least, most) => format!("{}%", choices.within((*least).into(), (*most).into())),
            KeyKind::Flag => choices.one(&["true", "false"]).to_owned(),
            KeyKind::Choice(names) => quote(choices.one(names)),
            _ => continue,
        };
        let value = if key.nullable && choices.below(4) == 3 { "null".to_owned() } else { value };
        if choices.maybe() {
            lines.push(format!("{}: {value}", key.name));
        }
    }
    lines
}

/// Writes a key or leaves it out.
fn maybe(
    lines: &mut Vec<String>,
    choices: &mut Choices,
    key: &str,
    value: impl FnOnce(&mut Choices) -> String,
) {
    if choices.maybe() {
        lines.push(format!("{key}: {}", value(choices)));
    }
}

const FILES: [&str; 4] = ["/etc/evenkeel/a.pem", "b.pem", "null", "~/c d.pem"];

fn file(choices: &mut Choices) -> String {
    quote(choices.one(&FILES))
}

/// A configuration that is good, whatever is chosen.
fn configuration(choices: &mut Choices) -> String {
    let mut file_lines = Vec::new();
    maybe(&mut file_lines, choices, "process", |choices| {
        let mut lines = simple(keys::PROCESS, &[], choices);
        maybe(&mut lines, choices, "threads", |choices| choices.one(&["auto", "1", "256"]).to_owned());
        section(lines)
    });
    maybe(&mut file_lines, choices, "admin", |choices| {
        let mut lines = Vec::new();
        maybe(&mut lines, choices, "socket", |choices| choices.one(&["null", "/run/a b.sock"]).to_owned());
        maybe(&mut lines, choices, "address", |choices| choices.one(&["null", "'[::1]:9900'"]).to_owned());
        maybe(&mut lines, choices, "token_file", file);
        maybe(&mut lines, choices, "state_file", |choices| choices.one(&["null", "'null'"]).to_owned());
        section(lines)
    });
    maybe(&mut file_lines, choices, "log", |choices| section(simple(keys::LOG, &[], choices)));
    maybe(&mut file_lines, choices, "access_log", |choices| {
        let mut lines = simple(keys::ACCESS_LOG, &[], choices);
        maybe(&mut lines, choices, "path", file);
        choices.one(&[section(lines).as_str(), "off"]).to_owned()
    });
    maybe(&mut file_lines, choices, "events", |choices| {
        let mut lines = simple(keys::EVENTS, &[], choices);
        maybe(&mut lines, choices, "path", file);
        section(lines)
    });
    maybe(&mut file_lines, choices, "dns", |choices| {
        let mut lines = simple(keys::DNS, &["min_refresh", "max_refresh"], choices);
        lines.push(choices.one(&["max_refresh: 60s", "min_refresh: 1h, max_refresh: 1h"]).to_owned());
        maybe(&mut lines, choices, "resolvers", |choices| {
            choices.one(&["system", "[10.0.0.2, '[::1]:5353', '2001:db8::2']"]).to_owned()
        });
        section(lines)
    });
    let office = choices.one(&["[]", "[10.0.0.0/8, '::1']"]).to_owned();
    let bad = file(choices);
    file_lines.push("geo: { country: 'a b', asn: /x.mmdb }".to_owned());
    file_lines.push(format!("networks: {{ office: {office}, b.d: {{ file: {bad} }}, unused: [192.0.2.1] }}"));
    let has_acme = choices.maybe();
    if has_acme {
        let mut lines = simple(keys::ACME, &["accept_terms", "challenge"], choices);
        lines.push("accept_terms: true".to_owned());
        maybe(&mut lines, choices, "directory", |_| "https://ca.example/dir".to_owned());
        maybe(&mut lines, choices, "contact", |_| "['mailto:ops@shop.example', 'mailto:~@a']".to_owned());
        maybe(&mut lines, choices, "storage", |choices| choices.one(&["/var/lib/x/", "'~'"]).to_owned());
        maybe(&mut lines, choices, "ca", file);
        maybe(&mut lines, choices, "external_account", |choices| {
            format!("{{ key_id: {}, hmac_key_file: {} }}", quote(&choices.text()), file(choices))
        });
        file_lines.push(format!("acme: {}", section(lines)));
    }
    let n_pools = 1 + choices.below(3);
    let pool_names = choices.names(n_pools);
    let policies = [("\"null\"", policy::policy(choices)), ("plain", policy::policy(choices))];
    let policies = policies.map(|(name, lines)| format!("{name}: {}", section(lines)));
    file_lines.push(format!("policies: {{ {} }}", policies.join(", ")));
    let rules = {
        let n_rules = 1 + choices.below(3);
        let rules: Vec<_> = (0..n_rules).map(|index| rule(index, &pool_names, choices)).collect();
        rules.join(", ")
    };
    let tls_rules = format!(
        "{{ pool: {}, match: {{ host: 'Shop.example', alpn: {} }} }}",
        quote(pool_names[0]),
        choices.one(&["[h2]", "[]", "['null', http/1.1]"])
    );
    file_lines.push(format!("routes: {{ \"null\": [{rules}], tls: [{tls_rules}] }}"));
    let n_listeners = 1 + choices.below(4);
    let names = choices.names(n_listeners);
    let mut listeners: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| format!("{}: {}", quote(name), listener(index, &pool_names, choices)))
        .collect();
    if has_acme {
        listeners.push(format!(
            "acme: {{ address: '0.0.0.0:443', routes: 'null', tls: {{ {} acme: {{ names: [shop.example, '1.2'] }} }} }}",
            choices.one(&["", "certificates: [{ cert: a.pem, key: b.pem }],"])
        ));
    }
    // Those that are not HTTP read no cookies.
    let may_be_sticky = listeners.iter().all(|listener| {
        !["protocol: tcp", "protocol: tls_passthrough"].iter().any(|protocol| listener.contains(protocol))
    });
    file_lines.push(format!("listeners: {}", section(listeners)));
    let mut pools: Vec<_> =
        pool_names.iter().map(|name| format!("{}: {}", quote(name), pool(may_be_sticky, choices))).collect();
    pools.push("plain: { servers: ['10.0.0.1:53'] }".to_owned());
    file_lines.push(format!("pools: {}", section(pools)));
    file_lines.join("\n")
}

fn listener(index: usize, pools: &[&str], choices: &mut Choices) -> String {
    let protocol = choices.one(&["http", "tcp", "tls_passthrough", "udp"]);
    let port = 1000 + 2 * index;
    let mut lines = vec![format!("protocol: {protocol}")];
    lines.push(match choices.below(3) {
        0 => format!("address: '0.0.0.0:{port}'"),
        1 if protocol != "udp" => format!("address: 'unix:/run/{index} a.sock'"),
        _ => format!("addresses: ['127.0.0.1:{port}', '[::1]:{}']", port + 1),
    });
    if protocol != "udp" {
        maybe(&mut lines, choices, "proxy_protocol", |choices| {
            choices.one(&["{ from: [10.0.0.0/8, 192.0.2.1, '2001:db8::/32'] }", "null"]).to_owned()
        });
    }
    let pool = format!("pool: {}", quote(choices.one(pools)));
    let redirects = protocol == "http" && choices.below(5) == 4;
    lines.push(match protocol {
        _ if redirects => "redirect_to_https: true".to_owned(),
        "tls_passthrough" if choices.maybe() => "routes: tls".to_owned(),
        "http" if choices.maybe() => "routes: 'null'".to_owned(),
        "udp" => "pool: plain".to_owned(),
        _ => pool,
    });
    let mut limits = vec!["connections", "connections_per_client", "new_connections_per_client"];
    let mut timeouts = Vec::new();
    match protocol {
        "http" => {
            lines.extend(simple(keys::LISTENER, &["protocol", "redirect_to_https"], choices));
            limits.extend(["handshakes", "request_headers", "request_body"]);
            limits.extend(["uri", "header_count", "header_line", "encoded_slash"]);
            timeouts.extend(["request_header", "request_body", "idle", "tls_handshake"]);
            maybe(&mut lines, choices, "policy", |choices| choices.one(&["'null'", "null"]).to_owned());
            maybe(&mut lines, choices, "trusted_proxies", |choices| {
                choices.one(&["[]", "['::1', 10.1.0.0/16, office, 'b.d']"]).to_owned()
            });
            maybe(&mut lines, choices, "http2", http2);
            if !redirects {
                maybe(&mut lines, choices, "tls", tls);
            }
        }
        "udp" => timeouts.push("idle"),
        _ => timeouts.push("tls_handshake"),
    }
    let mut some = |keys: &[Key], names: &[&str]| {
        let but: Vec<_> = keys.iter().map(|key| key.name).filter(|name| !names.contains(name)).collect();
        section(simple(keys, &but, choices))
    };
    lines.push(format!("limits: {}", some(keys::LIMITS, &limits)));
    lines.push(format!("timeouts: {}", some(keys::LISTENER_TIMEOUTS, &timeouts)));
    section(lines)
}

fn http2(choices: &mut Choices) -> String {
    let mut lines = simple(keys::HTTP2, &["stream_window", "connection_window"], choices);
    let stream = choices.within(1 << 10, 1 << 30);
    maybe(&mut lines, choices, "stream_window", |_| format!("{stream}B"));
    maybe(&mut lines, choices, "connection_window", |choices| {
        format!("{}B", choices.within(stream.max(64 << 10), 1 << 30))
    });
    section(lines)
}

fn tls(choices: &mut Choices) -> String {
    let mut lines = simple(keys::TLS, &[], choices);
    let mut certificate = vec![format!("cert: {}", file(choices)), format!("key: {}", file(choices))];
    maybe(&mut certificate, choices, "ocsp", file);
    lines.push(format!("certificates: [{}]", section(certificate)));
    maybe(&mut lines, choices, "client_ca", |choices| match choices.below(3) {
        0 => format!("{{ file: {}, required: false }}", file(choices)),
        1 => file(choices),
        _ => "null".to_owned(),
    });
    maybe(&mut lines, choices, "hsts", |choices| {
        let long = section(simple(keys::HSTS, &[], choices));
        choices.one(&[long.as_str(), "365d", "1500ms", "null"]).to_owned()
    });
    section(lines)
}

fn rule(index: usize, pools: &[&str], choices: &mut Choices) -> String {
    let mut lines = vec![match choices.below(3) {
        2 => policy::target(choices),
        _ => format!("pool: {}", quote(choices.one(pools))),
    }];
    maybe(&mut lines, choices, "policy", |choices| choices.one(&["'null'", "plain", "null"]).to_owned());
    lines.extend(policy::policy(choices));
    maybe(&mut lines, choices, "name", |choices| quote(&format!("{}{index}", choices.word())));
    maybe(&mut lines, choices, "upgrades", |choices| {
        choices.one(&["[]", "[websocket]", "['null', SPDY/3.1]"]).to_owned()
    });
    maybe(&mut lines, choices, "match", |choices| {
        let mut lines = Vec::new();
        maybe(&mut lines, choices, "host", |choices| {
            choices.one(&["null", "'*.Shop.example'", "'null'", "'1.2'", "'[::0001]'"]).to_owned()
        });
        maybe(&mut lines, choices, "path", |choices| {
            choices.one(&["/", "/*", "/a", "'/a:b/*'", "null"]).to_owned()
        });
        maybe(&mut lines, choices, "methods", |choices| choices.one(&["[]", "[GET, 'M-X']"]).to_owned());
        maybe(&mut lines, choices, "path_regex", |choices| {
            choices.one(&["'^/a(?P<b>[0-9]+)$'", "null"]).to_owned()
        });
        maybe(&mut lines, choices, "query", |choices| {
            choices.one(&["{}", "{ a: b, 'null': \"*\" }"]).to_owned()
        });
        maybe(&mut lines, choices, "cookies", |choices| {
            choices.one(&["{}", "{ sid: \"*\", '~': '~' }"]).to_owned()
        });
        maybe(&mut lines, choices, "client", |choices| {
            choices.one(&["[]", "[10.0.0.0/8, '::1']"]).to_owned()
        });
        maybe(&mut lines, choices, "country", |choices| choices.one(&["[]", "[DE, no]"]).to_owned());
        maybe(&mut lines, choices, "asn", |choices| choices.one(&["[]", "[64500, AS1]"]).to_owned());
        maybe(&mut lines, choices, "not", |choices| {
            choices.one(&["{ path: /a, client: [10.0.0.1] }", "null", "{ methods: [PUT] }"]).to_owned()
        });
        maybe(&mut lines, choices, "any", |choices| {
            choices.one(&["[{ host: a.example }, { methods: [GET], query: { a: b } }]", "[]"]).to_owned()
        });
        maybe(&mut lines, choices, "headers", |choices| {
            let long = format!("x-{}", "a".repeat(choices.below(300)));
            let value: String = choices.text().chars().filter(char::is_ascii_graphic).collect();
            format!("{{ {long}: \"*\", 'null': {}, '~': 'off' }}", quote(&value))
        });
        section(lines)
    });
    section(lines)
}

fn discover(choices: &mut Choices) -> String {
    let mut lines = simple(keys::DISCOVER, &[], choices);
    maybe(&mut lines, choices, "keep_stale", |choices| choices.one(&["forever", "30d", "0s"]).to_owned());
    lines.push(match choices.below(5) {
        2 => "dns_srv: _http._tcp.App.internal".to_owned(),
        3 => format!("file: {}", file(choices)),
        4 => {
            let mut lines = simple(keys::HTTP_SOURCE, &[], choices);
            lines.push("url: 'https://[::1]:81/x?y=%20'".to_owned());
            maybe(&mut lines, choices, "ca", file);
            maybe(&mut lines, choices, "token_file", file);
            format!("http: {}", section(lines))
        }
        0 => {
            let mut lines = simple(keys::DNS_SOURCE, &["port"], choices);
            lines.push(format!("name: tier_1.internal, port: {}", choices.within(1, 65_535)));
            format!("dns: {}", section(lines))
        }
        _ => "dns: 'Tier.internal.:8080'".to_owned(),
    });
    section(lines)
}

fn pool(may_be_sticky: bool, choices: &mut Choices) -> String {
    let mut lines = simple(keys::POOL, &["protocol", "proxy_protocol"], choices);
    lines.push(
        choices
            .one(&["proxy_protocol: null", "proxy_protocol: v2", "protocol: h2", "protocol: auto"])
            .to_owned(),
    );
    maybe(&mut lines, choices, "outlier", |choices| {
        let mut lines = simple(keys::OUTLIER, &["max_ejection"], choices);
        lines.push("max_ejection: 24h".to_owned());
        maybe(&mut lines, choices, "slower_than", |choices| choices.one(&["null", "5x", "1.1x"]).to_owned());
        section(lines)
    });
    maybe(&mut lines, choices, "balance", |choices| match choices.below(10) {
        0 => format!("{{ consistent_hash: {} }}", section(simple(keys::CONSISTENT_HASH, &[], choices))),
        1 => "round_robin".to_owned(),
        2 => "random_two".to_owned(),
        3 => "consistent_hash".to_owned(),
        4 => "maglev".to_owned(),
        6 => "peak_ewma".to_owned(),
        7 => "success_rate".to_owned(),
        8 => {
            let mut lines = simple(keys::SUCCESS_RATE, &[], choices);
            let outcome = "{ header: x-result, success: ['1', a b], failure: ['null'] }";
            maybe(&mut lines, choices, "outcome", |_| outcome.to_owned());
            format!("{{ success_rate: {} }}", section(lines))
        }
        5 => "{ maglev: {} }".to_owned(),
        _ => "least_connections".to_owned(),
    });
    let n_servers = 1 + choices.below(4);
    let servers: Vec<_> = (0..n_servers)
        .map(|index| {
            let address =
                format!("'{}:{}'", choices.one(&["10.0.0.1", "[0:0::1]", "[fe80::1%3]"]), 1000 + index);
            if choices.below(3) == 2 {
                return address;
            }
            if choices.below(4) == 3 {
                let mut lines = simple(keys::SERVER, &[], choices);
                lines.push(format!("address: 'App{index}.internal.:{}'", choices.within(1, 65_535)));
                return section(lines);
            }
            let mut lines = simple(keys::SERVER, &[], choices);
            lines.push(format!("address: {address}"));
            maybe(&mut lines, choices, "name", |choices| quote(&format!("{}{index}", choices.word())));
            section(lines)
        })
        .collect();
    lines.push(format!("servers: [{}]", servers.join(", ")));
    maybe(&mut lines, choices, "discover", discover);
    maybe(&mut lines, choices, "health", health);
    maybe(&mut lines, choices, "slow_start", |choices| match choices.below(3) {
        0 => section(simple(keys::SLOW_START, &[], choices)),
        1 => "0s".to_owned(),
        _ => "45s".to_owned(),
    });
    let sticky = |choices: &mut Choices| {
        // None of the listeners need have TLS.
        let mut lines = simple(keys::STICKY, &["same_site", "path"], choices);
        lines.push(choices.one(&["cookie: EK", "cookie: 'null'", "cookie: $1"]).to_owned());
        maybe(&mut lines, choices, "same_site", |choices| choices.one(&["lax", "strict"]).to_owned());
        maybe(&mut lines, choices, "key_file", file);
        maybe(&mut lines, choices, "domain", |choices| choices.one(&["null", "Shop.example"]).to_owned());
        maybe(&mut lines, choices, "path", |choices| choices.one(&["/", "'/a#b'"]).to_owned());
        section(lines)
    };
    if may_be_sticky {
        maybe(&mut lines, choices, "sticky", sticky);
    }
    maybe(&mut lines, choices, "retries", |choices| {
        let mut lines = simple(keys::RETRIES, &[], choices);
        maybe(&mut lines, choices, "on", |choices| {
            choices.one(&["[]", "[504, connect, \"502\"]", "[reset]"]).to_owned()
        });
        section(lines)
    });
    maybe(&mut lines, choices, "timeouts", |choices| section(simple(keys::POOL_TIMEOUTS, &[], choices)));
    maybe(&mut lines, choices, "tls", |choices| {
        let mut lines = Vec::new();
        maybe(&mut lines, choices, "server_name", |choices| {
            choices.one(&["app.internal", "'1.2'"]).to_owned()
        });
        match choices.below(3) {
            0 => lines.push(format!("ca: {}", file(choices))),
            1 => lines.push("verify: false".to_owned()),
            _ => lines.push("ca: null".to_owned()),
        }
        if choices.maybe() {
            lines.extend([format!("cert: {}", file(choices)), format!("key: {}", file(choices))]);
        }
        section(lines)
    });
    section(lines)
}

fn health(choices: &mut Choices) -> String {
    let mut lines = simple(keys::HEALTH, &[], choices);
    lines.push(match choices.below(5) {
        0 => {
            let mut lines = simple(keys::HTTP_PROBE, &["method"], choices);
            lines.push(format!("path: {}", choices.one(&["/healthz?a=b", "/", "'/~'"])));
            maybe(&mut lines, choices, "host", |choices| {
                choices.one(&["null", "'null'", "'a:80'"]).to_owned()
            });
            maybe(&mut lines, choices, "expect_status", |choices| {
                choices.one(&["200", "'200, 300-399'", "[200-299, 204]"]).to_owned()
            });
            match choices.below(3) {
                0 => lines.push(format!("expect_body: {}", quote(&choices.text()))),
                1 => lines.push("method: HEAD".to_owned()),
                _ => lines.push("expect_body: null".to_owned()),
            }
            format!("http: {}", section(lines))
        }
        1 => {
            let expect = quote(&choices.text());
            let send = quote(&choices.text());
            choices
                .one(&[
                    format!("tcp: {{ send: {send}, expect: {expect} }}").as_str(),
                    &format!("tcp: {{ expect: {expect} }}"),
                    &format!("tcp: {{ send: {send}, expect: null }}"),
                    "tcp:",
                ])
                .to_owned()
        }
        2 => format!(
            "tls: {{ server_name: {}, verify: {} }}",
            choices.one(&["null", "'null'", "a.example"]),
            choices.one(&["true", "false"])
        ),
        3 => format!("grpc: {{ service: {} }}", choices.one(&["null", "'null'", "shop.Cart"])),
        _ => {
            let text = format!("send: {}", quote(&choices.text()));
            let expect = format!("expect: {}", quote(&choices.text()));
            let send =
                choices.one(&[text.as_str(), "send: ''", "send_hex: ''", "send_hex: '00ff 80'"]).to_owned();
            let expect = choices.one(&["expect_hex: ff", &expect]).to_owned();
            format!("udp: {{ {send}, {expect} }}")
        }
    });
    section(lines)
}
