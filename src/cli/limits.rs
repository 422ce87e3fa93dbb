//! `bans`, `ban`, `unban` and `limits`: who is kept out, and who asks more than they may.

use super::client::{ProcessAddress, RequestFailed, part};
use super::say;
use super::table::in_color;
use crate::api::limits::{BanList, EndedBans, LimitReport, ListedBan};
use crate::text::{Paint, span};
use crate::units;
use clap::Args;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct LookOptions {
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct BanOptions {
    /// The client's address, like 192.0.2.7.
    client: IpAddr,
    /// For how long, up to 30d.
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration, default_value = "10m")]
    lasts: Duration,
    #[command(flatten)]
    look: LookOptions,
}

#[derive(Debug, Args)]
pub(super) struct UnbanOptions {
    /// The client's address, like 192.0.2.7.
    client: IpAddr,
    #[command(flatten)]
    look: LookOptions,
}

fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    match json {
        true => say(&format!("{:#}\n", serde_json::to_value(value).unwrap_or(Value::Null))),
        false => say(&text()),
    }
}

fn line(ban: &ListedBan) -> String {
    let left = span(Duration::from_secs(ban.seconds_left));
    let by = if ban.everywhere { format!("by {}, everywhere", ban.by) } else { format!("by {}", ban.by) };
    format!("{}  {left} left  {by}\n", Paint::Strong.on(&ban.client, in_color()))
}

pub(super) fn bans(options: &LookOptions) -> Result<ExitCode, RequestFailed> {
    let list: BanList = options.reach.get("/api/v1/bans")?;
    print(options.json, &list, || match list.bans.is_empty() {
        true => "nobody is banned\n".to_owned(),
        false => list.bans.iter().map(line).collect(),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ban(options: &BanOptions) -> Result<ExitCode, RequestFailed> {
    let path = format!("/api/v1/bans/{}", part(&options.client.to_string()));
    let body = json!({ "seconds": options.lasts.as_secs() });
    let banned: ListedBan = options.look.reach.change(Method::PUT, &path, &body)?;
    print(options.look.json, &banned, || line(&banned));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unban(options: &UnbanOptions) -> Result<ExitCode, RequestFailed> {
    let path = format!("/api/v1/bans/{}", part(&options.client.to_string()));
    let ended: EndedBans = options.look.reach.change(Method::DELETE, &path, &json!({}))?;
    print(options.look.json, &ended, || match ended.ended {
        0 => format!("{} was not banned\n", options.client),
        _ => format!("{} may ask again\n", options.client),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn limits(options: &LookOptions) -> Result<ExitCode, RequestFailed> {
    let report: LimitReport = options.reach.get("/api/v1/limits")?;
    print(options.json, &report, || {
        let clients = if report.keys == 1 { "client" } else { "clients" };
        let mut text = format!("{} {clients} in debt or banned\n", report.keys);
        for debtor in &report.top {
            let debt = span(Duration::from_millis(debtor.debt_ms));
            // Who it is is told by the client's address where the limit counts by that.
            let by = match &*debtor.counted_by {
                "" | "client" => String::new(),
                by => format!(", by {by}"),
            };
            text +=
                &format!("{}  {debt}  {}{by}\n", Paint::Strong.on(&debtor.client, in_color()), debtor.limit);
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}
