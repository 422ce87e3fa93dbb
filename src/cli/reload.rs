//! `reload`: has the process read its file again, and shows the receipt.

use super::client::{Failed, Reach};
use super::table::{Paint, in_color};
use super::{complain, say};
use crate::api::{Counted, Outcome, Receipt};
use clap::Args;
use http::{Method, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// Print the receipt as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failed> {
    let body = Some("{}".to_owned());
    let answer = options.reach.ask(Method::POST, "/api/v1/reload", body, Duration::from_secs(90))?;
    let receipt = match answer.status {
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => {
            serde_json::from_slice::<Receipt>(&answer.body).ok()
        }
        _ => None,
    };
    let Some(receipt) = receipt else {
        return Err(options.reach.understand::<Receipt>(&answer).err().unwrap_or(Failed));
    };
    if options.json {
        let value = serde_json::to_value(&receipt).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else if receipt.outcome == Outcome::InForce {
        say(&render(&receipt, in_color()));
    } else {
        for problem in &receipt.problems {
            complain(problem);
        }
        complain(&format!("nothing has changed: generation {} stays in force", receipt.generation));
    }
    Ok(if receipt.outcome == Outcome::InForce { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    for (kind, counted) in [
        ("listeners", &receipt.listeners),
        ("routes", &receipt.routes),
        ("pools", &receipt.pools),
        ("servers", &receipt.servers),
    ] {
        text += &format!("  {kind:10} {}\n", counted.in_short());
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
    text
}

fn names(counted: &Counted) -> String {
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
