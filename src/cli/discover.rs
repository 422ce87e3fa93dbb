//! `discover`: asks a pool's sources now, step by step.

use super::client::ProcessAddress;
use super::table::in_color;
use super::{complain, file, say};
use crate::api::ApiError;
use crate::api::status::Status;
use crate::config::Plan;
use crate::config::plan::PoolPlan;
use crate::discover::found::FoundServer;
use crate::discover::membership::SourceReply;
use crate::discover::{self, SourceAnswer};
use crate::text::{Paint, fold};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct DiscoverOptions {
    /// The pool whose sources are asked.
    #[arg(value_name = "POOL")]
    pool: String,
    /// Ask as this file says; without it, as the file of the running process does.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print what each source says as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &DiscoverOptions) -> ExitCode {
    ask(options).unwrap_or_else(|code| code)
}

fn ask(options: &DiscoverOptions) -> Result<ExitCode, ExitCode> {
    let file = match &options.config {
        Some(file) => file.clone(),
        None => PathBuf::from(options.reach.get::<Status>("/api/v1/status")?.process.configuration),
    };
    // What the file names beside sources is not needed to ask them.
    let (plan, _) = file::plan(&file, options.json, |_, _| Vec::new())?;
    let Some(pool) = plan.pools.iter().find(|pool| *pool.name == *options.pool) else {
        let error = ApiError::no_pool(&options.pool, plan.pools.iter().map(|pool| &*pool.name));
        complain(&error.message);
        error.help.iter().for_each(|help| complain(help));
        return Err(ExitCode::FAILURE);
    };
    if pool.sources.is_empty() {
        complain(&format!("pool {} lists all of its servers; there is no source to ask", pool.name));
        return Err(ExitCode::FAILURE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        complain(&format!("cannot start: {error}"));
        ExitCode::FAILURE
    })?;
    let answers = runtime.block_on(answers(&plan, pool));
    match options.json {
        true => say(&format!("{:#}\n", answers.iter().map(to_json).collect::<Value>())),
        false => answers.iter().for_each(|answer| say(&render(answer, in_color()))),
    }
    let has_failed = answers.iter().any(|(_, answer)| answer.problem.is_some());
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What each of a pool's sources says, by what it is called.
async fn answers(plan: &Plan, pool: &PoolPlan) -> Vec<(String, SourceAnswer)> {
    let mut answers = Vec::new();
    for source in &pool.sources {
        let answer =
            discover::build(source, &plan.dns, discover::SharedNames::default()).ask().await.bounded();
        answers.push((source.label(), within(answer, source.rules.max_servers)));
    }
    answers
}

/// A set of more servers than a source may name is refused whole.
fn within(answer: SourceAnswer, most: u32) -> SourceAnswer {
    match servers(&answer).len() {
        named if named > most as usize => {
            let problem =
                format!("it names {named} servers, and `max_servers` is {most}: the set is refused");
            let mut steps = answer.steps;
            steps.push(problem.clone());
            SourceAnswer::failed(problem, steps)
        }
        _ => answer,
    }
}

fn servers(answer: &SourceAnswer) -> &[FoundServer] {
    match &answer.reply {
        SourceReply::Servers(servers) => servers,
        SourceReply::Failed => &[],
    }
}

fn to_json((source, answer): &(String, SourceAnswer)) -> Value {
    let server = |server: &FoundServer| {
        json!({
            "name": *server.name,
            "address": server.address.to_string(),
            "weight": server.weight.map(crate::units::Weight::get),
            "drain": server.drain,
            "backup": server.backup,
        })
    };
    json!({
        "source": source,
        "steps": answer.steps,
        "problem": answer.problem,
        "answers": answer.reply != SourceReply::Failed,
        "servers": servers(answer).iter().map(server).collect::<Vec<_>>(),
    })
}

fn render((source, answer): &(String, SourceAnswer), in_color: bool) -> String {
    let mut text = format!("{}\n", Paint::Strong.on(source, in_color));
    for step in &answer.steps {
        text += &fold(&format!("  {step}\n"));
    }
    for server in servers(answer) {
        let weight = server.weight.map_or_else(String::new, |weight| format!(", weight {}", weight.get()));
        let notes = [(server.drain, ", drain"), (server.backup, ", backup")];
        let notes: String = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
        text += &format!("    {} at {}{weight}{notes}\n", server.name, server.address);
    }
    let (word, paint) = match (&answer.reply, &answer.problem) {
        (SourceReply::Failed, _) => ("fails: the servers in force stay", Paint::Bad),
        (SourceReply::Servers(_), Some(_)) => ("answers in part: the rest stays as it is", Paint::Caution),
        (SourceReply::Servers(servers), None) if servers.is_empty() => {
            ("says that there are no servers: when_empty holds", Paint::Caution)
        }
        (SourceReply::Servers(_), None) => ("answers", Paint::Good),
    };
    text + &format!("  {}\n", paint.on(word, in_color))
}
