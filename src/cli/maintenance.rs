//! `maintenance`: routes that answer for their pools for a while.

use super::client::{ProcessAddress, RequestFailed, part};
use super::{complain, say};
use crate::api::maintenance::{MaintenanceChanged, MaintenanceList};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::json;
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(Debug, Args)]
pub(super) struct MaintenanceOptions {
    /// A section of routes, or one rule by its name or its place, like shop/1; without it, what is in maintenance is shown.
    #[arg(requires = "switch")]
    route: Option<String>,
    /// Whether its requests are answered with 503 instead of being served.
    #[arg(value_name = "on|off")]
    switch: Option<Switch>,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(super) fn run(options: &MaintenanceOptions) -> Result<ExitCode, RequestFailed> {
    match (&options.route, options.switch) {
        (Some(route), Some(switch)) => change(options, route, matches!(switch, Switch::On)),
        _ => list(options),
    }
}

fn list(options: &MaintenanceOptions) -> Result<ExitCode, RequestFailed> {
    let list: MaintenanceList = options.reach.get("/api/v1/maintenance")?;
    if options.json {
        say(&format!("{:#}\n", serde_json::to_value(&list).unwrap_or_default()));
        return Ok(ExitCode::SUCCESS);
    }
    let now = OffsetDateTime::now_utc();
    say(&match list.maintenance.is_empty() {
        true => "nothing is in maintenance\n".to_owned(),
        false => list.maintenance.iter().map(|rule| rule.told(now) + "\n").collect(),
    });
    Ok(ExitCode::SUCCESS)
}

fn change(options: &MaintenanceOptions, route: &str, enabled: bool) -> Result<ExitCode, RequestFailed> {
    let path = format!("/api/v1/maintenance/{}", part(route));
    let changed: MaintenanceChanged =
        options.reach.change(Method::PUT, &path, &json!({ "enabled": enabled }))?;
    if options.json {
        say(&format!("{:#}\n", serde_json::to_value(&changed).unwrap_or_default()));
        return Ok(ExitCode::SUCCESS);
    }
    let state = if changed.enabled { "in maintenance" } else { "served" };
    changed.rules.iter().for_each(|rule| say(&format!("{rule}: {state}\n")));
    changed.notes.iter().for_each(|note| complain(note));
    Ok(ExitCode::SUCCESS)
}
