//! `drain`, `maint`, `ready` and `weight`: an operator's word about one server.

use super::client::{ProcessAddress, RequestFailed, Target};
use super::table::in_color;
use super::{complain, say};
use crate::api::status::{ReportedState, ServerStatus};
use crate::text::Paint;
use crate::units;
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(super) struct RemovalOptions {
    /// The server, like app/app3.
    #[arg(value_name = "POOL/SERVER")]
    target: Target,
    /// Even if what is left cannot carry what the pool carries now.
    #[arg(long)]
    force: bool,
    /// Wait until nothing is in flight there any more, and show what is.
    #[arg(long)]
    wait: bool,
    /// How long to wait; then exit with 1, and the state stays.
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = units::duration, default_value = "10m")]
    timeout: Duration,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Args)]
pub(super) struct ReturnOptions {
    /// The server, like app/app3.
    #[arg(value_name = "POOL/SERVER")]
    target: Target,
    /// Even if it is ejected because it does worse than the others; its earlier ejections are forgotten.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Args)]
pub(super) struct WeightOptions {
    /// The server, like app/app3.
    #[arg(value_name = "POOL/SERVER")]
    target: Target,
    /// 1 to 256, or `default` for what the configuration says.
    #[arg(value_name = "WEIGHT", value_parser = weight)]
    weight: WeightArgument,
    #[command(flatten)]
    to: To,
}

/// A weight, or the configuration's. (clap takes a bare `Option` for "may be left out".)
#[derive(Clone, Copy, Debug)]
struct WeightArgument(Option<u16>);

#[derive(Debug, Args)]
struct To {
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print the server's state as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Operated {
    /// None if there is no such server now.
    pub(super) server: Option<ServerStatus>,
    pub(super) notes: Vec<String>,
}

fn weight(text: &str) -> Result<WeightArgument, String> {
    if text == "default" {
        return Ok(WeightArgument(None));
    }
    let number = text.parse().ok().and_then(crate::units::Weight::new);
    number.map(|weight| WeightArgument(Some(weight.get()))).ok_or_else(|| {
        "use 1 to 256, or `default` for the configuration's; to stop new requests, drain the server"
            .to_owned()
    })
}

pub(super) fn remove(options: &RemovalOptions, state: ReportedState) -> Result<ExitCode, RequestFailed> {
    let body = json!({ "state": state.word(), "force": options.force });
    let operated = send(&options.target, &options.to, "/state", &body)?;
    if let (true, Some(server)) = (options.wait, &operated.server) {
        return wait(options, server.clone(), &operated.notes);
    }
    tell(&options.target, &options.to, &operated);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ready(options: &ReturnOptions) -> Result<ExitCode, RequestFailed> {
    let operated =
        send(&options.target, &options.to, "/state", &json!({ "state": "ready", "force": options.force }))?;
    tell(&options.target, &options.to, &operated);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn weigh(options: &WeightOptions) -> Result<ExitCode, RequestFailed> {
    let operated = send(&options.target, &options.to, "/weight", &json!({ "weight": options.weight.0 }))?;
    tell(&options.target, &options.to, &operated);
    Ok(ExitCode::SUCCESS)
}

fn send(target: &Target, to: &To, what: &str, body: &Value) -> Result<Operated, RequestFailed> {
    to.reach.change(Method::PUT, &target.path(what), body)
}

fn tell(target: &Target, to: &To, operated: &Operated) {
    let Operated { server, notes } = operated;
    let Some(server) = server else { return say_notes(target, notes) };
    if to.json {
        let value = serde_json::to_value(server).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else {
        let state = Paint::of(server.state).on(server.state.word(), in_color());
        say(&format!("{target}: {state}, {} in flight, weight {}\n", server.in_flight, server.weight));
    }
    say_notes(target, notes);
}

fn say_notes(target: &Target, notes: &[String]) {
    notes.iter().for_each(|note| complain(&format!("{target}: {note}")));
}

/// Shows what is left on the server until nothing is.
fn wait(
    options: &RemovalOptions,
    mut server: ServerStatus,
    notes: &[String],
) -> Result<ExitCode, RequestFailed> {
    let (target, to) = (&options.target, &options.to);
    let since = Instant::now();
    let mut shown = None;
    let line =
        |server: &ServerStatus| format!("{target}: {}, {} in flight", server.state.word(), server.in_flight);
    let mut progress = |server: &ServerStatus| {
        if to.json || shown == Some(server.in_flight) {
            return;
        }
        shown = Some(server.in_flight);
        let mut error = std::io::stderr();
        let is_terminal = error.is_terminal();
        // One line that changes on a terminal, one line for each change elsewhere.
        let _ = if is_terminal {
            write!(error, "\r\x1b[K{}", line(server)).and_then(|()| error.flush())
        } else {
            writeln!(error, "{}", line(server))
        };
    };
    progress(&server);
    while server.in_flight > 0 && since.elapsed() < options.timeout {
        std::thread::sleep(Duration::from_millis(200));
        server = to.reach.get(&target.path(""))?;
        progress(&server);
    }
    if std::io::stderr().is_terminal() && !to.json {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let is_empty = server.in_flight == 0;
    tell(target, to, &Operated { server: Some(server), notes: notes.to_vec() });
    if !is_empty {
        complain(&format!("{target}: not empty after {:?}; it stays as it is", options.timeout));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
