//! An explanation for people.

use super::report::{Candidate, Report};

/// More servers than this are told in numbers, unless they matter.
const SHOWN: usize = 24;

/// Text of 80 columns at most, as long as names are not longer.
pub fn render(report: &Report) -> String {
    let mut text = format!("{}\n", report.request);
    text += &format!("listener  {} ({})\n", report.listener.name, report.listener.addresses.join(", "));
    if let Some(routes) = &report.routes {
        text += &format!("routes    {routes}\n");
        for rule in &report.rules {
            match &rule.misfit {
                None if rule.matched => text += &format!("  > {} -> {}: matches\n", rule.name, rule.pool),
                misfit => {
                    let misfit = misfit.as_deref().unwrap_or_default();
                    text += &format!("    {} -> {}: {misfit}\n", rule.name, rule.pool);
                }
            }
        }
    }
    if let Some(redirect) = &report.redirect {
        text += &format!("redirect  {redirect}\n");
    }
    if let Some(pool) = &report.pool {
        text += &format!("pool      {pool}, {}\n", report.algorithm.as_deref().unwrap_or_default());
        if let Some(key) = &report.key {
            text += &format!("key       {key}\n");
        }
        if report.failing_open {
            text += "  NO HEALTHY SERVER: every server that nobody drains is used\n";
        }
        text += &candidates(&report.candidates);
    }
    match &report.winner {
        Some(winner) => {
            text += &format!("winner    {} ({})\n          {}\n", winner.name, winner.address, report.rule);
        }
        None => text += &format!("no server {}\n", report.rule),
    }
    if !report.then.is_empty() {
        let names: Vec<_> = report.then.iter().map(|server| server.name.as_str()).collect();
        text += &format!("if it fails  {}\n", names.join(", then "));
    }
    text
}

fn candidates(all: &[Candidate]) -> String {
    let matters = |candidate: &&Candidate| candidate.chosen;
    let shown: Vec<_> = match all.len() {
        0..=SHOWN => all.iter().collect(),
        _ => all.iter().take(SHOWN).chain(all.iter().skip(SHOWN).filter(matters)).collect(),
    };
    let width = |text: fn(&Candidate) -> String| {
        shown.iter().map(|candidate| text(candidate).chars().count()).max().unwrap_or(0)
    };
    let names = width(|candidate| candidate.server.name.clone());
    let loads = width(load);
    let mut text = String::new();
    for candidate in &shown {
        let mark = if candidate.chosen { '>' } else { ' ' };
        let why = match (&candidate.out, &candidate.score) {
            (Some(out), _) => format!("out: {out}"),
            (None, Some(score)) => score.clone(),
            (None, None) => String::new(),
        };
        let line = format!("  {mark} {:names$}  {:loads$}  {why}", candidate.server.name, load(candidate));
        text += &format!("{}\n", line.trim_end());
    }
    if shown.len() < all.len() {
        text += &format!("    and {} more\n", all.len() - shown.len());
    }
    text
}

/// `up, 3 of 10 in flight, weight 50`
fn load(candidate: &Candidate) -> String {
    let limit = candidate.max_connections.map_or_else(String::new, |limit| format!(" of {limit}"));
    let weight = match candidate.weight {
        100 => String::new(),
        weight => format!(", weight {weight}"),
    };
    format!("{}, {}{limit} in flight{weight}", candidate.health, candidate.in_flight)
}
