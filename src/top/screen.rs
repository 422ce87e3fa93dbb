//! The screen: facts and alarms at the top, the table, the selected server, and one line for keys and questions.

use super::columns::{Column, MARK, NAME, SortOrder};
use super::rows::{self, Row};
use super::{Mode, Notice, StateCommand, Top, WantedState};
use crate::api;
use crate::api::receipt::GuardState;
use crate::api::status::{ReportedState, ServerStatus};
use crate::text::{ago, span, wrap};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, HighlightSpacing, Paragraph, Row as TableRow, Table};
use std::time::Instant;

const KEYS: &str = "q quit  j/k select  s/S sort  / filter  d drain  m maint  r ready  ? help";

const HELP: [(&str, &str); 10] = [
    ("j k, arrows", "select a server; PgUp PgDn, Home End"),
    ("s S", "sort by the next or the previous column"),
    ("/", "filter by name, address or state; Esc ends it"),
    ("d", "drain: nothing new, what is in flight finishes"),
    ("m", "maint: nothing at all, not even probes"),
    ("r", "ready: end an operator's drain or maint"),
    ("y n", "answer what d, m and r ask first"),
    ("f", "force what was refused for want of capacity"),
    ("q Ctrl-C", "quit; servers stay as they are"),
    ("REQ/S P50 P99", "and ERR are those of the last ten seconds"),
];

/// How things look on this terminal.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub color: bool,
}

/// What a style says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Caution,
    Bad,
    /// To be seen from across the room.
    Loud,
    /// A question that waits.
    Asking,
}

impl Look {
    fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let bold = style.add_modifier(Modifier::BOLD);
        match (tone, self.color) {
            (Tone::Plain, _) => style,
            (Tone::Strong, _) => bold,
            (Tone::Faint, _) => style.add_modifier(Modifier::DIM),
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Caution, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red),
            (Tone::Good, false) => style,
            (Tone::Caution | Tone::Bad, false) => bold,
            (Tone::Loud, true) => bold.fg(Color::White).bg(Color::Red),
            (Tone::Asking, true) => bold.fg(Color::Black).bg(Color::Yellow),
            (Tone::Loud | Tone::Asking, false) => bold.add_modifier(Modifier::REVERSED),
        }
    }
}

fn tone(state: ReportedState) -> Tone {
    match state {
        ReportedState::Up => Tone::Good,
        ReportedState::Down => Tone::Bad,
        ReportedState::Probing
        | ReportedState::Ejected
        | ReportedState::Drain
        | ReportedState::Maint
        | ReportedState::Leaving => Tone::Caution,
    }
}

/// Lines of one tone each.
type Lines = Vec<(Tone, String)>;

impl Top {
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: Instant, look: Look) {
        let area = frame.area();
        let (head, foot) = (self.head(area.width, now), self.foot(area.width));
        // Questions first, then the table, then what is only good to know.
        let foot_height = height(&foot).min(area.height);
        let left = area.height - foot_height;
        let head_height = height(&head).min(left.saturating_sub(3));
        let detail_height = if left - head_height >= 8 { 2 } else { 0 };
        let table_height = left - head_height - detail_height;
        let parts = [head_height, table_height, detail_height, foot_height].map(Constraint::Length);
        let [head_area, table_area, detail_area, foot_area] = Layout::vertical(parts).areas(area);
        render(frame, head_area, &head, look);
        match self.mode {
            Mode::Help => render(frame, table_area, &help(), look),
            _ => self.draw_table(frame, table_area, look),
        }
        let mut detail = self.detail(area.width);
        detail.truncate(usize::from(detail_height));
        render(frame, detail_area, &detail, look);
        render(frame, foot_area, &foot, look);
    }

    fn head(&self, width: u16, now: Instant) -> Lines {
        let process = &self.status.process;
        let facts = [
            format!("evenkeel {}", process.version),
            format!("generation {}", process.generation),
            format!("up {}", ago(process.started, process.now)),
            format!("process {}", process.pid),
            format!("{} connections", process.connections),
            process.configuration.clone(),
        ];
        let mut lines = vec![(Tone::Strong, fitting(&facts, width)), self.last_reload(width)];
        if let Some(guard) = self.status.guard.as_ref().filter(|guard| guard.state == GuardState::Watching) {
            let left = ago(process.now, guard.until);
            lines
                .push((Tone::Caution, format!("generation {} is watched for {left} more", guard.generation)));
        }
        let mut loud = |text: &str| {
            lines.extend(wrapped(text, width).into_iter().map(|line| (Tone::Loud, line)));
        };
        if let Some(why) = &self.lost {
            let since = span(now.saturating_duration_since(self.answered));
            loud(&format!("NO ANSWER for {since}, what is shown is old: {why}; trying again"));
        }
        let failing = self.status.pools.iter().filter(|pool| pool.failing_open);
        let failing: Vec<_> = failing.map(|pool| pool.name.as_str()).collect();
        if !failing.is_empty() {
            let pools = failing.join(", ");
            loud(&format!("NO HEALTHY SERVER in {pools}: requests go to every server that is not drained"));
        }
        let failing = self.status.pools.iter().flat_map(|pool| &pool.sources);
        for source in failing.filter(|source| source.up == Some(false)).take(2) {
            let why = source.problem.as_deref().unwrap_or_default();
            lines.push((
                Tone::Caution,
                fitting(&[format!("{} fails, its servers stay: {why}", source.source)], width),
            ));
        }
        let mut loud = |text: &str| {
            lines.extend(wrapped(text, width).into_iter().map(|line| (Tone::Loud, line)));
        };
        if process.draining {
            loud("STOPPING: it finishes what it has and takes nothing new");
        }
        if process.upgrade_waits_until.is_some() {
            lines.push((Tone::Caution, "an upgrade waits for the end of the reload's watch".to_owned()));
        } else if process.upgrading {
            lines.push((Tone::Caution, "upgrading: waiting for the next process to be ready".to_owned()));
        }
        if let Some(cache) = &self.status.cache {
            lines.push((Tone::Plain, fitting(&cache.facts(), width)));
        }
        if self.order != SortOrder::File || !self.filter.is_empty() {
            lines.push((Tone::Faint, self.choice(width)));
        }
        lines
    }

    fn last_reload(&self, width: u16) -> (Tone, String) {
        let Some(receipt) = &self.status.last_reload else {
            return (Tone::Faint, "no reload since the start".to_owned());
        };
        let (word, tone) = match receipt.outcome {
            api::ReloadOutcome::InForce => ("in force", Tone::Plain),
            api::ReloadOutcome::Refused => ("REFUSED", Tone::Bad),
            api::ReloadOutcome::RolledBack => ("ROLLED BACK", Tone::Bad),
        };
        let mut facts = vec![
            format!("last reload {} ago: {word}", ago(receipt.at, self.status.process.now)),
            format!("by {}", receipt.actor),
        ];
        facts.extend(receipt.problems.first().cloned());
        (tone, fitting(&facts, width))
    }

    /// What rows are shown, and how.
    fn choice(&self, width: u16) -> String {
        let mut parts = Vec::new();
        if !self.filter.is_empty() {
            let all: usize = self.status.pools.iter().map(|pool| pool.servers.len()).sum();
            let shown = rows::servers(&self.status, self.order, &self.filter).len();
            parts.push(format!("{shown} of {all} servers fit {:?}", self.filter));
        }
        if self.order != SortOrder::File {
            parts.push(format!("sorted by {}", self.order.word()));
        }
        fitting(&parts, width)
    }

    fn draw_table(&mut self, frame: &mut Frame<'_>, area: Rect, look: Look) {
        self.page = usize::from(area.height.saturating_sub(1));
        let columns = Column::fitting(area.width);
        let now = self.status.process.now;
        let rows = rows::rows(&self.status, self.order, &self.filter);
        let mut widths = vec![Constraint::Fill(1)];
        widths.extend(columns.iter().map(|column| Constraint::Length(column.width())));
        let taken: u16 = columns.iter().map(|column| column.width() + 1).sum();
        let name = area.width.saturating_sub(MARK + taken).max(NAME);
        let is_flat = self.order != SortOrder::File;
        let head = std::iter::once(Cell::from(if is_flat { "POOL/SERVER" } else { "SERVER" })).chain(
            columns.iter().map(|column| {
                let style = match self.order == SortOrder::By(*column) {
                    true => Style::new().add_modifier(Modifier::REVERSED),
                    false => Style::new(),
                };
                aligned(*column, column.head().to_owned()).style(style)
            }),
        );
        let faded = if self.lost.is_some() { look.style(Tone::Faint) } else { Style::new() };
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let name = Cell::from(shortened(&title(row, is_flat), name));
                let cells = columns.iter().map(|column| {
                    aligned(*column, row.cell(*column, now)).style(look.style(tone_of(*column, row)))
                });
                let style = match row {
                    Row::Pool(_) => look.style(Tone::Strong),
                    Row::Server(..) => Style::new(),
                    Row::Source(_) => look.style(Tone::Faint),
                };
                TableRow::new(std::iter::once(name).chain(cells)).style(style.patch(faded))
            })
            .collect();
        let is_empty = lines.is_empty();
        let table = Table::new(lines, widths)
            .header(TableRow::new(head).style(look.style(Tone::Faint)))
            .column_spacing(1)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .highlight_symbol("> ")
            .highlight_spacing(HighlightSpacing::Always);
        // The pool's own row comes with its first server.
        if self.table.selected() == Some(1) {
            *self.table.offset_mut() = 0;
        }
        frame.render_stateful_widget(table, area, &mut self.table);
        if is_empty && area.height > 1 {
            let below = Rect { y: area.y + 1, height: 1, ..area };
            render(
                frame,
                below,
                &vec![(Tone::Faint, "  no server fits the filter; Esc ends it".to_owned())],
                look,
            );
        }
    }

    /// The selected server in words.
    fn detail(&self, width: u16) -> Lines {
        let selected = self.selected.as_ref();
        let server = selected.and_then(|(pool, server)| Some((pool, self.server(pool, server)?)));
        let Some((pool, server)) = server else { return Lines::new() };
        let now = self.status.process.now;
        let mut parts = vec![format!("{pool}/{} at {}", server.name, server.address)];
        if let Some(said) = &server.admin.by_operator {
            parts.push(format!("{} by {}, {} ago", said.state.word(), said.actor, ago(said.at, now)));
        }
        if server.admin.by_configuration {
            parts.push("drain by the configuration".to_owned());
        }
        parts.push(match server.probed {
            true => format!("health {} for {}", server.health.word(), ago(server.since, now)),
            false => "not probed".to_owned(),
        });
        if server.weight_by_operator {
            parts.push("weight by an operator".to_owned());
        }
        if server.missing {
            parts.push(ServerStatus::MISSING.to_owned());
        }
        parts.extend(server.ejection.iter().map(|ejection| ejection.told(now)));
        if let Some(failure) = server.last_failure.as_ref().filter(|_| server.state != ReportedState::Maint) {
            parts.push(format!("last probe: {failure}"));
        }
        let its_pool = self.status.pools.iter().find(|known| known.name == *pool);
        parts.extend(its_pool.and_then(|pool| Some(pool.sticky.as_ref()?.told())));
        let lines = wrapped(&parts.join("; "), width);
        lines.into_iter().map(|line| (Tone::Plain, line)).collect()
    }

    fn foot(&self, width: u16) -> Lines {
        let (tone, text, answers) = match (&self.mode, &self.notice) {
            (Mode::Filter, _) => (Tone::Asking, format!("/{}_", self.filter), "Enter keeps it, Esc ends it"),
            (Mode::Confirm(command), _) => {
                let server = self.server(&command.pool, &command.server);
                let will = server.map_or_else(String::new, |server| will(command, server));
                let StateCommand { pool, server, state, .. } = command;
                (Tone::Asking, format!("{} {pool}/{server}? {will}", state.word()), "y: do it  n: leave it")
            }
            (Mode::Working(command), _) => {
                (Tone::Asking, format!("{} {}/{} …", command.state.word(), command.pool, command.server), "")
            }
            (Mode::Refused(_, why), _) => (Tone::Loud, why.clone(), "f: force it  n: leave it"),
            (Mode::Help, _) => (Tone::Faint, "any key: back".to_owned(), ""),
            (Mode::Look, Some(Notice::Good(text))) => (Tone::Good, text.clone(), ""),
            (Mode::Look, Some(Notice::Bad(text))) => (Tone::Bad, text.clone(), ""),
            (Mode::Look, None) => {
                let keys: Vec<_> = KEYS.split("  ").map(str::to_owned).collect();
                (Tone::Faint, fitting(&keys, width), "")
            }
        };
        let mut lines = wrapped(&text, width);
        match lines.last_mut() {
            // Side by side, or on a line of its own: an answer is not to be broken.
            Some(last) if last.chars().count() + 2 + answers.len() <= usize::from(width) => {
                *last = format!("{last}  {answers}").trim_end().to_owned();
            }
            _ => lines.push(format!("  {answers}")),
        }
        lines.into_iter().filter(|line| !line.trim().is_empty()).map(|line| (tone, line)).collect()
    }
}

/// What a command does to this server, before it does.
fn will(command: &StateCommand, server: &ServerStatus) -> String {
    let n = server.in_flight;
    let said = server.admin.by_operator.as_ref();
    let mut text = match command.state {
        WantedState::Drain => format!("It gets nothing new; its {n} in flight finish; probes go on."),
        WantedState::Maint => {
            format!(
                "It gets nothing at all, not even probes; its {n} in flight have `drain_timeout` to finish."
            )
        }
        WantedState::Ready => {
            let said = said.map_or_else(String::new, |said| {
                format!("The {} by {} ends. ", said.state.word(), said.actor)
            });
            let then = match (said_is(server, ReportedState::Maint), server.admin.by_configuration) {
                (_, true) => "It stays drained by the configuration.",
                (true, _) => "It is probed before it gets requests.",
                _ if server.health == ReportedState::Down => {
                    "It is down: it gets requests when its probes pass."
                }
                _ => "It gets requests again.",
            };
            said + then
        }
    };
    if command.state == WantedState::Drain && said_is(server, ReportedState::Maint) {
        text = "It is probed again, and gets nothing new.".to_owned();
    }
    text
}

fn said_is(server: &ServerStatus, state: ReportedState) -> bool {
    server.admin.by_operator.as_ref().is_some_and(|said| said.state == state)
}

fn help() -> Lines {
    HELP.iter().map(|(key, what)| (Tone::Plain, format!("  {key:<14}{what}"))).collect()
}

fn title(row: &Row<'_>, is_flat: bool) -> String {
    match row {
        Row::Pool(pool) => match &pool.served_by {
            Some(other) => format!("{} -> {other}", pool.name),
            None => pool.name.clone(),
        },
        Row::Server(pool, server) if is_flat => format!("{}{}/{}", mark(server, ""), pool.name, server.name),
        Row::Server(_, server) => format!("{}{}", mark(server, "  "), server.name),
        Row::Source(source) => format!("  {}", source.source),
    }
}

/// Where a name stands alone there is little room for more.
fn mark(server: &ServerStatus, otherwise: &'static str) -> &'static str {
    match (server.backup, server.stands_in) {
        (false, _) => otherwise,
        (true, false) => "b ",
        (true, true) => "B ",
    }
}

fn tone_of(column: Column, row: &Row<'_>) -> Tone {
    match (column, row) {
        (Column::State, Row::Server(_, server)) => tone(server.state),
        (Column::Health, Row::Server(_, server)) if server.probed => tone(server.health),
        (Column::State, Row::Source(source)) if source.up == Some(false) => Tone::Bad,
        (Column::Health, Row::Source(_)) => Tone::Caution,
        (Column::State, Row::Pool(pool)) if pool.failing_open => Tone::Loud,
        (Column::State, Row::Pool(pool)) if pool.up == 0 => Tone::Bad,
        (Column::Errors, Row::Server(_, server)) if server.figures.error_ratio >= 0.01 => Tone::Bad,
        (Column::Errors, Row::Pool(pool)) if pool.figures.error_ratio >= 0.01 => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn aligned(column: Column, text: String) -> Cell<'static> {
    let text = Text::from(shortened(&text, column.width()));
    Cell::from(if column.is_number() { text.right_aligned() } else { text })
}

/// As many lines as it takes.
fn wrapped(text: &str, width: u16) -> Vec<String> {
    wrap(text, usize::from(width), 2).lines().map(str::to_owned).collect()
}

/// With an ellipsis where it does not fit.
fn shortened(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// As many of these facts as fit side by side, but the first in any case.
fn fitting(facts: &[String], width: u16) -> String {
    let mut line = String::new();
    for fact in facts {
        let length = line.chars().count() + 2 + fact.chars().count();
        if !line.is_empty() && length > usize::from(width) {
            break;
        }
        if !line.is_empty() {
            line += "  ";
        }
        line += fact;
    }
    shortened(&line, width)
}

fn height(lines: &Lines) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

/// A loud line is loud to the edge.
fn render(frame: &mut Frame<'_>, area: Rect, lines: &Lines, look: Look) {
    let line = |(tone, text): &(Tone, String)| {
        let style = look.style(*tone);
        let mut spans = vec![Span::styled(text.clone(), style)];
        if matches!(tone, Tone::Loud | Tone::Asking) {
            let rest = usize::from(area.width).saturating_sub(text.chars().count());
            spans.push(Span::styled(" ".repeat(rest), style));
        }
        Line::from(spans)
    };
    frame.render_widget(Paragraph::new(lines.iter().map(line).collect::<Vec<_>>()), area);
}
