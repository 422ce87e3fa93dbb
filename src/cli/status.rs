//! `status`: pools and servers as they are now.

use super::client::{ProcessAddress, RequestFailed};
use super::say;
use super::table::{Align, TextTable, in_color};
use crate::api::ReloadOutcome;
use crate::api::cache::CacheStatus;
use crate::api::receipt::GuardState;
use crate::api::status::{EjectionCeiling, PoolStatus, ReportedState, ServerStatus, SourceStatus, Status};
use crate::history::{Figures, told};
use crate::pool::outlier::told_allowance;
use crate::text::{Paint, ago, fold, servers};
use clap::Args;
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// Only this pool.
    pool: Option<String>,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &StatusOptions) -> Result<ExitCode, RequestFailed> {
    let mut status: Status = options.reach.get("/api/v1/status")?;
    if let Some(wanted) = &options.pool {
        // The process knows what is nearest to a name that it has not.
        options.reach.get::<PoolStatus>(&format!("/api/v1/pools/{}", super::client::part(wanted)))?;
        status.pools.retain(|pool| pool.name == *wanted);
    }
    if options.json {
        let value = serde_json::to_value(&status).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else {
        say(&render(&status, in_color()));
    }
    Ok(ExitCode::SUCCESS)
}

fn render(status: &Status, in_color: bool) -> String {
    let process = &status.process;
    let mut text = format!(
        "evenkeel {}, process {}, up {}, generation {}, {} connections\n{}\n",
        process.version,
        process.pid,
        ago(process.started, process.now),
        process.generation,
        process.connections,
        process.configuration,
    );
    if process.draining {
        text += &Paint::Caution.on("stopping: it finishes what it has and takes nothing new\n", in_color);
    }
    if let Some(before) = &process.before {
        text += &fold(&format!(
            "process {} before it still has {} connections, {} in flight; they count here\n",
            before.pid, before.connections, before.in_flight
        ));
    }
    if let Some(why) = process.last_upgrade_failure.as_ref().filter(|_| !process.upgrading) {
        text += &format!("last upgrade {}\n", Paint::Bad.on("failed", in_color));
        text += &fold(&format!("    {why}\n"));
    }
    if let Some(receipt) = &status.last_reload {
        let (word, paint) = match receipt.outcome {
            ReloadOutcome::InForce => ("in force", Paint::Good),
            ReloadOutcome::Refused => ("refused", Paint::Bad),
            ReloadOutcome::RolledBack => ("rolled back", Paint::Bad),
        };
        let when = ago(receipt.at, process.now);
        text += &format!("last reload {when} ago by {}: {}\n", receipt.actor, paint.on(word, in_color));
        for problem in &receipt.problems {
            text += &fold(&format!("    {problem}\n"));
        }
    }
    if let Some(guard) = status.guard.as_ref().filter(|guard| guard.state == GuardState::Watching) {
        let left = ago(process.now, guard.until);
        text += &Paint::Caution
            .on(&format!("generation {} is watched for {left} more\n", guard.generation), in_color);
    }
    for rule in &status.maintenance {
        text += &Paint::Caution.on(&fold(&format!("{}\n", rule.told(process.now))), in_color);
    }
    if let Some(told) = status.limits.and_then(|limits| limits.told()) {
        text += &format!("{told}\n");
    }
    if let Some(cache) = &status.cache {
        text += &fold(&format!("{}\n", cache.told()));
        text += &rules_of(cache).render(2, in_color);
    }
    for pool in &status.pools {
        text += "\n";
        text += &render_pool(pool, process.now, in_color);
    }
    text
}

/// What the caches of rules do.
fn rules_of(cache: &CacheStatus) -> TextTable {
    let columns = [("RULE", Align::Left), ("REQ/S", Align::Right), ("HIT RATIO", Align::Right)];
    let mut table = TextTable::new(&[&columns[..], &[("SINCE THE START", Align::Left)]].concat());
    for rule in &cache.rules {
        let results: Vec<_> =
            rule.results.iter().map(|(result, count)| format!("{result} {count}")).collect();
        let cells = vec![
            if rule.route.is_empty() { "-".to_owned() } else { rule.route.clone() },
            format!("{:.0}", rule.requests_per_second),
            rule.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0)),
            results.join(", "),
        ];
        table.row(cells, None, Vec::new());
    }
    table
}

fn render_pool(pool: &PoolStatus, now: OffsetDateTime, in_color: bool) -> String {
    let mut text = format!(
        "{}  {}, {} of {} up, {} in flight{}{}\n",
        Paint::Strong.on(&pool.name, in_color),
        pool.balance,
        pool.up,
        pool.servers.len(),
        pool.in_flight,
        match pool.waiting {
            0 => String::new(),
            waiting => Paint::Caution.on(&format!(", {waiting} waiting"), in_color),
        },
        figures(&pool.figures),
    );
    if pool.failing_open {
        let loud = "  NO HEALTHY SERVER: requests go to every server that is not drained\n";
        text += &Paint::Bad.on(loud, in_color);
    }
    if let Some(other) = &pool.served_by {
        text += &Paint::Caution
            .on(&format!("  nothing of it can be used: pool {other} serves in its place\n"), in_color);
    }
    let mut table = TextTable::new(&[
        ("SERVER", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("FOR", Align::Left),
        ("IN FLIGHT", Align::Right),
        ("MAX", Align::Right),
        ("WEIGHT", Align::Right),
    ]);
    for server in &pool.servers {
        let cells = vec![
            server.name.clone(),
            server.address.clone(),
            server.state.word().to_owned(),
            ago(server.since_when(), now),
            server.in_flight.to_string(),
            server.max_connections.map_or("-".to_owned(), |most| most.to_string()),
            format!("{}{}", server.weight, if server.weight_by_operator { "*" } else { "" }),
        ];
        table.row(cells, Some((2, Paint::of(server.state))), notes(server, now));
    }
    if !pool.servers.is_empty() || pool.sources.is_empty() {
        text += &table.render(2, in_color);
    }
    if let Some(EjectionCeiling { most, of }) = pool.may_be_out {
        text += &format!("  outlier: {}\n", told_allowance(most, of));
    }
    if let Some(sticky) = &pool.sticky {
        text += &format!("  {}\n", sticky.told());
    }
    for source in &pool.sources {
        text += &render_source(source, now, in_color);
    }
    for absent in &pool.absent {
        text += &fold(&format!("  {}: {}\n", absent.name, absent.told(now)));
    }
    text
}

/// `  dns:app.internal:8080  answers, 2 servers, asked again in 4 s`, and what is wrong with it.
fn render_source(source: &SourceStatus, now: OffsetDateTime, in_color: bool) -> String {
    let (word, paint) = match source.up {
        Some(true) => ("answers", Paint::Good),
        Some(false) => ("fails", Paint::Bad),
        None => ("not asked yet", Paint::Caution),
    };
    let mut line = format!("  {}  {}, {}", source.source, paint.on(word, in_color), servers(source.servers));
    if source.missing > 0 {
        line += &format!(", {} of them missing", source.missing);
    }
    if let Some(at) = source.last_success.filter(|_| source.up != Some(true)) {
        line += &format!(", last answer {} ago", ago(at, now));
    }
    if let Some(at) = source.next_query {
        line += &format!(", asked again in {}", ago(now, at));
    }
    let mut text = line + "\n";
    if let Some(held) = &source.held {
        text += &Paint::Caution.on(&format!("    held back: {held}\n"), in_color);
    }
    if let Some(said) = source.problem.as_ref().or(source.last_answer.as_ref()) {
        text += &fold(&format!("    {said}\n"));
    }
    text
}

/// `, 120/s, p99 12 ms, 1.5% errors`; nothing without requests.
fn figures(figures: &Figures) -> String {
    if figures.requests_per_second == 0.0 {
        return String::new();
    }
    let p99 = figures.p99_ms.map_or_else(String::new, |p99| format!(", p99 {}", told(p99)));
    format!(
        ", {:.0}/s{p99}, {:.1}% errors",
        figures.requests_per_second.max(1.0),
        figures.error_ratio * 100.0
    )
}

/// Why a server is not simply up.
fn notes(server: &ServerStatus, now: OffsetDateTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(said) = &server.admin.by_operator {
        notes.push(format!("{} by {}, {} ago", said.state.word(), said.actor, ago(said.at, now)));
    }
    notes.extend(server.told_backup().map(str::to_owned));
    if let Some(share) = server.ramp {
        notes.push(format!("coming back: takes part in {share}% of picks"));
    }
    if server.admin.by_configuration {
        notes.push("drain by the configuration".to_owned());
    }
    if server.weight_by_operator {
        notes.push("* weight by an operator".to_owned());
    }
    if server.missing {
        notes.push(ServerStatus::MISSING.to_owned());
    }
    notes.extend(server.ejection.iter().map(|ejection| ejection.told(now)));
    if let Some(failure) = &server.last_failure
        && server.state != ReportedState::Maint
    {
        notes.push(format!("last probe: {failure}"));
    }
    if server.state != server.health && server.health != ReportedState::Up {
        notes.push(format!("health: {}", server.health.word()));
    }
    notes
}
