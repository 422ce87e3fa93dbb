//! `explain`: why a request goes where it goes.

use super::client::ProcessAddress;
use super::table::in_color;
use super::{complain, file, say};
use crate::explain::{self, ExplainRequest};
use crate::filter::AsServed;
use crate::operate::Overrides;
use crate::snapshot::Snapshot;
use crate::text::fold;
use crate::{geo_files, network_files, sticky, sticky_files};
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug, Args)]
pub(super) struct ExplainOptions {
    /// The request: a method, GET unless given, and a URL.
    #[arg(value_name = "[METHOD] URL", required = true, num_args = 1..=2)]
    request: Vec<String>,
    /// A field of the request.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's address, or that of a trusted proxy that says in fields who its client is.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// The listener it comes in by; otherwise the URL's scheme and port decide.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// A protocol that the TLS client offers, like h2; for listeners with `protocol: tls_passthrough`.
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Vec<String>,
    /// Ask this file instead of the running process; all servers are taken to be up and idle.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the sources that the file names who the servers are.
    #[arg(long, requires = "config")]
    discover: bool,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
}

/// What the process answers.
#[derive(Debug, Deserialize)]
struct Explained {
    report: Value,
    text: String,
}

pub(super) fn run(options: &ExplainOptions) -> ExitCode {
    let (method, url) = match options.request.as_slice() {
        [url] => ("GET", url),
        [method, url, ..] => (method.as_str(), url),
        [] => return ExitCode::from(2),
    };
    let Ok(method) = method.parse::<Method>() else {
        complain(&format!(
            "{method} is no method; write it like `evenkeel explain POST https://shop.example/cart`"
        ));
        return ExitCode::from(2);
    };
    let Some(url) = url.parse::<Uri>().ok().filter(|url| url.scheme().is_some() && url.host().is_some())
    else {
        complain(&format!("{url} is no URL; write it like `evenkeel explain GET https://shop.example/cart`"));
        return ExitCode::from(2);
    };
    let outcome = match &options.config {
        Some(file) => offline(options, file, method, url),
        None => live(options, &method, &url),
    };
    outcome.err().unwrap_or(ExitCode::SUCCESS)
}

fn live(options: &ExplainOptions, method: &Method, url: &Uri) -> Result<(), ExitCode> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> =
        options.headers.iter().map(|(name, value)| [name.to_string(), text(value)]).collect();
    let command = json!({
        "method": method.as_str(),
        "url": url.to_string(),
        "headers": headers,
        "client": options.client,
        "listener": options.listener,
        "alpn": options.alpn,
    });
    let explained: Explained = options.reach.change(Method::POST, "/api/v1/explain", &command)?;
    if options.json {
        say(&format!("{:#}\n", explained.report));
        return Ok(());
    }
    // An older process's report may lack something that this version shows; its own text does not.
    match serde_json::from_value(explained.report) {
        Ok(report) => say(&explain::render(&report, in_color())),
        Err(_) => say(&explained.text),
    }
    Ok(())
}

fn offline(options: &ExplainOptions, file: &Path, method: Method, url: Uri) -> Result<(), ExitCode> {
    let (mut plan, _) = file::plan(file, options.json, |_, _| Vec::new())?;
    let notes = file::discover(&mut plan, options.discover)?;
    // Without its key a cookie is nobody's.
    let _ = sticky_files::read(&mut plan, "");
    // Nor is a client in a list or a country.
    let _ = (network_files::read(&plan, ""), geo_files::read(&plan, ""));
    let now = Instant::now();
    let (snapshot, _) = Snapshot::empty().evolve(plan, now);
    for member in snapshot.pools().iter().flat_map(|pool| &pool.members) {
        member.server.assume_up(now);
    }
    let request = ExplainRequest {
        method,
        url,
        headers: options.headers.iter().cloned().collect(),
        client: options.client,
        listener: options.listener.clone(),
        alpn: options.alpn.clone(),
        minute: sticky::minute(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
    };
    let passing = explain::Passing::new(&AsServed);
    let known = explain::Known { overrides: &Overrides::default(), limiter: None, kept: None, passing };
    match explain::explain(&snapshot, known, &request, fastrand::u64(..), Instant::now()) {
        Ok(report) if options.json => {
            say(&format!("{:#}\n", serde_json::to_value(&report).unwrap_or_default()));
        }
        Ok(report) => {
            say(&explain::render(&report, in_color()));
            say("(by the file alone: all servers are taken to be up and idle)\n");
            let pool = report.pool.map(|pool| format!("pools.{pool}: ")).unwrap_or_default();
            let notes = notes.iter().filter(|note| note.starts_with(&pool));
            notes.for_each(|note| say(&fold(&format!("({note})\n"))));
        }
        Err(unexplained) => {
            complain(&unexplained.to_string());
            return Err(ExitCode::FAILURE);
        }
    }
    Ok(())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "write it like 'X-Beta: yes'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    Ok((name.trim().parse().map_err(|_| wrong())?, value.trim().parse().map_err(|_| wrong())?))
}
