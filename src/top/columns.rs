//! The columns: what they say of a server or a pool, what rows can be sorted by, and which fit.

use crate::api::status::{PoolStatus, ReportedState, ServerStatus, SourceStatus};
use crate::history::{Figures, MOST_TOLD_MS};
use crate::text::ago;
use std::cmp::Ordering;
use time::OffsetDateTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    State,
    Health,
    For,
    InFlight,
    Rate,
    Middle,
    Slow,
    Errors,
    Weight,
}

/// Left to right, after the name.
const ALL: [Column; 9] = {
    use Column::{Errors, For, Health, InFlight, Middle, Rate, Slow, State, Weight};
    [State, Health, For, InFlight, Rate, Middle, Slow, Errors, Weight]
};

/// The narrower the terminal, the more of these go, the last first.
const BY_WORTH: [Column; 9] = {
    use Column::{Errors, For, Health, InFlight, Middle, Rate, Slow, State, Weight};
    [State, InFlight, Rate, Slow, Errors, Health, Weight, Middle, For]
};

/// The least that a name needs.
pub(super) const NAME: u16 = 12;
/// The mark of the selected row.
pub(super) const MARK: u16 = 2;

/// `answers` or `fails`.
pub(super) fn source_word(source: &SourceStatus) -> &'static str {
    match source.up {
        Some(true) => "answers",
        Some(false) => "fails",
        None => "asked",
    }
}

impl Column {
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::State => "STATE",
            Self::Health => "HEALTH",
            Self::For => "FOR",
            Self::InFlight => "FLIGHT",
            Self::Rate => "REQ/S",
            Self::Middle => "P50",
            Self::Slow => "P99",
            Self::Errors => "ERR",
            Self::Weight => "WT",
        }
    }

    pub(super) fn width(self) -> u16 {
        match self {
            Self::State | Self::Health | Self::For | Self::InFlight => 7,
            Self::Rate | Self::Middle | Self::Slow | Self::Errors => 6,
            Self::Weight => 4,
        }
    }

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::State | Self::Health)
    }

    /// Those that fit beside a name into `width`.
    pub(super) fn fitting(width: u16) -> Vec<Self> {
        let mut left = width.saturating_sub(MARK + NAME);
        let mut kept = Vec::new();
        for column in BY_WORTH {
            let needed = column.width() + 1;
            if needed > left {
                break;
            }
            left -= needed;
            kept.push(column);
        }
        ALL.into_iter().filter(|column| kept.contains(column)).collect()
    }

    /// What it says of a pool.
    pub(super) fn of_pool(self, pool: &PoolStatus) -> String {
        match self {
            Self::State => format!("{}/{} up", pool.up, pool.servers.len()),
            Self::InFlight if pool.waiting > 0 => {
                format!("{}+{}", number(f64::from(pool.in_flight)), number(pool.waiting as f64))
            }
            Self::InFlight => number(f64::from(pool.in_flight)),
            Self::Health | Self::For | Self::Weight => String::new(),
            _ => self.of_figures(&pool.figures),
        }
    }

    /// What it says of a source.
    pub(super) fn of_source(self, source: &SourceStatus) -> String {
        match self {
            Self::State => source_word(source),
            Self::Health => source.held.as_deref().unwrap_or_default(),
            _ => "",
        }
        .to_owned()
    }

    /// What it says of a server.
    pub(super) fn of_server(self, server: &ServerStatus, now: OffsetDateTime) -> String {
        match self {
            Self::State => match server.ramp {
                Some(share) => format!("{} {share}%", server.state.word()),
                None => server.state.word().to_owned(),
            },
            Self::Health => if server.probed { server.health.word() } else { "-" }.to_owned(),
            Self::For => ago(server.since_when(), now),
            Self::InFlight => match server.max_connections {
                Some(most) => format!("{}/{}", number(f64::from(server.in_flight)), number(f64::from(most))),
                None => number(f64::from(server.in_flight)),
            },
            Self::Weight => format!("{}{}", server.weight, if server.weight_by_operator { "*" } else { "" }),
            _ => self.of_figures(&server.figures),
        }
    }

    fn of_figures(self, figures: &Figures) -> String {
        let is_idle = figures.requests_per_second == 0.0;
        match self {
            Self::Rate if is_idle => "0".to_owned(),
            Self::Rate => number(figures.requests_per_second),
            Self::Middle => figures.p50_ms.map_or_else(nothing, milliseconds),
            Self::Slow => figures.p99_ms.map_or_else(nothing, milliseconds),
            Self::Errors if is_idle => nothing(),
            Self::Errors => percent(figures.error_ratio),
            _ => String::new(),
        }
    }
}

fn nothing() -> String {
    "-".to_owned()
}

/// At most five characters: `3.4`, `950`, `12k`.
fn number(number: f64) -> String {
    match number {
        n if n < 10.0 && n.fract() != 0.0 => format!("{n:.1}"),
        n if n < 99_999.5 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.0}M", n / 1e6),
    }
}

/// `3.4ms`, `950ms`, `12.0s`.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1}ms"),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms if ms >= MOST_TOLD_MS => format!(">{:.0}s", ms / 1000.0),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

/// Few are not none: `<0.1%`.
fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0%".to_owned(),
        share if share < 0.1 => "<0.1%".to_owned(),
        share if share < 9.95 => format!("{share:.1}%"),
        share => format!("{share:.0}%"),
    }
}

/// What rows are sorted by; the most of it first, the worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SortOrder {
    /// As the configuration has them.
    #[default]
    File,
    Name,
    By(Column),
}

const ORDERS: [SortOrder; 9] = {
    use Column::{Errors, InFlight, Middle, Rate, Slow, State, Weight};
    use SortOrder::{By, File, Name};
    // All but those that say less than the state.
    [File, Name, By(State), By(InFlight), By(Rate), By(Middle), By(Slow), By(Errors), By(Weight)]
};

impl SortOrder {
    pub(super) fn next(self) -> Self {
        self.step(1)
    }

    pub(super) fn previous(self) -> Self {
        self.step(ORDERS.len() - 1)
    }

    fn step(self, by: usize) -> Self {
        let at = ORDERS.iter().position(|order| *order == self).unwrap_or(0);
        ORDERS[(at + by) % ORDERS.len()]
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::File => "order of the file",
            Self::Name => "name",
            Self::By(Column::State) => "state, the worst first",
            Self::By(Column::Health) => "health",
            Self::By(Column::For) => "time in its state",
            Self::By(Column::InFlight) => "in flight",
            Self::By(Column::Rate) => "requests a second",
            Self::By(Column::Middle) => "p50",
            Self::By(Column::Slow) => "p99",
            Self::By(Column::Errors) => "share of errors",
            Self::By(Column::Weight) => "weight",
        }
    }

    pub(super) fn compare(
        self,
        one: (&PoolStatus, &ServerStatus),
        other: (&PoolStatus, &ServerStatus),
    ) -> Ordering {
        // None is less than any number.
        let most = |of: fn(&ServerStatus) -> Option<f64>| {
            let [one, other] = [one.1, other.1].map(|server| of(server).unwrap_or(-1.0));
            other.total_cmp(&one)
        };
        match self {
            Self::File => Ordering::Equal,
            Self::Name => (&one.0.name, &one.1.name).cmp(&(&other.0.name, &other.1.name)),
            Self::By(Column::State) => most(|server| Some(badness(server.state))),
            Self::By(Column::Health) => most(|server| Some(badness(server.health))),
            Self::By(Column::For) => one.1.since_when().cmp(&other.1.since_when()),
            Self::By(Column::InFlight) => most(|server| Some(f64::from(server.in_flight))),
            Self::By(Column::Rate) => most(|server| Some(server.figures.requests_per_second)),
            Self::By(Column::Middle) => most(|server| server.figures.p50_ms),
            Self::By(Column::Slow) => most(|server| server.figures.p99_ms),
            Self::By(Column::Errors) => most(|server| Some(server.figures.error_ratio)),
            Self::By(Column::Weight) => most(|server| Some(f64::from(server.weight))),
        }
    }
}

fn badness(state: ReportedState) -> f64 {
    match state {
        ReportedState::Up => 0.0,
        ReportedState::Probing => 1.0,
        ReportedState::Leaving => 2.0,
        ReportedState::Drain => 3.0,
        ReportedState::Maint => 4.0,
        ReportedState::Ejected => 4.5,
        ReportedState::Down => 5.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 3.44, 42.4, 99_999.0, 123_456.0, 4e6].map(number),
            ["0", "3.4", "42", "99999", "123k", "4M"]
        );
        assert_eq!([0.42, 9.96, 950.0, 12_000.0].map(milliseconds), ["0.4ms", "10ms", "950ms", "12.0s"]);
        assert_eq!([0.0, 0.0001, 0.015, 0.5, 1.0].map(percent), ["0%", "<0.1%", "1.5%", "50%", "100%"]);
    }

    #[test]
    fn narrow_terminals_show_what_counts_most() {
        assert_eq!(Column::fitting(80), ALL);
        let heads =
            |width| Column::fitting(width).into_iter().map(Column::head).collect::<Vec<_>>().join(" ");
        assert_eq!(heads(40), "STATE FLIGHT REQ/S");
        assert_eq!(heads(10), "");
    }
}
