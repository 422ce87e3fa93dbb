//! `reload`: has the process read its file again, and shows the receipt.

use super::client::{ProcessAddress, RequestFailed};
use super::table::in_color;
use super::{complain, say};
use crate::api::receipt::GuardState;
use crate::api::{ChangeCounts, Receipt, ReloadOutcome, Status};
use crate::text::{Paint, ago, fold};
use clap::Args;
use http::{Method, StatusCode};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct ReloadOptions {
    /// Watch for this long, like 60s, and go back if errors rise or healthy servers fall.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    guard: Option<String>,
    /// By how many percentage points a pool's share of failed requests may rise.
    #[arg(long, value_name = "POINTS", requires = "guard", default_value_t = 2.0)]
    max_error_rise: f64,
    /// Fewer requests of a pool say nothing about it.
    #[arg(long, value_name = "N", requires = "guard", default_value_t = 20)]
    min_requests: u64,
    /// How many healthy servers a pool may lose.
    #[arg(long, value_name = "N", requires = "guard", default_value_t = 0)]
    max_servers_lost: usize,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print the receipt as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &ReloadOptions) -> Result<ExitCode, RequestFailed> {
    let command = match &options.guard {
        None => json!({}),
        Some(guard) => json!({
            "guard": guard,
            "max_error_rise": options.max_error_rise / 100.0,
            "min_requests": options.min_requests,
            "max_servers_lost": options.max_servers_lost,
        }),
    };
    let body = Some(command.to_string());
    let answer = options.reach.ask(Method::POST, "/api/v1/reload", body, Duration::from_secs(90))?;
    let receipt = match answer.status {
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => {
            serde_json::from_slice::<Receipt>(&answer.body).ok()
        }
        _ => None,
    };
    let Some(receipt) = receipt else {
        return Err(options.reach.understand::<Receipt>(&answer).err().unwrap_or(RequestFailed));
    };
    if options.json {
        let value = serde_json::to_value(&receipt).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else if receipt.outcome == ReloadOutcome::InForce {
        say(&render(&receipt, in_color()));
    } else {
        for problem in &receipt.problems {
            complain(problem);
        }
        for warning in &receipt.warnings {
            complain(&format!("warning: {warning}"));
        }
        complain(&format!("nothing has changed: generation {} stays in force", receipt.generation));
    }
    match (receipt.outcome, &options.guard) {
        (ReloadOutcome::InForce, Some(_)) => wait(options, receipt.generation),
        (ReloadOutcome::InForce, None) => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Keeps the text: the process reads the same.
fn duration(text: &str) -> Result<String, String> {
    crate::units::duration(text).map(|_| text.to_owned())
}

/// Waits for the guard's judgement.
fn wait(options: &ReloadOptions, generation: u64) -> Result<ExitCode, RequestFailed> {
    let is_terminal = std::io::stderr().is_terminal() && !options.json;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let status: Status = options.reach.get("/api/v1/status")?;
        let Some(guard) = status.guard_of(generation) else {
            complain("the process does not know what has become of it; `evenkeel events` may tell");
            return Ok(ExitCode::FAILURE);
        };
        if guard.state == GuardState::Watching {
            if is_terminal {
                let left = ago(status.process.now, guard.until);
                let mut error = std::io::stderr();
                let _ = write!(error, "\r\x1b[Kwatching generation {generation} for {left} more")
                    .and_then(|()| error.flush());
            }
            continue;
        }
        if is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let why = guard.why.clone().unwrap_or_default();
        if options.json {
            say(&format!("{:#}\n", serde_json::to_value(guard).unwrap_or_default()));
        }
        return Ok(match guard.state {
            GuardState::Kept => {
                if !options.json {
                    say(&format!("kept: generation {generation}, nothing has become worse\n"));
                }
                ExitCode::SUCCESS
            }
            GuardState::RolledBack => {
                complain(&why);
                complain(&format!(
                    "generation {} is as it was before; the file is still the one that was taken back",
                    status.process.generation
                ));
                ExitCode::FAILURE
            }
            GuardState::Ended | GuardState::Watching => {
                complain(&format!("watched no longer: {why}"));
                ExitCode::FAILURE
            }
        });
    }
}

/// A receipt, for people.
pub(super) fn render(receipt: &Receipt, in_color: bool) -> String {
    let fingerprint = receipt.fingerprint.as_deref().unwrap_or_default();
    let mut text = format!(
        "{}: generation {}, {:.1} ms\n{}  sha256 {}\n",
        Paint::Good.on("in force", in_color),
        receipt.generation,
        receipt.took_ms,
        receipt.configuration,
        fingerprint.get(..12).unwrap_or_default(),
    );
    if !receipt.settings.is_empty() {
        text += &format!("  {:10} {} changed\n", "settings", receipt.settings.len());
        text += &receipt.settings.iter().map(|setting| format!("    ~ {setting}\n")).collect::<String>();
    }
    for (kind, counted) in [
        ("listeners", &receipt.listeners),
        ("routes", &receipt.routes),
        ("pools", &receipt.pools),
        ("servers", &receipt.servers),
    ] {
        text += &format!("  {kind:10} {}\n", counted.in_words());
        text += &names(counted);
    }
    text += &format!("  {:10} {} kept", "health", receipt.health.kept);
    if !receipt.health.counts_reset.is_empty() {
        text += &format!(", counts start anew for {}", receipt.health.counts_reset.len());
    }
    if !receipt.health.assumed_up.is_empty() {
        text += &format!(", taken to be up {}", receipt.health.assumed_up.len());
    }
    text += "\n";
    for ended in &receipt.operator_states_ended {
        text += &format!("  ! what operators said of {ended} has ended with it\n");
    }
    for warning in &receipt.warnings {
        text += &format!("  ! {warning}\n");
    }
    fold(&text)
}

fn names(counted: &ChangeCounts) -> String {
    const SHOWN: usize = 20;
    let lists = [("+", &counted.added), ("-", &counted.removed), ("~", &counted.changed)];
    let mut text = String::new();
    for (mark, names) in lists {
        for name in names.iter().take(SHOWN) {
            text += &format!("    {mark} {name}\n");
        }
        if names.len() > SHOWN {
            text += &format!("    {mark} and {} more\n", names.len() - SHOWN);
        }
    }
    text
}
