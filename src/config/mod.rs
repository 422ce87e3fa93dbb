//! From YAML text to a plan: every problem at once, each with its place and what would work.
//!
//! `yaml` makes a `tree` that knows where everything stands, `keys` says which keys there are, `place` and
//! `section` how they are read; the files named after a section turn it into its part of the `plan`.
//! No files, clocks or sockets: text in, plan out.

mod acme;
mod address;
mod cache;
mod circles;
mod compress;
mod discover;
mod effective;
mod fallback;
mod field_name;
mod file;
mod filters;
#[doc(hidden)]
pub mod fuzzed;
mod geo;
mod health;
mod inheritable;
pub mod keys;
mod known;
mod limits;
mod listener;
mod made_for_one;
mod matcher;
mod names;
mod networks;
mod outlier;
mod place;
pub mod plan;
mod policy;
mod pool;
pub mod problem;
mod process;
mod purge_nodes;
mod purges;
mod render;
mod route;
mod rule_target;
pub mod schema;
mod section;
mod servers_file;
mod sticky;
mod success_rate;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod tree;
mod trust;
mod udp;
mod yaml;

pub(crate) use effective::policy as write_policy;
pub use effective::write;
pub use plan::Plan;
pub use problem::{Problem, Problems, Severity, Spot};
pub use servers_file::parse_servers;

/// Where the commands look for a process unless told otherwise: the default of `admin.socket`.
pub const DEFAULT_SOCKET: &str = "/run/evenkeel/admin.sock";
/// Where operators' words are kept.
pub const DEFAULT_STATE_FILE: &str = "/var/lib/evenkeel/state.json";

use crate::pool::outlier::{allowance, told_allowance};
use serde_json::json;
use std::cell::RefCell;

/// Reads a configuration. The problems beside a plan are warnings; those instead of one hold at least an error.
pub fn parse(text: &str) -> Result<(Plan, Problems), Problems> {
    let found = RefCell::new(Problems::default());
    let root = yaml::read(text, &found);
    let plan = root.and_then(|root| file::plan(place::At::root(&root, &found)));
    let mut problems = found.into_inner();
    problems.sort();
    match plan {
        Some(plan) if !problems.has_errors() => Ok((plan, problems)),
        _ => Err(problems),
    }
}

/// Where each value stands that these steps lead to: keys, and the indexes of lists. As near as there is one.
pub fn locate<const N: usize>(text: &str, all: &[[&str; N]]) -> Vec<Spot> {
    let root = yaml::read(text, &RefCell::default());
    let spot = |steps: &[&str; N]| root.as_ref().map(|root| tree::locate(root, steps)).unwrap_or_default();
    all.iter().map(spot).collect()
}

/// The same of one value.
pub fn locate_one(text: &str, steps: &[&str]) -> Spot {
    let root = yaml::read(text, &RefCell::default());
    root.as_ref().map(|root| tree::locate(root, steps)).unwrap_or_default()
}

/// What `evenkeel check` prints for a file, and whether the file is good. Warnings do not make it bad.
pub fn check(file_name: &str, text: &str, json: bool, color: bool) -> (String, bool) {
    check_further(file_name, text, json, color, |_| Vec::new())
}

/// The same, with what `further` finds about a plan that is good by itself.
pub fn check_further(
    file_name: &str,
    text: &str,
    json: bool,
    color: bool,
    further: impl FnOnce(&Plan) -> Vec<Problem>,
) -> (String, bool) {
    let (plan, problems) = match parse(text) {
        Ok((plan, mut problems)) => {
            further(&plan).into_iter().for_each(|problem| problems.push(problem));
            problems.sort();
            (Some(plan).filter(|_| !problems.has_errors()), problems)
        }
        Err(problems) => (None, problems),
    };
    let ok = plan.is_some();
    if json {
        let report = json!({
            "file": file_name,
            "ok": ok,
            "left_out": problems.left_out(),
            "problems": problems.to_json(file_name),
        });
        return (format!("{report:#}\n"), ok);
    }
    let mut report = problems.render(file_name, text, color);
    let warnings = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let errors = problems.iter().count() - warnings + problems.left_out();
    let warned = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
    report += &match &plan {
        Some(plan) => {
            format!(
                "{file_name}: ok: {}{warned}\n{}",
                summary(plan),
                ceilings(plan) + &countings(plan) + &compress::notes(plan)
            )
        }
        None => format!("{file_name}: refused: {}{warned}\n", counted(errors, "error")),
    };
    (report, ok)
}

/// `2 listeners, 3 pools, 12 servers`, and how many sources of more there are, if any
fn summary(plan: &Plan) -> String {
    let servers = plan.pools.iter().map(|pool| pool.servers.len()).sum();
    let sources: usize = plan.pools.iter().map(|pool| pool.sources.len()).sum();
    let mut counts =
        vec![(plan.listeners.len(), "listener"), (plan.pools.len(), "pool"), (servers, "server")];
    counts.extend((sources > 0).then_some((sources, "source")));
    counts.into_iter().map(|(count, what)| counted(count, what)).collect::<Vec<_>>().join(", ")
}

/// How many servers each pool may do without, a line for each that ejects; where they are not all known, only the share is.
fn ceilings(plan: &Plan) -> String {
    let told = |pool: &plan::PoolPlan| {
        let most = pool.outlier?.max_ejected;
        let of = pool.servers.iter().filter(|server| !server.drain).count();
        Some(match pool.sources.is_empty() {
            true => format!("  pools.{}.outlier: {}\n", pool.name, told_allowance(allowance(of, most), of)),
            false => format!(
                "  pools.{}.outlier: of those that are found {most} may be down or ejected\n",
                pool.name
            ),
        })
    };
    plan.pools.iter().filter_map(|pool| told(pool)).collect()
}

/// Where clients are counted one by one though no proxy is named: right where they connect themselves.
fn countings(plan: &Plan) -> String {
    let by_client = |policy: &plan::policy::PolicyPlan| policy.limits.is_by_client();
    let counts = |listener: &plan::ListenerPlan| {
        let named = |place: Option<usize>| place.is_some_and(|place| by_client(&plan.policies[place].policy));
        let rules = match listener.target {
            plan::TargetPlan::Routes(routes) => plan.routes[routes].rules.as_slice(),
            _ => &[],
        };
        named(listener.policy) || rules.iter().any(|rule| named(rule.policy) || by_client(&rule.own_policy))
    };
    let told = |listener: &plan::ListenerPlan| {
        format!(
            "  listeners.{}: clients are those who connect: behind a proxy, name it in `trusted_proxies`\n",
            listener.name
        )
    };
    let unnamed = plan.listeners.iter().filter(|listener| {
        listener.trusted_proxies.is_empty() && listener.proxies.is_empty() && counts(listener)
    });
    unnamed.map(|listener| told(listener)).collect()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
