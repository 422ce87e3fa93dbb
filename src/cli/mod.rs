//! The command line: one file for each command that is more than a call.

mod demo;
mod file;
mod plan;

use crate::control::Source;
use crate::server::{self, NotStarted, Start};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A layer-4/7 load balancer with health checking.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, propagate_version = true)]
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
    /// Show what a reload would change, before it changes it.
    ///
    /// Exit code 0: nothing changes; 3: something does; 1: a file is refused, and its problems are shown.
    #[command(after_help = "Example: evenkeel plan new.yaml --against /etc/evenkeel/evenkeel.yaml")]
    Plan(plan::Options),
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
    match Arguments::parse().command {
        Command::Run { config } => {
            let start = Start { source: Source::File(config), on_turn: None, on_ready: None, log: true };
            ended(server::run(start))
        }
        Command::Check { file, json } => check(&file, json),
        Command::Plan(options) => plan::run(&options),
        Command::Demo { port } => ended(demo::run(port)),
    }
}

fn ended(result: Result<(), NotStarted>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(not_started) => {
            for line in not_started.to_string().lines() {
                complain(line);
            }
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path, json: bool) -> ExitCode {
    let Ok((name, text)) = file::read(file) else { return ExitCode::FAILURE };
    let further = |plan: &_| file::beside(plan, &text);
    let (report, good) = crate::config::check_further(&name, &text, json, file::in_color(json), further);
    say(&report);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a command's result. A reader that has gone does not want the rest.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "evenkeel: {line}");
}
