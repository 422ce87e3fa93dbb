//! `upgrade`: has the running process start the program anew and hand over to it.

use super::client::{ProcessAddress, RequestFailed};
use super::{complain, say};
use crate::api::Status;
use crate::text::ago;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The process gives the next one 60 s.
const PATIENCE: Duration = Duration::from_secs(75);

#[derive(Debug, Args)]
pub(super) struct UpgradeOptions {
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &UpgradeOptions) -> Result<ExitCode, RequestFailed> {
    let before: Status = options.reach.get("/api/v1/status")?;
    let _: Value = options.reach.change(Method::POST, "/api/v1/upgrade", &json!({}))?;
    let mut since = Instant::now();
    let mut waits = false;
    while since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        let now: Status = options.reach.get("/api/v1/status")?;
        if now.process.pid != before.process.pid {
            if options.json {
                let outcome = json!({
                    "from": { "pid": before.process.pid, "version": before.process.version },
                    "to": { "pid": now.process.pid, "version": now.process.version },
                });
                say(&format!("{outcome:#}\n"));
            } else {
                say(&format!(
                    "upgraded: process {} (version {}) has taken over\n  from {} (version {}), which finishes what it has\n",
                    now.process.pid, now.process.version, before.process.pid, before.process.version
                ));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(until) = now.process.upgrade_waits_until {
            // The next process has its time when it begins.
            since = Instant::now();
            if !waits {
                let left = ago(now.process.now, until);
                complain(&format!(
                    "a reload is under watch for {left} more at most; the upgrade waits for its end"
                ));
            }
            waits = true;
            continue;
        }
        if !now.process.upgrading {
            let why = now.process.last_upgrade_failure.unwrap_or_default();
            complain(&format!("upgrade failed: {why}"));
            complain(&format!("process {} goes on as if nothing had happened", before.process.pid));
            return Ok(ExitCode::FAILURE);
        }
    }
    complain(&format!("neither done nor failed after {PATIENCE:?}; see `evenkeel events --kind process`"));
    Ok(ExitCode::FAILURE)
}
