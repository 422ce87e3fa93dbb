//! `probe`: one probe now, step by step.

use super::client::{ProcessAddress, Target};
use super::table::in_color;
use super::{complain, file, say};
use crate::api::probe::ProbeStep;
use crate::api::{ApiError, ProbeReport};
use crate::config::Plan;
use crate::origination::Origination;
use crate::snapshot::Snapshot;
use crate::text::{Paint, WIDTH, wrap};
use crate::{probe, tls};
use clap::Args;
use http::Method;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// As long as the process lets a connection of its admin endpoint be.
const WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct ProbeOptions {
    /// The server, like app/app3.
    #[arg(value_name = "POOL/SERVER")]
    target: Target,
    /// Probe from here, as this file says, instead of asking the running process.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the pool's sources, as the file names them, who the servers are.
    #[arg(long, requires = "config")]
    discover: bool,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print steps and verdict as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &ProbeOptions) -> ExitCode {
    let probed = match &options.config {
        Some(file) => offline(options, file),
        None => live(options),
    };
    let probed = match probed {
        Ok(probed) => probed,
        Err(code) => return code,
    };
    match options.json {
        true => say(&format!("{:#}\n", serde_json::to_value(&probed).unwrap_or_default())),
        false => say(&render(&probed, in_color())),
    }
    if probed.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn live(options: &ProbeOptions) -> Result<ProbeReport, ExitCode> {
    let answer = options.reach.ask(Method::POST, &options.target.path("/probe"), None, WITHIN)?;
    Ok(options.reach.understand(&answer)?)
}

fn offline(options: &ProbeOptions, file: &Path) -> Result<ProbeReport, ExitCode> {
    let Target { pool: pool_name, server: server_name } = &options.target;
    // What the others need is not needed here, and may well not be there.
    let alone = |mut plan: Plan| {
        plan.listeners.clear();
        plan.routes.clear();
        plan.acme = None;
        plan.pools.retain(|pool| *pool.name == **pool_name);
        plan
    };
    let read = |plan: &Plan, text: &str| tls::read(&alone(plan.clone()), text, SystemTime::now());
    let (name, text) = file::read(file)?;
    let (plan, _) = file::plan_of(&name, &text, options.json, |plan, text| read(plan, text).1)?;
    if plan.pools.iter().all(|pool| *pool.name != **pool_name) {
        return Err(missing(ApiError::no_pool(pool_name, plan.pools.iter().map(|pool| &*pool.name))));
    }
    let (files, _) = read(&plan, &text);
    let mut plan = alone(plan);
    let notes = file::discover(&mut plan, options.discover)?;
    let (snapshot, _) = Snapshot::empty().evolve(plan, Instant::now());
    let Some(pool) = snapshot.pool(pool_name) else { return Err(ExitCode::FAILURE) };
    let Some(member) = pool.members.iter().find(|member| **member.server.name() == **server_name) else {
        let servers = pool.members.iter().map(|member| &**member.server.name());
        let code = missing(ApiError::no_server(pool_name, server_name, servers));
        notes.iter().for_each(|note| complain(note));
        return Err(code);
    };
    if let Some(material) = files.pools.into_iter().flatten().next() {
        let made = Origination::new(material, None)
            .map_err(|error| failed(&format!("pools.{pool_name}.tls: cannot be set up: {error}")))?;
        pool.origination.store(Some(made));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&format!("cannot start: {error}")))?;
    let mut probed = runtime.block_on(probe::once(pool, &member.server));
    probed.notes.push("probed from here, by the file alone".to_owned());
    Ok(probed)
}

fn missing(error: ApiError) -> ExitCode {
    complain(&error.message);
    error.help.iter().for_each(|help| complain(help));
    ExitCode::FAILURE
}

fn failed(line: &str) -> ExitCode {
    complain(line);
    ExitCode::FAILURE
}

fn render(probed: &ProbeReport, in_color: bool) -> String {
    let target = format!("{}/{}", probed.pool, probed.server);
    let most = Duration::from_micros((probed.timeout_ms * 1000.0) as u64);
    let mut text = format!(
        "{} at {}, {} probe, {most:?} at most\n",
        Paint::Strong.on(&target, in_color),
        probed.address,
        probed.kind
    );
    probed.steps.iter().for_each(|step| text += &render_step(step, in_color));
    let (word, paint) = if probed.passed { ("passed", Paint::Good) } else { ("failed", Paint::Bad) };
    let verdict = format!("{word} after {}: {}", milliseconds(probed.took_ms), probed.rule);
    let lines = wrap(&verdict, WIDTH, 2).replacen(word, &paint.on(word, in_color), 1);
    text += &lines;
    for note in &probed.notes {
        text += &wrap(&format!("  {note}"), WIDTH, 2);
    }
    let health = match probed.health {
        Some(health) => format!("  health stays {}: only the process's own probes count\n", health.word()),
        None => String::new(),
    };
    text + &health
}

/// `! ` marks the step that failed.
fn render_step(step: &ProbeStep, in_color: bool) -> String {
    const FOUND_AT: usize = 27;
    let mark = if step.passed { " " } else { "!" };
    let head = format!("{mark} {:<13}{:>10}  ", step.step.word(), milliseconds(step.took_ms));
    let mut text = String::new();
    if step.found.is_empty() {
        text = format!("{}\n", head.trim_end());
    }
    for (at, found) in step.found.iter().enumerate() {
        let before = if at == 0 { head.clone() } else { " ".repeat(head.chars().count()) };
        text += &wrap(&format!("{before}{found}"), WIDTH, FOUND_AT);
    }
    match step.passed {
        true => text,
        false => text.replacen('!', &Paint::Bad.on("!", in_color), 1),
    }
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.1} ms")
}
