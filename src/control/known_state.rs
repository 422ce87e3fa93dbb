//! What one process knows of a server and the next one goes on with: its health, its ejection, how far it has come back,
//! and what was learned of it. Times are the wall clock's, the only one that both have.

use super::operate::health_word;
use crate::api::to_millisecond;
use crate::config::plan::Name;
use crate::pool::learned::{Figure, LearnedFigures};
use crate::pool::outlier::{Ejection, Reason, Standing};
use crate::pool::success_watch::{KnownOutcomes, SuccessWatch};
use crate::pool::{Health, HealthState, Pool, Server};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) instant: Instant,
    pub(super) wall: OffsetDateTime,
}

impl Clocks {
    fn wall_of(self, then: Instant) -> OffsetDateTime {
        to_millisecond(self.wall - self.instant.saturating_duration_since(then))
    }

    /// How long ago that was.
    fn since(self, then: OffsetDateTime) -> Duration {
        Duration::try_from(self.wall - then).unwrap_or_default()
    }

    /// The moment, or the first that there is.
    fn instant_of(self, then: OffsetDateTime) -> Instant {
        self.instant.checked_sub(self.since(then)).unwrap_or(self.instant)
    }
}

/// By what a server is known again.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerIdentity {
    pool: Name,
    name: Name,
    address: String,
}

impl ServerIdentity {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            pool: server.pool().clone(),
            name: server.name().clone(),
            address: server.address().to_string(),
        }
    }
}

/// What is known of a server. Fields may be added; a reader takes what it knows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KnownState {
    pool: String,
    server: String,
    address: String,
    /// `up`, `down` or `probing`.
    health: String,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ejection: Option<KnownEjection>,
    /// When it began to come back, if it has not its full share yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    ramp_began: Option<OffsetDateTime>,
    /// Seconds that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<KnownFigure>,
    /// The share of its tries that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    success: Option<KnownFigure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcomes: Option<ToldOutcomes>,
}

impl KnownState {
    pub(super) fn of(server: &Server, watch: Option<&SuccessWatch>, clocks: Clocks) -> Self {
        let LearnedFigures { cost, success } = server.learned().figures(clocks.instant);
        let outcomes = watch.and_then(|watch| watch.known(server.id()));
        Self {
            pool: server.pool().to_string(),
            server: server.name().to_string(),
            address: server.address().to_string(),
            health: health_word(server.state().health).to_owned(),
            since: clocks.wall_of(server.since()),
            ejection: KnownEjection::of(server, clocks),
            ramp_began: server.ramp_age(clocks.instant).map(|age| to_millisecond(clocks.wall - age)),
            cost: cost.map(|figure| KnownFigure::of(figure, clocks)),
            success: success.map(|figure| KnownFigure::of(figure, clocks)),
            outcomes: outcomes.map(|known| ToldOutcomes::of(&known, clocks)),
        }
    }

    pub(super) fn identity(&self) -> ServerIdentity {
        ServerIdentity {
            pool: self.pool.as_str().into(),
            name: self.server.as_str().into(),
            address: self.address.clone(),
        }
    }

    /// Gives a server of this pool all of it that still means something; whether its health is of that.
    pub(super) fn recall(
        &self,
        pool: &Pool,
        server: &Server,
        watch: Option<&mut SuccessWatch>,
        clocks: Clocks,
    ) -> bool {
        let ejection = self.ejection.as_ref().filter(|_| pool.plan.outlier.is_some());
        if let Some(standing) = ejection.and_then(|ejection| ejection.recall(clocks)) {
            server.eject_again(standing);
        }
        let figure = |known: &Option<KnownFigure>| known.as_ref().map(|known| known.recall(clocks));
        let figures = LearnedFigures { cost: figure(&self.cost), success: figure(&self.success) };
        server.learned().recall(&figures, clocks.instant);
        if let (Some(watch), Some(outcomes)) = (watch, &self.outcomes) {
            watch.recall(server, &outcomes.recall(clocks));
        }
        let is_known = pool.plan.health.is_some() && self.recall_health(server, clocks);
        if let Some(began) = self.ramp_began.filter(|_| pool.plan.slow_start.is_some()) {
            server.ramp_on(clocks.since(began), clocks.instant);
        }
        is_known
    }

    fn recall_health(&self, server: &Server, clocks: Clocks) -> bool {
        let health = match self.health.as_str() {
            "up" => HealthState::Up,
            "down" => HealthState::Down,
            _ => return false,
        };
        server.probe_anew(Health::new(health), clocks.instant_of(self.since));
        true
    }
}

/// What is known of a server that is ejected.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownEjection {
    reason: String,
    evidence: String,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
    strikes: u32,
}

impl KnownEjection {
    fn of(server: &Server, clocks: Clocks) -> Option<Self> {
        let standing = server.outlier().standing();
        let ejection = standing.ejection?;
        let left = ejection.until.saturating_duration_since(clocks.instant);
        Some(Self {
            reason: ejection.reason.label().to_owned(),
            evidence: ejection.evidence,
            since: clocks.wall_of(ejection.since),
            until: to_millisecond(clocks.wall + left),
            strikes: standing.strikes,
        })
    }

    /// As it goes on here; `None` for a reason that is not known.
    fn recall(&self, clocks: Clocks) -> Option<Standing> {
        let ejection = Ejection {
            reason: Reason::from_label(&self.reason)?,
            evidence: self.evidence.clone(),
            since: clocks.instant_of(self.since),
            began: clocks.instant_of(self.since),
            until: clocks.instant + Duration::try_from(self.until - clocks.wall).unwrap_or_default(),
            trial: None,
        };
        Some(Standing { strikes: self.strikes, since: clocks.instant, ejection: Some(ejection) })
    }
}

/// Something that was learned, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownFigure {
    value: f32,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl KnownFigure {
    fn of(figure: Figure, clocks: Clocks) -> Self {
        Self { value: figure.value, at: to_millisecond(clocks.wall - figure.age) }
    }

    fn recall(&self, clocks: Clocks) -> Figure {
        Figure { value: self.value, age: clocks.since(self.at) }
    }
}

/// What a server's tries have come to, look by look.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ToldOutcomes {
    /// Milliseconds since 1970, good ones, and all.
    looks: Vec<(i64, f64, f64)>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    worse_since: Option<OffsetDateTime>,
}

impl ToldOutcomes {
    fn of(known: &KnownOutcomes, clocks: Clocks) -> Self {
        let in_ms = |at: Instant| (clocks.wall_of(at).unix_timestamp_nanos() / 1_000_000) as i64;
        Self {
            looks: known.looks.iter().map(|(at, good, n)| (in_ms(*at), *good, *n)).collect(),
            worse_since: known.worse_since.map(|since| clocks.wall_of(since)),
        }
    }

    fn recall(&self, clocks: Clocks) -> KnownOutcomes {
        let at = |ms: i64| {
            let wall = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
            clocks.instant_of(wall.unwrap_or(clocks.wall))
        };
        KnownOutcomes {
            looks: self.looks.iter().map(|(ms, good, n)| (at(*ms), *good, *n)).collect(),
            worse_since: self.worse_since.map(|since| clocks.instant_of(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Balance, SlowStart, SuccessRatePlan};
    use crate::pool::{Outcome, TryResult, sample};
    use crate::units::Percent;
    use std::num::NonZeroU32;

    #[test]
    fn the_next_process_goes_on_with_all_that_is_known_of_a_server() {
        let window = NonZeroU32::new(200).expect("not zero");
        let rate = SuccessRatePlan { window, explore: Percent(5), outcome: None };
        let mut plan = sample::pool(Balance::SuccessRate(rate.clone()), "a b");
        plan.slow_start = Some(SlowStart { over: Duration::from_secs(60), from: Percent(10) });
        let (before, after) = (sample::live(plan.clone()), sample::live(plan));
        let (told, heard) = (sample::member(&before, "b"), sample::member(&after, "b"));
        let then = Instant::now();
        let clocks = |seconds: u64| Clocks {
            instant: then + Duration::from_secs(seconds),
            wall: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds),
        };
        let (mut watch, mut next_watch) = (SuccessWatch::default(), SuccessWatch::default());
        watch.look(&before, &rate, then);
        let failed = Outcome::of(TryResult::TimedOut).after(Duration::from_secs(1));
        told.learned().note(&failed, told.learned().time(then));
        told.success().note(&failed);
        watch.look(&before, &rate, clocks(2).instant);
        told.ramp_on(Duration::from_secs(3), clocks(2).instant);

        let known = KnownState::of(told, Some(&watch), clocks(4));
        let json = serde_json::to_string(&known).expect("it can be told");
        let known: KnownState = serde_json::from_str(&json).expect("it can be heard");
        assert_eq!(known.identity(), ServerIdentity::of(heard));
        assert!(!known.recall(&after, heard, Some(&mut next_watch), clocks(6)), "nobody probes it");
        assert_eq!(heard.ramp_age(clocks(6).instant), Some(Duration::from_secs(7)));
        let figures = |server: &Server| server.learned().figures(clocks(6).instant);
        assert_eq!(figures(heard), figures(told));
        assert!(figures(heard).cost.is_some() && figures(heard).success.is_some());
        let outcomes = next_watch.known(heard.id()).expect("it goes on");
        assert_eq!(outcomes.looks, [(clocks(2).instant, 0.0, 1.0)]);
    }

    #[test]
    fn what_an_older_version_tells_is_enough() {
        let json = r#"{"pool":"app","server":"a","address":"10.0.0.1:80","health":"up","since":"2026-01-01T00:00:00Z"}"#;
        let known: KnownState = serde_json::from_str(json).expect("it can be heard");
        assert!(known.ramp_began.is_none() && known.outcomes.is_none());
    }
}
