//! A report as text, for a terminal of 80 columns.

use super::report::{
    CachePreview, Churn, HealthPreview, KeyChange, PoolPreview, ReloadPreview, RoomPreview, ServerPreview,
};
use crate::text::{self, WIDTH, wrap};

/// Names and servers of one kind that are shown before "and 12 more".
const SHOWN: usize = 10;

/// `+` is added, `-` removed, `~` changed.
pub fn render(report: &ReloadPreview) -> String {
    let mut page = PreviewText::default();
    if !report.changes {
        page.line(0, "nothing changes");
    }
    if !report.settings.is_empty() {
        page.line(0, "process");
        report.settings.iter().for_each(|change| page.change(4, change));
    }
    let listeners = &report.listeners;
    page.head(
        "listeners",
        [listeners.added.len(), listeners.removed.len(), listeners.changed.len()],
        listeners.kept.len(),
    );
    for listener in &listeners.removed {
        let at = listener.addresses.join(", ");
        page.line(2, &format!("- {} ({at}): stops accepting, finishes what is in flight", listener.name));
    }
    for listener in &listeners.added {
        page.line(2, &format!("+ {} ({})", listener.name, listener.addresses.join(", ")));
    }
    for listener in &listeners.changed {
        page.line(2, &format!("~ {}", listener.name));
        listener.keys.iter().for_each(|change| page.change(6, change));
    }
    let routes = &report.routes;
    page.head("routes", [routes.added.len(), routes.removed.len(), routes.changed.len()], routes.kept.len());
    let marked = [(&routes.removed, '-'), (&routes.added, '+'), (&routes.changed, '~')];
    for (list, mark) in marked {
        for routes in list {
            page.line(2, &format!("{mark} {}", routes.name));
            let (before, after) = (
                routes.changed.iter().map(|rule| &rule.old).collect::<Vec<_>>(),
                routes.changed.iter().map(|rule| &rule.new).collect::<Vec<_>>(),
            );
            let removed = routes.removed.iter().filter(|rule| !before.contains(rule));
            removed.for_each(|rule| page.line(6, &format!("- {rule}")));
            let added = routes.added.iter().filter(|rule| !after.contains(rule));
            added.for_each(|rule| page.line(6, &format!("+ {rule}")));
            for rule in &routes.changed {
                page.line(6, &format!("~ {}", rule.rule));
                rule.keys.iter().for_each(|change| page.change(8, change));
            }
            if routes.reordered {
                page.line(6, "rules that stay are tried in another order");
            } else if mark == '~' && routes.removed.is_empty() && routes.added.is_empty() {
                page.line(6, "rules have other names, or are there more often");
            }
        }
    }
    let pools = &report.pools;
    page.head("pools", [pools.added.len(), pools.removed.len(), pools.changed.len()], pools.kept.len());
    for (list, mark) in [(&pools.removed, '-'), (&pools.added, '+'), (&pools.changed, '~')] {
        list.iter().for_each(|pool| page.pool(mark, pool));
    }
    if let Some(cache) = &report.cache {
        page.cache(cache);
    }
    if !report.probes.is_empty() {
        let passed = report.probes.iter().filter(|probed| probed.passed).count();
        page.line(0, &format!("new probes: {passed} of {} pass now", report.probes.len()));
        for probed in report.probes.iter().filter(|probed| !probed.passed).take(SHOWN) {
            let failure = probed.failure.as_deref().unwrap_or_default();
            page.line(2, &format!("! {}/{}: {failure}", probed.pool, probed.server));
        }
    }
    if !report.warnings.is_empty() {
        page.line(0, "warnings");
        report.warnings.iter().for_each(|warning| page.line(2, &format!("! {warning}")));
    }
    page.0
}

#[derive(Default)]
struct PreviewText(String);

impl PreviewText {
    fn line(&mut self, indent: usize, text: &str) {
        self.0.push_str(&wrap(&format!("{:indent$}{text}", ""), WIDTH, indent + 2));
    }

    /// `pools: 1 added, 2 changed, 3 kept`; nothing if there are none.
    fn head(&mut self, what: &str, [added, removed, changed]: [usize; 3], kept: usize) {
        let counts = [(added, "added"), (removed, "removed"), (changed, "changed"), (kept, "kept")];
        let counts: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if !counts.is_empty() {
            self.line(0, &format!("{what}: {}", counts.join(", ")));
        }
    }

    fn cache(&mut self, cache: &CachePreview) {
        let CachePreview { responses, unreachable, memory, disk } = *cache;
        if unreachable > 0 {
            let share = unreachable as f64 / responses as f64 * 100.0;
            let told = format!(
                "cache: {share:.0}% of what is kept ({unreachable} of {responses} responses) will be found by no request \
                 any more; servers are asked for it anew"
            );
            self.line(0, &told);
        }
        for (RoomPreview { bytes, over }, place) in [(memory, "in memory"), (disk, "on the disk")] {
            let (all, over_text) = (text::bytes(bytes), text::bytes(over));
            if over == bytes && over > 0 {
                self.line(0, &format!("cache: all that is kept {place} ({all}) goes"));
            } else if over > 0 {
                self.line(0, &format!("cache: {over_text} of the {all} that are kept {place} have no room there any more, and go"));
            }
        }
    }

    fn change(&mut self, indent: usize, change: &KeyChange) {
        self.line(indent, &told(change));
    }

    fn pool(&mut self, mark: char, pool: &PoolPreview) {
        self.line(2, &format!("{mark} {}", pool.name));
        pool.keys.iter().for_each(|change| self.change(6, change));
        pool.notes.iter().for_each(|note| self.line(6, note));
        let servers = &pool.servers;
        for (list, mark) in [(&servers.removed, '-'), (&servers.added, '+'), (&servers.changed, '~')] {
            for server in list.iter().take(SHOWN) {
                self.line(6, &format!("{mark} {}", told_server(mark, server)));
            }
            if list.len() > SHOWN {
                self.line(6, &format!("{mark} and {} more servers", list.len() - SHOWN));
            }
        }
        if mark != '~' {
            return;
        }
        if !servers.kept.is_empty() {
            self.line(6, &format!("servers kept: {}", names(&servers.kept)));
        }
        self.health(&pool.health);
        if let Some(churn) = &pool.churn {
            self.churn(churn);
        }
    }

    fn health(&mut self, health: &HealthPreview) {
        let lists = [
            (&health.kept, "health and counts stay"),
            (&health.counts_reset, "state stays, counts start anew for the new probe"),
            (&health.assumed_up, "probed no longer, taken to be up"),
            (&health.probing, "no requests until a probe has passed"),
        ];
        for (list, what) in lists.iter().filter(|(list, _)| !list.is_empty()) {
            self.line(6, &format!("{what}: {}", names(list)));
        }
    }

    fn churn(&mut self, churn: &Churn) {
        let Churn { keys, moved, .. } = churn;
        let (share, minimum) = (churn.share * 100.0, churn.minimum * 100.0);
        self.line(
            6,
            &format!(
                "keys that move: {share:.2}% ({moved} of {keys} sampled); by weight, {minimum:.2}% must"
            ),
        );
        for share in churn.servers.iter().take(SHOWN) {
            let (before, after) = (share.before * 100.0, share.after * 100.0);
            self.line(8, &format!("{} ({}): {before:.2}% -> {after:.2}%", share.server, share.address));
        }
        if churn.servers.len() > SHOWN {
            self.line(8, &format!("and {} more servers", churn.servers.len() - SHOWN));
        }
    }
}

/// `weight: 100 -> 50`
fn told(change: &KeyChange) -> String {
    match (&change.old, &change.new) {
        (None, None) => change.key.clone(),
        (old, new) => {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
            format!("{}: {} -> {}", change.key, value(old), value(new))
        }
    }
}

fn told_server(mark: char, server: &ServerPreview) -> String {
    let mut text = server.name.clone();
    if server.address != server.name {
        text += &format!(" ({})", server.address);
    }
    if mark == '+' && server.weight != 100 {
        text += &format!(", weight {}", server.weight);
    }
    let keys: Vec<_> = server.keys.iter().map(told).collect();
    if !keys.is_empty() {
        text += &format!(": {}", keys.join(", "));
    }
    if server.drains {
        text += match &server.drains_within {
            Some(within) => format!(": drains up to {within}"),
            None => "; drains, what is in flight finishes".to_owned(),
        }
        .as_str();
        if server.in_flight > 0 {
            text += &format!(", {} in flight", server.in_flight);
        }
    }
    text
}

/// `app1, app2, app3`
fn names(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
