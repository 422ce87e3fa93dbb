//! The command line: one file for each command that is more than a call.

mod client;
mod demo;
mod discover;
mod events;
mod explain;
mod file;
mod generate;
mod limits;
mod maintenance;
mod operate;
mod plan;
mod probe;
mod purge;
mod reload;
mod status;
mod table;
mod top;
mod upgrade;

use crate::api::status::ReportedState;
use crate::control::Source;
use crate::server::{self, NotStarted, Start};
use crate::text::fold;
use clap::{Parser, Subcommand};
use client::RequestFailed;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// A layer-4/7 load balancer with health checking.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, propagate_version = true, max_term_width = 80)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance traffic as a configuration file says, in the foreground.
    ///
    /// SIGHUP reloads the file, SIGTERM finishes what is in flight and ends, SIGINT ends at once,
    /// SIGUSR1 reopens log files, SIGUSR2 starts the program anew and hands everything over to it.
    #[command(after_help = "Example: evenkeel run -c /etc/evenkeel/evenkeel.yaml")]
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show every problem of a configuration file at once.
    #[command(after_help = "Example: evenkeel check conf/shop.yaml")]
    Check {
        /// The configuration file.
        #[arg(default_value = "evenkeel.yaml")]
        file: PathBuf,
        /// Print the problems as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every default filled in, as YAML.
    ///
    /// What is printed means the same as the file, and is the same for all files that mean the same: it shows what is in
    /// effect, and what differs between two files. Exit code 1: the file is refused, and its problems are shown on standard
    /// error.
    #[command(
        after_help = "Examples:\n  evenkeel config conf/shop.yaml\n  diff <(evenkeel config old.yaml) <(evenkeel config new.yaml)"
    )]
    Config {
        /// The configuration file.
        #[arg(default_value = "evenkeel.yaml")]
        file: PathBuf,
    },
    /// Show what a reload would change, before it changes it.
    ///
    /// Exit code 0: nothing changes; 3: something does; 1: a file is refused, and its problems are shown.
    #[command(
        after_help = "Examples:\n  evenkeel plan\n  evenkeel plan new.yaml --probe\n  evenkeel plan new.yaml --against /etc/evenkeel/evenkeel.yaml"
    )]
    Plan(plan::PlanOptions),
    /// Have the running process read its file again, and show what changed.
    ///
    /// Exit code 1: the file was refused, and nothing has changed.
    #[command(after_help = "Examples:\n  evenkeel reload\n  evenkeel reload --guard 60s")]
    Reload(reload::ReloadOptions),
    /// Show pools and servers as they are now.
    #[command(after_help = "Example: evenkeel status app")]
    Status(status::StatusOptions),
    /// Watch pools and servers, live, and drain them from the keyboard.
    ///
    /// `?` shows the keys. For scripts there is `evenkeel status --json`.
    #[command(after_help = "Example: evenkeel top --interval 500ms")]
    Top(top::TopOptions),
    /// Send a server nothing new; what is in flight finishes, and probes go on.
    ///
    /// Refused if what is left of the pool cannot carry what the pool carries now.
    #[command(after_help = "Example: evenkeel drain app/app3 --wait")]
    Drain(operate::RemovalOptions),
    /// Send a server nothing at all, not even probes.
    #[command(after_help = "Example: evenkeel maint app/app3 --wait")]
    Maint(operate::RemovalOptions),
    /// End an operator's drain or maintenance.
    ///
    /// A server that was in maintenance is probed before it gets requests. What the configuration drains stays drained.
    #[command(after_help = "Example: evenkeel ready app/app3")]
    Ready(operate::ReturnOptions),
    /// Give a server another weight, until it is given back or the server leaves the configuration.
    #[command(after_help = "Example: evenkeel weight app/app3 50")]
    Weight(operate::WeightOptions),
    /// Take routes out of service and bring them back; their requests are answered with 503, and probes go on.
    ///
    /// An operator's word counts above the configuration's `maintenance.enabled`, over reloads, upgrades and restarts.
    #[command(
        after_help = "Examples:\n  evenkeel maintenance\n  evenkeel maintenance shop on\n  evenkeel maintenance shop/1 off"
    )]
    Maintenance(maintenance::MaintenanceOptions),
    /// Show what became of servers, pools and the configuration, when, and why.
    #[command(after_help = "Example: evenkeel events app/app3 --since 2h")]
    Events(events::EventsOptions),
    /// Show which clients are banned, for how long, and by what.
    #[command(after_help = "Example: evenkeel bans")]
    Bans(limits::LookOptions),
    /// Keep a client out of all HTTP listeners for a while.
    #[command(after_help = "Example: evenkeel ban 192.0.2.7 --for 1h")]
    Ban(limits::BanOptions),
    /// End the bans of a client, an operator's and those by limits.
    #[command(after_help = "Example: evenkeel unban 192.0.2.7")]
    Unban(limits::UnbanOptions),
    /// Show which clients ask more than they may, those with the deepest debt first.
    #[command(after_help = "Example: evenkeel limits")]
    Limits(limits::LookOptions),
    /// Have what the cache keeps asked about before it is used again, by URL, tag or prefix.
    #[command(
        after_help = "Examples:\n  evenkeel purge https://shop.example/page\n  evenkeel purge --tag cat_p_1 --tag cat_p_2\n  evenkeel purge --prefix shop.example/static/ --hard"
    )]
    Purge(purge::PurgeOptions),
    /// Explain why a request goes where it goes: routes, every server, and the winner.
    #[command(
        after_help = "Examples:\n  evenkeel explain GET https://shop.example/cart -H 'Cookie: session=s1'\n  evenkeel explain https://shop.example/ -c new.yaml"
    )]
    Explain(explain::ExplainOptions),
    /// Probe a server once, now, and show each step with what it found; nothing is changed by it.
    ///
    /// Exit code 0: the probe passed; 1: it failed, or there was none.
    #[command(
        after_help = "Examples:\n  evenkeel probe app/app3\n  evenkeel probe app/app3 -c new.yaml --json"
    )]
    Probe(probe::ProbeOptions),
    /// Ask a pool's sources of servers now, and show each step and who they name; nothing is changed by it.
    ///
    /// Exit code 0: all answer; 1: one does not, or only in part.
    #[command(after_help = "Examples:\n  evenkeel discover app\n  evenkeel discover app -c new.yaml --json")]
    Discover(discover::DiscoverOptions),
    /// Start the program anew, as it is on disk now, and hand everything over to it.
    ///
    /// No connection is refused or reset. Exit code 1: the new process did not come up, and the old one goes on.
    #[command(after_help = "Example: evenkeel upgrade")]
    Upgrade(upgrade::UpgradeOptions),
    #[command(flatten)]
    Generate(generate::Generate),
    /// See it work: three small app servers and a balancer in front, no file needed.
    #[command(after_help = "Example: evenkeel demo")]
    Demo {
        /// The port to listen on; 0 lets the kernel choose.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
}

/// Runs the program; the exit code is 0 for success, 1 for refused or failed, 2 for wrong usage.
pub fn main() -> ExitCode {
    if let Some(code) = crate::control::launch() {
        return code;
    }
    crate::control::remember_program();
    match Arguments::parse().command {
        Command::Run { config } => {
            let start = Start { source: Source::File(config), on_turn: None, on_ready: None, log: true };
            ended(server::run(start))
        }
        Command::Check { file, json } => check(&file, json),
        Command::Config { file } => config(&file),
        Command::Plan(options) => plan::run(&options),
        Command::Reload(options) => done(reload::run(&options)),
        Command::Status(options) => done(status::run(&options)),
        Command::Top(options) => done(top::run(&options)),
        Command::Drain(options) => done(operate::remove(&options, ReportedState::Drain)),
        Command::Maint(options) => done(operate::remove(&options, ReportedState::Maint)),
        Command::Ready(options) => done(operate::ready(&options)),
        Command::Weight(options) => done(operate::weigh(&options)),
        Command::Maintenance(options) => done(maintenance::run(&options)),
        Command::Events(options) => done(events::run(&options)),
        Command::Bans(options) => done(limits::bans(&options)),
        Command::Ban(options) => done(limits::ban(&options)),
        Command::Unban(options) => done(limits::unban(&options)),
        Command::Limits(options) => done(limits::limits(&options)),
        Command::Purge(options) => done(purge::run(&options)),
        Command::Explain(options) => explain::run(&options),
        Command::Probe(options) => probe::run(&options),
        Command::Discover(options) => discover::run(&options),
        Command::Upgrade(options) => done(upgrade::run(&options)),
        Command::Generate(what) => generate::run(what),
        Command::Demo { port } => ended(demo::run(port)),
    }
}

fn done(result: Result<ExitCode, RequestFailed>) -> ExitCode {
    result.unwrap_or_else(RequestFailed::into)
}

fn ended(result: Result<(), NotStarted>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(not_started) => {
            // Nobody may read it, and the signals' defaults are gone.
            crate::log::at_last(move || not_started.to_string().lines().for_each(complain));
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path, json: bool) -> ExitCode {
    let (name, text) = match file::read_or_hint(file, "check") {
        Ok(read) => read,
        Err(refused) => return refused.into(),
    };
    let further = |plan: &_| file::beside(plan, &text);
    let (report, good) = crate::config::check_further(&name, &text, json, file::in_color(json), further);
    say(&report);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// It judges the text alone: what is in effect does not depend on whether this machine has the certificates.
fn config(file: &std::path::Path) -> ExitCode {
    let (name, text) = match file::read_or_hint(file, "config") {
        Ok(read) => read,
        Err(refused) => return refused.into(),
    };
    if let Ok((plan, _)) = crate::config::parse(&text) {
        say(&crate::config::write(&plan));
        return ExitCode::SUCCESS;
    }
    // Standard output is for the configuration, and mostly goes into a file.
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (report, _) = crate::config::check(&name, &text, false, color);
    let _ = std::io::stderr().write_all(report.as_bytes());
    ExitCode::FAILURE
}

/// Prints a command's result. A reader that has gone does not want the rest.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line for whoever waits at the terminal; a file or a pipe gets it in one piece.
fn complain(line: &str) {
    let mut error = std::io::stderr();
    let line = format!("evenkeel: {line}\n");
    let line = if error.is_terminal() { fold(&line) } else { line };
    let _ = error.write_all(line.as_bytes());
}
