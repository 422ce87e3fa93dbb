//! One connection or UDP session that is passed on as it is, from its opening to its record.

use crate::access_log::{Queued, Record, Why};
use crate::config::plan::{Name, Priority};
use crate::control::Live;
use crate::edge::Client;
use crate::geo::Location;
use crate::metrics::{
    BytesPassed, PassthroughOutcome, Reached, RequestNames, RequestPlace, Routed, Series, TcpSeries,
};
use crate::pool::{Attempt, Outcome, TryResult};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// One connection. It keeps nothing of the snapshot it began with but names: it may last for days, and through many
/// reloads.
#[derive(Debug)]
pub(super) struct Passthrough<S: Series = TcpSeries> {
    live: Arc<Live>,
    pub(super) client: Arc<Client>,
    pub(super) generation: u64,
    /// Where the client is, if there is a database that may know.
    pub(super) location: Option<Location>,
    /// The snapshot's own number.
    pub(super) edition: u64,
    /// The rule that led to the pool.
    pub(super) route: Option<Name>,
    pub(super) routed: Routed,
    pub(super) pool: Option<Name>,
    /// The pool that it was sent to, if that is another.
    pub(super) fallback_from: Option<Name>,
    /// As the rule has it.
    pub(super) priority: Priority,
    pub(super) attempt: Attempt,
    /// `TCP`, `TLS` or `UDP`, and the server name that a TLS client asks for.
    pub(super) protocol: &'static str,
    pub(super) name: Option<String>,
    pub(super) connect: Option<Duration>,
    pub(super) queued: Option<Queued>,
    started: Instant,
    time: SystemTime,
    series: Option<Arc<S>>,
    pub(super) passed: BytesPassed,
    pub(super) detail: Option<&'static str>,
    recorded: bool,
}

impl<S: Series> Passthrough<S> {
    pub(super) fn new(live: &Arc<Live>, client: &Arc<Client>) -> Self {
        Self {
            live: Arc::clone(live),
            client: Arc::clone(client),
            generation: 0,
            location: None,
            edition: 0,
            route: None,
            routed: Routed::Nowhere,
            pool: None,
            fallback_from: None,
            priority: Priority::default(),
            attempt: Attempt::default(),
            protocol: S::PROTOCOL,
            name: None,
            connect: None,
            queued: None,
            started: Instant::now(),
            time: SystemTime::now(),
            series: None,
            passed: BytesPassed::default(),
            detail: None,
            recorded: false,
        }
    }

    /// Where this connection counts, now that it is known where it goes.
    pub(super) fn series(&mut self) -> Arc<S> {
        let server = self.attempt.server();
        let place = RequestPlace {
            listener: self.client.listener,
            routed: self.routed,
            reached: Reached::of(self.pool.as_ref(), server.map(|server| &**server)),
        };
        let names = RequestNames {
            listener: &self.client.listener_state.name,
            route: self.route.as_ref(),
            pool: self.pool.as_ref(),
            server: server.map(|server| &**server),
        };
        let series = S::of(&self.live.metrics, self.edition, place, &names);
        Arc::clone(self.series.insert(series))
    }

    /// Whether another generation is in force than the one it began under.
    pub(super) fn is_earlier(&self, why: Why) -> bool {
        self.live.metrics.is_earlier(self.generation, why)
    }

    /// Counts it, writes its record, and gives the lease back.
    pub(super) fn end(&mut self, why: Why) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let series = self.series.take().unwrap_or_else(|| self.series());
        let is_earlier = self.is_earlier(why);
        series.ended(&PassthroughOutcome { why, passed: self.passed, is_earlier });
        let served = self.connect.is_some() || self.passed.to_client > 0;
        self.attempt.end(&Outcome { waited: self.connect, ..Outcome::of(result(why, served)) });
        if !self.live.access_log.is_on() {
            return;
        }
        self.live.access_log.record(&Record {
            time: self.time,
            client: &self.client.text,
            listener: &self.client.listener_state.name,
            route: self.route.as_deref(),
            pool: self.pool.as_deref(),
            fallback_from: self.fallback_from.as_deref(),
            server: self.attempt.server().map(|server| &**server.name()),
            method: None,
            host: self.name.as_deref(),
            path: None,
            protocol: Some(self.protocol),
            status: why.status(),
            why,
            action: None,
            location: self.location,
            limit: None,
            detail: self.detail,
            bytes_in: self.passed.to_server,
            bytes_out: self.passed.to_client,
            encoding: None,
            bytes_plain: None,
            duration: Some(self.started.elapsed()),
            connect: self.connect,
            first_byte: None,
            queued: self.queued,
            sticky: None,
            tries: self.attempt.number(),
            tls: None,
            client_cert: None,
            grpc_status: None,
            request_id: None,
            generation: self.generation,
            cache: None,
            user_agent: None,
            referer: None,
        });
    }
}

impl<S: Series> Drop for Passthrough<S> {
    /// What ends without an end: a panic, a stopped runtime.
    fn drop(&mut self) {
        self.end(if std::thread::panicking() { Why::Internal } else { Why::Shutdown });
    }
}

/// A server that a connection was opened to, or that has sent something, has done its part unless it broke off.
fn result(why: Why, served: bool) -> TryResult {
    match why.result() {
        TryResult::NotServersFault | TryResult::Unknown if served => TryResult::Connected,
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_blamed_for_what_it_does_alone() {
        for (why, served, expected) in [
            (Why::Ok, true, TryResult::Connected),
            (Why::ClientAborted, true, TryResult::Connected),
            (Why::Shutdown, true, TryResult::Connected),
            (Why::ServerReset, true, TryResult::Reset),
            (Why::ConnectFailed, false, TryResult::ConnectFailed),
            (Why::ConnectTimeout, false, TryResult::TimedOut),
            (Why::ServerTls, false, TryResult::ConnectFailed),
            (Why::ClientAborted, false, TryResult::NotServersFault),
            (Why::OwnResources, false, TryResult::NotServersFault),
            (Why::Internal, false, TryResult::Unknown),
        ] {
            assert_eq!(result(why, served), expected, "{why:?} {served}");
        }
    }
}
