//! `events`: the health ledger, oldest first.

use super::client::{ProcessAddress, RequestFailed, part};
use super::say;
use super::table::in_color;
use crate::api::{Event, EventKind, EventList};
use crate::text::{Paint, fold};
use crate::units;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

#[derive(Debug, Args)]
pub(super) struct EventsOptions {
    /// Only this pool, or this server of a pool, like app/app3.
    #[arg(value_name = "POOL[/SERVER]")]
    of: Option<String>,
    /// Only what happened within this time, like 2h.
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    since: Option<Duration>,
    /// Only this kind: health, ejection, operator, membership, discovery, networks, geo, reload, fail_open, cache or process.
    #[arg(long)]
    kind: Option<EventKind>,
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Go on showing what happens, until interrupted.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &EventsOptions) -> Result<ExitCode, RequestFailed> {
    let mut last_day = None;
    let mut show = |events: &[Event]| {
        for event in events {
            if options.json {
                say(&format!("{}\n", serde_json::to_value(event).unwrap_or_default()));
            } else {
                let day = (event.at.year(), event.at.ordinal());
                if last_day != Some(day) {
                    last_day = Some(day);
                    let day = event.at.format(format_description!("[year]-[month]-[day] UTC"));
                    say(&format!("{}\n", Paint::Strong.on(&day.unwrap_or_default(), in_color())));
                }
                say(&render(event, in_color()));
            }
        }
    };
    let since = options.since.map(|since| OffsetDateTime::now_utc() - since);
    let since = since.and_then(|since| since.format(&Rfc3339).ok());
    let mut query = vec![format!("limit={}", options.limit)];
    query.extend(since.map(|since| format!("since={}", part(&since))));
    query.extend(options.kind.map(|kind| format!("kind={}", kind.word())));
    match options.of.as_deref().map(|of| of.split_once('/').unwrap_or((of, ""))) {
        None => {}
        Some((pool, server)) => {
            query.push(format!("pool={}", part(pool)));
            if !server.is_empty() {
                query.push(format!("server={}", part(server)));
            }
        }
    }
    let base = format!("/api/v1/events?{}", query.join("&"));
    let found: EventList = options.reach.get(&base)?;
    show(&found.events);
    let mut after = found.events.last().map(|event| event.id);
    if !options.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let after_last = after.map_or_else(String::new, |after| format!("&after={after}"));
        let found: EventList = options.reach.get(&format!("{base}{after_last}"))?;
        show(&found.events);
        after = found.events.last().map(|event| event.id).or(after);
    }
}

fn render(event: &Event, in_color: bool) -> String {
    let time = event.at.format(format_description!("[hour]:[minute]:[second].[subsecond digits:3]"));
    let of = match (&event.pool, &event.server) {
        (Some(pool), Some(server)) => format!("{pool}/{server}"),
        (Some(pool), None) => pool.clone(),
        _ => event.kind.word().to_owned(),
    };
    let change = match (&event.from, &event.to) {
        (Some(from), Some(to)) => {
            format!("{from} -> {}", paint(to).map_or_else(|| to.clone(), |p| p.on(to, in_color)))
        }
        _ => String::new(),
    };
    let mut text = format!("  {}  {}  {change}", time.unwrap_or_default(), Paint::Strong.on(&of, in_color),);
    text = text.trim_end().to_owned();
    let mut facts = vec![event.cause.clone()];
    if let Some(evidence) = &event.evidence {
        facts.push(format!("{:.1} ms", evidence.took_ms));
        facts.push(format!("{} in flight", evidence.in_flight));
    }
    text += &format!("\n      {}", facts.join("; "));
    let by = format!("\n      by {}, generation {}\n", event.actor, event.generation);
    fold(&(text + &Paint::Faint.on(&by, in_color)))
}

fn paint(to: &str) -> Option<Paint> {
    match to {
        "up" | "ready" | "joined" | "off" => Some(Paint::Good),
        "down" | "on" => Some(Paint::Bad),
        "drain" | "maint" | "leaving" | "probing" => Some(Paint::Caution),
        _ => None,
    }
}
