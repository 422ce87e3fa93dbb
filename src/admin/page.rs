//! The status page: plain tables that need no script. With one, the part between header and footer is fetched anew every
//! other second; it is the same text, written here, so that nothing is ever put together from names in a browser.

use super::{Admin, view};
use crate::api::cache::CacheStatus;
use crate::api::receipt::GuardState;
use crate::api::status::{EjectionCeiling, PoolStatus, ReportedState, ServerStatus, SourceStatus, Status};
use crate::api::{Event, ReloadOutcome};
use crate::events::EventFilter;
use crate::history::{Figures, MOST_TOLD_MS, Point, told};
use crate::pool::outlier::told_allowance;
use crate::text;
use axum::extract::State as Extract;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Transitions that are shown.
const EVENTS: usize = 20;

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT).into_response()
}

/// The whole page.
pub(super) async fn page(Extract(admin): Extract<Admin>) -> Response {
    let body = body(&admin);
    html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>evenkeel</title>\n\
         <link rel=\"stylesheet\" href=\"/page.css\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <script src=\"/page.js\" defer></script>\n</head>\n<body>\n\
         <header><h1>evenkeel</h1>\
         <label>Filter <input id=\"filter\" type=\"search\" placeholder=\"pool or server\" autocomplete=\"off\"></label>\
         <span id=\"live\" role=\"status\"></span></header>\n\
         <main id=\"main\">\n{body}</main>\n\
         <footer><a href=\"/metrics\">metrics</a> <a href=\"/api/v1/status\">status as JSON</a> \
         <a href=\"/api/v1/events\">events as JSON</a></footer>\n</body>\n</html>\n"
    ))
}

/// What changes of it.
pub(super) async fn part(Extract(admin): Extract<Admin>) -> Response {
    html(body(&admin))
}

fn html(text: String) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

/// A text that stands for itself in HTML, whatever is in it.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

fn body(admin: &Admin) -> String {
    let status = view::status(admin);
    let snapshot = admin.live.snapshot();
    let events =
        admin.live.event_log.find(&EventFilter { limit: Some(EVENTS), ..EventFilter::default() }).events;
    let mut text = head(&status);
    for pool in &status.pools {
        let points = admin.live.pool_history().points(pool.name.as_str());
        let servers = admin.live.server_history();
        // A reload may have come since the status was read, so they are matched by name.
        let members = snapshot.pool(&pool.name).into_iter().flat_map(|pool| &pool.members);
        let points_of: HashMap<&str, Vec<Point>> =
            members.map(|member| (&**member.server.name(), servers.points(&member.server.id()))).collect();
        text += &of_pool(pool, &points, &points_of, status.process.now);
    }
    text += &ledger(&events);
    text
}

fn head(status: &Status) -> String {
    let process = &status.process;
    let up = ago(process.started, process.now);
    let mut text = format!(
        "<dl class=\"facts\"><div><dt>version</dt><dd>{}</dd></div><div><dt>up</dt><dd>{up}</dd></div>\
         <div><dt>generation</dt><dd>{}</dd></div><div><dt>connections</dt><dd>{}</dd></div>",
        Escaped(&process.version),
        process.generation,
        process.connections
    );
    if let Some(receipt) = &status.last_reload {
        let (word, class) = match receipt.outcome {
            ReloadOutcome::InForce => ("in force", "up"),
            ReloadOutcome::Refused => ("refused", "down"),
            ReloadOutcome::RolledBack => ("rolled back", "down"),
        };
        let _ = write!(
            text,
            "<div><dt>last reload</dt><dd><span class=\"state {class}\">{word}</span> {} ago by {}</dd></div>",
            ago(receipt.at, process.now),
            Escaped(&receipt.actor)
        );
    }
    text += "</dl>\n";
    let mut alarm = |words: &str| {
        let _ = writeln!(text, "<p class=\"alarm\" role=\"alert\">{}</p>", Escaped(words));
    };
    for pool in status.pools.iter().filter(|pool| pool.failing_open) {
        alarm(&format!(
            "Pool {} has no healthy server: requests go to every server that is not drained.",
            pool.name
        ));
    }
    for pool in &status.pools {
        if let Some(other) = &pool.served_by {
            alarm(&format!("Nothing of pool {} can be used: pool {other} serves in its place.", pool.name));
        }
    }
    for rule in &status.maintenance {
        alarm(&format!("{}.", rule.told(process.now)));
    }
    if process.draining {
        alarm("This process is stopping: it finishes what it has and takes nothing new.");
    }
    if let Some(receipt) =
        status.last_reload.as_ref().filter(|receipt| receipt.outcome != ReloadOutcome::InForce)
    {
        alarm(&format!("The file is not in force: {}", receipt.problems.join("; ")));
    }
    if let Some(guard) = status.guard.as_ref().filter(|guard| guard.state == GuardState::Watching) {
        let left = ago(process.now, guard.until);
        let _ = writeln!(
            text,
            "<p class=\"note\">Generation {} is watched for {left} more.</p>",
            guard.generation
        );
    }
    if let Some(told) = status.limits.and_then(|limits| limits.told()) {
        let _ = writeln!(text, "<p class=\"note\">{told}.</p>");
    }
    text += &status.cache.as_ref().map_or_else(String::new, cache);
    text
}

/// What the cache keeps, and what the rules' share of it is.
fn cache(cache: &CacheStatus) -> String {
    let mut text = format!(
        "<section class=\"cache\"><h2>cache</h2><p class=\"summary\">{}</p>\n",
        Escaped(&cache.told())
    );
    if !cache.rules.is_empty() {
        text += "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"rules with a cache\"><table><thead><tr>\
                 <th scope=\"col\">rule</th><th scope=\"col\" class=\"n\">rate/s</th>\
                 <th scope=\"col\" class=\"n\">hit ratio</th><th scope=\"col\">since the start</th></tr></thead><tbody>\n";
    }
    for rule in &cache.rules {
        let results: Vec<_> =
            rule.results.iter().map(|(result, count)| format!("{result} {count}")).collect();
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td class=\"n\">{:.0}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            Escaped(if rule.route.is_empty() { "-" } else { &rule.route }),
            rule.requests_per_second,
            rule.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0)),
            results.join(", "),
        );
    }
    if !cache.rules.is_empty() {
        text += "</tbody></table></div>\n";
    }
    text + "</section>\n"
}

fn of_pool(
    pool: &PoolStatus,
    points: &[Point],
    servers: &HashMap<&str, Vec<Point>>,
    now: OffsetDateTime,
) -> String {
    let class = if pool.failing_open { "pool failing" } else { "pool" };
    let mut text = format!(
        "<section class=\"{class}\" data-pool=\"{name}\"><h2>{name}</h2><p class=\"summary\">{balance}, \
         <strong>{up} of {all} up</strong>, {in_flight} in flight{waiting}{figures} {line}</p>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"servers of {name}\"><table><thead><tr>\
         <th scope=\"col\">server</th><th scope=\"col\">state</th><th scope=\"col\" class=\"n\">in flight</th>\
         <th scope=\"col\" class=\"n\">rate/s</th><th scope=\"col\" class=\"n\">p50 ms</th>\
         <th scope=\"col\" class=\"n\">p99 ms</th><th scope=\"col\" class=\"n\">errors</th>\
         <th scope=\"col\" class=\"n\">weight</th><th scope=\"col\">2 minutes</th></tr></thead><tbody>\n",
        name = Escaped(&pool.name),
        balance = Escaped(&pool.balance),
        up = pool.up,
        all = pool.servers.len(),
        in_flight = pool.in_flight,
        waiting = match pool.waiting {
            0 => String::new(),
            waiting => format!(", <strong class=\"bad\">{waiting} waiting</strong>"),
        },
        figures = figures(&pool.figures),
        line = sparkline(points),
    );
    for server in &pool.servers {
        text += &of_server(server, servers.get(&*server.name).map_or(&[], Vec::as_slice), now);
    }
    text += "</tbody></table></div>\n";
    if let Some(EjectionCeiling { most, of }) = pool.may_be_out {
        let _ = writeln!(text, "<p class=\"source\">outlier: {}</p>", told_allowance(most, of));
    }
    if let Some(sticky) = &pool.sticky {
        let _ = writeln!(text, "<p class=\"source\">{}</p>", Escaped(&sticky.told()));
    }
    pool.sources.iter().for_each(|source| text += &of_source(source, now));
    for absent in &pool.absent {
        let (name, told) = (Escaped(&absent.name), absent.told(now));
        text += &format!("<p class=\"source\">{name}: {}</p>\n", Escaped(&told));
    }
    text + "</section>\n"
}

/// Where servers come from, and what speaks against it.
fn of_source(source: &SourceStatus, now: OffsetDateTime) -> String {
    let (word, class) = match source.up {
        Some(true) => ("answers", "up"),
        Some(false) => ("fails", "down"),
        None => ("not asked yet", "probing"),
    };
    let mut notes = vec![text::servers(source.servers)];
    if source.missing > 0 {
        notes.push(format!("{} of them missing", source.missing));
    }
    if let Some(held) = &source.held {
        notes.push(format!("held back: {held}"));
    }
    if let Some(at) = source.last_success.filter(|_| source.up != Some(true)) {
        notes.push(format!("last answer {} ago", ago(at, now)));
    }
    if let Some(at) = source.next_query {
        notes.push(format!("asked again in {}", ago(now, at)));
    }
    notes.extend(source.problem.clone());
    format!(
        "<p class=\"source\">{} <span class=\"state {class}\">{word}</span> {}</p>\n",
        Escaped(&source.source),
        Escaped(&notes.join(", "))
    )
}

fn figures(figures: &Figures) -> String {
    let p99 = figures.p99_ms.map_or_else(String::new, |p99| format!(", p99 {}", told(p99)));
    format!(
        ", {:.1} requests/s{p99}, {:.1}% errors",
        figures.requests_per_second,
        figures.error_ratio * 100.0
    )
}

fn of_server(server: &ServerStatus, points: &[Point], now: OffsetDateTime) -> String {
    let mut notes = vec![format!("for {}", ago(server.since_when(), now))];
    if let Some(said) = &server.admin.by_operator {
        notes[0] = format!("by {}, {} ago", said.actor, ago(said.at, now));
    } else if server.admin.by_configuration {
        notes[0] = "by the configuration".to_owned();
    }
    notes.extend(server.told_backup().map(str::to_owned));
    if let Some(share) = server.ramp {
        notes.push(format!("coming back: {share}% of picks"));
    }
    if server.missing {
        notes.push(ServerStatus::MISSING.to_owned());
    }
    notes.extend(server.ejection.iter().map(|ejection| ejection.told(now)));
    if let Some(failure) = server.last_failure.as_ref().filter(|_| server.state != ReportedState::Maint) {
        notes.push(format!("last probe: {failure}"));
    }
    let limit = server.max_connections.map_or_else(String::new, |limit| format!(" of {limit}"));
    let milliseconds = |value: Option<f64>| match value {
        Some(value) if value < MOST_TOLD_MS => format!("{value:.1}"),
        Some(_) => format!("&gt; {MOST_TOLD_MS:.0}"),
        None => "–".to_owned(),
    };
    let Figures { requests_per_second, error_ratio, p50_ms, p99_ms } = server.figures;
    format!(
        "<tr data-server=\"{name}\"><th scope=\"row\">{name}<small>{address}</small></th>\
         <td><span class=\"state {word}\">{word}</span><small>{notes}</small></td>\
         <td class=\"n\">{in_flight}{limit}</td><td class=\"n\">{requests_per_second:.1}</td>\
         <td class=\"n\">{p50}</td><td class=\"n\">{p99}</td><td class=\"n{bad}\">{errors:.1}%</td>\
         <td class=\"n\">{weight}{star}</td><td>{line}</td></tr>\n",
        name = Escaped(&server.name),
        address = Escaped(&server.address),
        word = server.state.word(),
        notes = Escaped(&notes.join("; ")),
        in_flight = server.in_flight,
        p50 = milliseconds(p50_ms),
        p99 = milliseconds(p99_ms),
        bad = if error_ratio > 0.01 { " bad" } else { "" },
        errors = error_ratio * 100.0,
        weight = server.weight,
        star = if server.weight_by_operator { "*" } else { "" },
        line = sparkline(points),
    )
}

/// Requests of each second as a line, and errors as bars below it.
fn sparkline(points: &[Point]) -> String {
    const WIDTH: usize = crate::history::SECONDS;
    const HEIGHT: f64 = 24.0;
    let most = points.iter().map(|point| point.requests).max().unwrap_or(0).max(1);
    let x = |at: usize| WIDTH - points.len() + at;
    let height = |count: u32| HEIGHT * f64::from(count) / f64::from(most);
    let line: Vec<_> = points
        .iter()
        .enumerate()
        .map(|(at, point)| format!("{},{:.1}", x(at), HEIGHT + 1.0 - height(point.requests)))
        .collect();
    let errors: String = points
        .iter()
        .enumerate()
        .filter(|(_, point)| point.errors > 0)
        .map(|(at, point)| format!("M{} {}V{:.1}", x(at), HEIGHT + 1.0, HEIGHT + 1.0 - height(point.errors)))
        .collect();
    format!(
        "<svg class=\"line\" viewBox=\"0 0 {WIDTH} 26\" width=\"{WIDTH}\" height=\"26\" role=\"img\" \
         aria-label=\"up to {most} requests a second\"><path class=\"errors\" d=\"{errors}\"/>\
         <polyline points=\"{}\"/></svg>",
        line.join(" ")
    )
}

fn ledger(events: &[Event]) -> String {
    let mut text = "<section><h2>last events</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                    aria-label=\"last events\"><table class=\"events\"><thead><tr><th scope=\"col\">time (UTC)</th>\
                    <th scope=\"col\">of</th><th scope=\"col\">change</th><th scope=\"col\">why</th>\
                    <th scope=\"col\">by</th></tr></thead><tbody>\n"
        .to_owned();
    for event in events.iter().rev() {
        let time = event.at.format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default();
        let of = match (&event.pool, &event.server) {
            (Some(pool), Some(server)) => format!("{pool}/{server}"),
            (Some(pool), None) => pool.clone(),
            _ => event.kind.word().to_owned(),
        };
        let change = match (&event.from, &event.to) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "<tr><td>{time}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&of),
            Escaped(&change),
            Escaped(&event.cause),
            Escaped(&event.actor)
        );
    }
    text + "</tbody></table></div></section>\n"
}

fn ago(then: OffsetDateTime, now: OffsetDateTime) -> String {
    let seconds = Duration::try_from(now - then).unwrap_or_default().as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_themselves() {
        let text = Escaped("<script>alert('\"&\"')</script>").to_string();
        assert_eq!(text, "&lt;script&gt;alert(&#39;&quot;&amp;&quot;&#39;)&lt;/script&gt;");
    }

    #[test]
    fn a_server_is_ejected_since_it_is_and_not_since_its_probes_pass() {
        let server = serde_json::json!({
            "name": "b", "address": "10.0.0.1:80", "state": "ejected", "health": "up", "since": "2026-01-31T09:00:00Z",
            "probed": true, "last_failure": null, "admin": { "by_configuration": false, "by_operator": null },
            "in_flight": 0, "weight": 100, "weight_by_operator": false, "max_connections": null,
            "figures": { "requests_per_second": 0.0, "error_ratio": 0.0, "p50_ms": null, "p99_ms": null },
            "ejection": { "reason": "worse_by", "evidence": "e", "since": "2026-01-31T11:59:48Z",
                          "until": "2026-01-31T12:00:18Z", "trial": null, "strikes": 1 },
        });
        let server: ServerStatus = serde_json::from_value(server).expect("a server");
        let row = of_server(&server, &[], time::macros::datetime!(2026-01-31 12:00 UTC));
        assert!(row.contains("<small>for 12 s; ejected for 18s more"), "{row}");
    }

    #[test]
    fn a_line_ends_at_the_right_and_fits_its_box() {
        let point = |requests, errors| Point { requests, errors, ..Point::default() };
        let line = sparkline(&[point(0, 0), point(10, 0), point(5, 5)]);
        assert!(line.contains("points=\"117,25.0 118,1.0 119,13.0\""), "{line}");
        assert!(line.contains("d=\"M119 25V13.0\""), "{line}");
        assert!(sparkline(&[]).contains("points=\"\""));
    }
}
