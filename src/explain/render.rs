//! An explanation for people.

use super::report::{Candidate, ExplainedCache, ExplainedRule, Explanation};
use crate::text::{Paint, fold};

/// More servers than this are told in numbers, unless they matter.
const SHOWN: usize = 24;

/// Text of 80 columns at most.
pub fn render(report: &Explanation, in_color: bool) -> String {
    let mut text = format!("{}\n", Paint::Strong.on(&report.request, in_color));
    text += &format!("listener  {} ({})\n", report.listener.name, report.listener.addresses.join(", "));
    if let Some(routes) = &report.routes {
        text += &format!("routes    {routes}\n");
        report.rules.iter().for_each(|rule| text += &told(rule, in_color));
    }
    for (index, phase) in report.policy.iter().enumerate() {
        let label = if index == 0 { "policy" } else { "" };
        let line = format!("{}: {}", phase.phase, phase.does);
        let line = if phase.decides { Paint::Good.on(&line, in_color) } else { line };
        text += &format!("{label:<9} {line}\n");
    }
    report.cache.iter().for_each(|cache| text += &kept(cache, in_color));
    if report.country.is_some() || report.asn.is_some() {
        let country = report.country.as_deref().unwrap_or("no known country");
        let asn = report.asn.map_or_else(String::new, |asn| format!(", AS{asn}"));
        text += &format!("client    in {country}{asn}\n");
    }
    if let Some(redirect) = &report.redirect {
        text += &format!("redirect  {redirect}\n");
    }
    if let Some(respond) = &report.respond {
        text += &format!("respond   {respond}\n");
    }
    if let Some(pool) = &report.pool {
        text += &format!("pool      {pool}, {}\n", report.algorithm.as_deref().unwrap_or_default());
        if let Some(from) = &report.fallback_from {
            let loud = format!("the fallback of {from}, which has nothing usable");
            text += &format!("          {}\n", Paint::Caution.on(&loud, in_color));
        }
        for source in &report.sources {
            text += &format!("servers   from {source}\n");
        }
        if let Some(key) = &report.key {
            text += &format!("key       {key}\n");
        }
        if let Some(hash) = &report.hash {
            text += &format!("hash      {hash}\n");
        }
        if let Some(sticky) = &report.sticky {
            text += &format!("sticky    {sticky}\n");
        }
        if report.failing_open {
            let loud = "NO HEALTHY SERVER: every server that nobody drains is used";
            let because = report.failing_open_because.as_deref().unwrap_or_default();
            text += &format!("  {}\n    {because}\n", Paint::Bad.on(loud, in_color));
            text += "    (`when_all_unhealthy: use_all`)\n";
        }
        text += &candidates(&report.candidates, in_color);
    }
    match &report.winner {
        Some(winner) => {
            let name = Paint::Good.on(&winner.name, in_color);
            text += &format!("winner    {name} ({})\n          {}\n", winner.address, report.rule);
        }
        None if report.redirect.is_some() || report.respond.is_some() => {
            text += &format!("          {}\n", report.rule)
        }
        None => text += &(Paint::Bad.on(&format!("no server {}", report.rule), in_color) + "\n"),
    }
    if !report.then.is_empty() {
        let names: Vec<_> = report.then.iter().map(|server| server.name.as_str()).collect();
        text += &format!("if it fails  {}\n", names.join(", then "));
    }
    fold(&text)
}

fn told(rule: &ExplainedRule, in_color: bool) -> String {
    let (name, target) = (&rule.name, &rule.target);
    match &rule.misfit {
        None if rule.matched => {
            format!("  {}\n", Paint::Good.on(&format!("> {name} -> {target}: matches"), in_color))
        }
        misfit => {
            let misfit = misfit.as_deref().unwrap_or_default();
            format!("    {}\n", Paint::Faint.on(&format!("{name} -> {target}: {misfit}"), in_color))
        }
    }
}

/// What is kept under the request's key.
fn kept(cache: &ExplainedCache, in_color: bool) -> String {
    /// More of anything are told in numbers.
    const SHOWN: usize = 8;
    let more = |all: usize| match all.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let mut text = String::new();
    // The one for this request, then the newest.
    let chosen = cache.stored.iter().filter(|stored| stored.chosen);
    let others = cache.stored.iter().filter(|stored| !stored.chosen);
    for (index, stored) in chosen.chain(others).take(SHOWN).enumerate() {
        let label = if index == 0 { "kept" } else { "" };
        let mark = if stored.chosen { "> " } else { "  " };
        let mut line = format!(
            "{mark}{}, {} bytes, {}s old: {}",
            stored.status, stored.bytes, stored.age_s, stored.standing
        );
        if !stored.varies.is_empty() {
            line += &format!("; for {}", stored.varies.join(", "));
        }
        if !stored.compressed.is_empty() {
            line += &format!("; compressed {}", stored.compressed.join(", "));
        }
        if !stored.tags.is_empty() {
            let tags = &stored.tags[..stored.tags.len().min(SHOWN)];
            line += &format!("; tags {}{}", tags.join(", "), more(stored.tags.len()));
        }
        let line = if stored.chosen { Paint::Good.on(&line, in_color) } else { line };
        text += &format!("{label:<9} {line}\n");
    }
    if cache.stored.len() > SHOWN {
        text += &format!("         {}\n", more(cache.stored.len()));
    }
    text
}

fn candidates(all: &[Candidate], in_color: bool) -> String {
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
        let (mark, paint) = match (candidate.chosen, &candidate.out) {
            (true, _) => ("  > ", Some(Paint::Good)),
            (false, Some(_)) => ("    ", Some(Paint::Caution)),
            (false, None) => ("    ", None),
        };
        let why = match (&candidate.out, &candidate.score) {
            (Some(out), _) => format!("out: {out}"),
            (None, Some(score)) => score.clone(),
            (None, None) => String::new(),
        };
        let line = format!("{:names$}  {:loads$}  {why}", candidate.server.name, load(candidate));
        let line = line.trim_end();
        text +=
            &format!("{mark}{}\n", paint.map_or_else(|| line.to_owned(), |paint| paint.on(line, in_color)));
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
    // As `status` has it: what probes say is not all.
    let state = match (&*candidate.health, &candidate.ejection) {
        ("up", Some(_)) => "ejected",
        (health, _) => health,
    };
    format!("{state}, {}{limit} in flight{weight}", candidate.in_flight)
}
