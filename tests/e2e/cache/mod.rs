//! Responses that are kept, the same by every version of HTTP.

mod changes;
mod coalescing;
mod coded;
mod conditions;
mod devices;
mod disk;
mod explaining;
mod fills;
mod heads;
mod keys;
mod long;
mod nodes;
mod purging;
mod returning;
mod stale;

use crate::support::app::{App, Request, Then};
use crate::support::ways::{Asked, Ways};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// An app that answers with the fields that its path names after `/with/`, and with how often it was asked; with 304 who has its
/// tag.
fn app() -> App {
    let asked = AtomicUsize::new(0);
    App::new(move |request, stream| answer(request, stream, asked.fetch_add(1, SeqCst) + 1))
}

fn answer(request: &Request, stream: &mut TcpStream, count: usize) -> Then {
    let path = request.target.split('?').next().unwrap_or_default();
    let named = path.split_once("/with/").map_or("", |(_, named)| named);
    let fields: Vec<_> = named
        .split('&')
        .filter_map(|field| field.split_once(':'))
        .map(|(name, value)| (name, value.replace('+', " ").replace("%22", "\"").replace("%3F", "?")))
        .collect();
    let value =
        |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone());
    let status = value("status").unwrap_or_else(|| "200 OK".to_owned());
    let is_same = value("etag").is_some_and(|etag| request.field("if-none-match") == etag);
    let body = if request.method == "HEAD" { String::new() } else { format!("answer {count}") };
    let mut head = match is_same {
        true => format!("HTTP/1.1 304 Not Modified\r\nX-Count: {count}\r\n"),
        false => format!(
            "HTTP/1.1 {status}\r\nX-Count: {count}\r\nContent-Length: {}\r\n",
            8 + count.to_string().len() - 1
        ),
    };
    for (name, value) in fields.iter().filter(|(name, _)| *name != "status") {
        head += &format!("{name}: {value}\r\n");
    }
    let body = if is_same { "" } else { &body };
    let _ = write!(stream, "{head}\r\n{body}");
    Then::Keep
}

/// A balancer whose rule has this cache.
#[track_caller]
fn shop(app: &App, cache: &str) -> Ways {
    with_rules(app, &format!("    - {{ name: all, cache: {cache}, pool: app }}\n"))
}

#[track_caller]
fn with_rules(app: &App, rules: &str) -> Ways {
    Ways::start("routes: shop", &sections(app, rules))
}

fn sections(app: &App, rules: &str) -> String {
    format!(
        "routes:\n  shop:\n{rules}pools:\n  app: {{ servers: [{{ name: s1, address: {} }}], retries: {{ max: 0 }} }}\n",
        app.address
    )
}

/// One GET with these fields.
fn get<'a>(target: &'a str, fields: &'a [(&'a str, &'a str)]) -> Asked<'a> {
    Asked { fields, ..Asked::get(target) }
}
