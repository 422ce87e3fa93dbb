//! Whose server a request belongs to, by its cookie or by its connection's first request, and what its client is told of it.

use crate::config::plan::StickyMode;
use crate::edge::ConnectionServers;
use crate::fields::FieldList;
use crate::filter::sticky::{self, StickyCookie};
use crate::pool::{Bound, Pool, Server, StickyResult};
use crate::sticky::{Binding, minute};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use std::time::{SystemTime, UNIX_EPOCH};

/// A request's bond with a server, in a pool whose clients have one.
#[derive(Debug)]
pub(super) struct Session {
    /// What a cookie of ours says.
    binding: Option<Binding>,
    /// Which server that means, by its id; none that the pool has not any more.
    server: Option<u32>,
    /// In minutes since 1970.
    now: u32,
    /// The response has a cookie.
    is_given: bool,
}

impl Session {
    pub(super) fn of(pool: &Pool, fields: FieldList<'_>, now: SystemTime) -> Self {
        let binding = pool.binding(&fields);
        let place = binding.and_then(|binding| binding.server);
        let server = place.map(|place| pool.members[place].server.id());
        let now = minute(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        Self { binding, server, now, is_given: false }
    }

    /// The server that the request is to go to. One without a cookie follows its connection's first, if that is a
    /// client's own.
    pub(super) fn bound(&self, pool: &Pool, connection: Option<&ConnectionServers>) -> Option<Bound> {
        match self.binding {
            Some(binding) if pool.is_over(&binding, self.now) => None,
            Some(binding) => pool.bound_to(binding.server?, pool.plan.sticky.as_ref()?.wait),
            None => pool.bound_to_server(connection?.of(&pool.name)?),
        }
    }

    /// A server was leased for the request: what comes without a cookie on its connection goes there too.
    pub(super) fn leased(&self, pool: &Pool, server: &Server, connection: Option<&ConnectionServers>) {
        let Some(connection) = connection else { return };
        if self.binding.is_none() || connection.of(&pool.name).is_none() {
            connection.set(&pool.name, server.id());
        }
    }

    /// What the client is told with this response of the server at this place.
    pub(super) fn cookie(
        &mut self,
        pool: &Pool,
        place: usize,
        (response, request): (&ResponseView<'_>, &RequestView<'_>),
        is_secure: bool,
    ) -> Option<StickyCookie> {
        let plan = pool.plan.sticky.as_ref()?;
        let is_its_server = self.server == Some(pool.members[place].server.id());
        // A cookie that is signed anew binds no longer than the first.
        let still = self.binding.filter(|binding| is_its_server && !pool.is_over(binding, self.now));
        let minute = still.map_or(self.now, |binding| binding.minute);
        let token = || pool.sticky_table()?.issue(place, minute);
        let cookie = match plan.mode {
            StickyMode::Insert if still.is_some_and(|binding| binding.is_current) => return None,
            StickyMode::Insert if sticky::may_carry(response, request, &plan.cookie) => {
                StickyCookie::Insert(sticky::field(plan, &token()?, is_secure))
            }
            StickyMode::Suffix if response.status >= 200 && sticky::sets(response, &plan.cookie) => {
                StickyCookie::Suffix { cookie: plan.cookie.clone(), token: token()? }
            }
            StickyMode::Insert | StickyMode::Suffix => return None,
        };
        self.is_given = true;
        Some(cookie)
    }

    /// What has become of it.
    pub(super) fn result(&self, server: Option<&Server>, has_waited: bool) -> StickyResult {
        match (server, self.binding) {
            (None, _) => StickyResult::None,
            (Some(server), Some(_)) => match self.server == Some(server.id()) {
                true if has_waited => StickyResult::Waited,
                true => StickyResult::Kept,
                false => StickyResult::Moved,
            },
            (Some(_), None) if self.is_given => StickyResult::New,
            (Some(_), None) => StickyResult::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Balance, SameSite, StickyPlan};
    use crate::pool::sample;
    use crate::sticky::{Secret, StickyKeys};
    use crate::wire::request_head::sample_head;
    use crate::wire::response_head::BodyKind;
    use http::{HeaderMap, HeaderValue};
    use std::sync::Arc;
    use std::time::Duration;

    const DAY: u32 = 24 * 60;

    /// A pool whose clients are given a server anew after a day.
    fn pool(keys: &[&str]) -> Arc<Pool> {
        let lines: Vec<_> = keys.iter().map(|key| key.repeat(Secret::SHORTEST)).collect();
        let mut plan = sample::pool(Balance::RoundRobin, "a b");
        plan.sticky = Some(StickyPlan {
            cookie: "EK".into(),
            mode: StickyMode::Insert,
            wait: Duration::from_secs(2),
            max_age: None,
            max_life: Some(Duration::from_secs(u64::from(DAY) * 60)),
            key_file: None,
            same_site: SameSite::Lax,
            domain: None,
            path: "/".to_owned(),
            keys: StickyKeys::parse(&lines.join("\n")).expect("good keys"),
        });
        sample::live(plan)
    }

    /// A request with this cookie, so many minutes after 1970.
    fn session(pool: &Pool, cookie: &str, minute: u32) -> Session {
        let mut fields = HeaderMap::new();
        fields.insert("cookie", HeaderValue::from_str(cookie).expect("a value"));
        let now = UNIX_EPOCH + Duration::from_secs(u64::from(minute) * 60);
        Session::of(pool, FieldList::Map(&fields), now)
    }

    fn issued(pool: &Pool, place: usize, minute: u32) -> String {
        let token = pool.sticky_table().and_then(|table| table.issue(place, minute));
        format!("EK={}", token.expect("there is a key"))
    }

    /// What a client is told when the server at this place has answered with 200.
    fn told(session: &mut Session, pool: &Pool, place: usize) -> Option<String> {
        let asked = sample_head("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let fields = HeaderMap::new();
        let response = ResponseView {
            status: 200,
            reason: b"",
            body: BodyKind::UntilClose,
            is_chunked: false,
            fields: FieldList::Map(&fields),
        };
        match session.cookie(pool, place, (&response, &RequestView::from(&asked)), false)? {
            StickyCookie::Insert(field) => field.split(';').next().map(str::to_owned),
            StickyCookie::Suffix { .. } => None,
        }
    }

    #[test]
    fn a_client_is_given_a_server_anew_after_its_time() {
        let pool = pool(&["k"]);
        let cookie = issued(&pool, 1, 1000);
        let bound = |minute| session(&pool, &cookie, minute).bound(&pool, None).map(|bound| bound.server());
        let b = pool.members[1].server.id();
        assert_eq!([0, 1000, 1000 + DAY, 1001 + DAY].map(bound), [Some(b), Some(b), Some(b), None]);
        for (minute, place, cookie_is, result) in [
            (1000 + DAY, 1, None, StickyResult::Kept),
            (1001 + DAY, 1, Some(issued(&pool, 1, 1001 + DAY)), StickyResult::Kept),
            (1001 + DAY, 0, Some(issued(&pool, 0, 1001 + DAY)), StickyResult::Moved),
            (1000, 0, Some(issued(&pool, 0, 1000)), StickyResult::Moved),
        ] {
            let mut session = session(&pool, &cookie, minute);
            assert_eq!(told(&mut session, &pool, place), cookie_is, "{minute} {place}");
            assert_eq!(session.result(Some(&pool.members[place].server), false), result);
        }
    }

    #[test]
    fn a_cookie_by_a_new_key_binds_no_longer_than_the_old_one() {
        let (old, new) = (pool(&["o"]), pool(&["n", "o"]));
        let mut session = session(&new, &issued(&old, 1, 1000), 1500);
        assert_eq!(told(&mut session, &new, 1), Some(issued(&new, 1, 1000)));
        assert_eq!(session.result(Some(&new.members[1].server), true), StickyResult::Waited);
    }

    #[test]
    fn who_has_no_cookie_follows_its_connection() {
        let pool = pool(&["k"]);
        let connection = ConnectionServers::default();
        let first = session(&pool, "a=1", 1000);
        assert_eq!(first.bound(&pool, Some(&connection)), None);
        assert_eq!(
            first.result(Some(&pool.members[0].server), false),
            StickyResult::None,
            "it was told nothing"
        );
        first.leased(&pool, &pool.members[1].server, Some(&connection));
        let next = session(&pool, "a=1", 1000);
        let bound = next.bound(&pool, Some(&connection)).map(|bound| bound.server());
        assert_eq!(bound, Some(pool.members[1].server.id()));
        assert_eq!(next.bound(&pool, None), None, "of a connection that many share");
        // Whose cookie says another server goes there, and leads nobody with it.
        let other = session(&pool, &issued(&pool, 0, 1000), 1000);
        let bound = other.bound(&pool, Some(&connection)).map(|bound| bound.server());
        assert_eq!(bound, Some(pool.members[0].server.id()));
        other.leased(&pool, &pool.members[0].server, Some(&connection));
        assert_eq!(connection.of(&pool.name), Some(pool.members[1].server.id()));
        assert_eq!(other.result(None, false), StickyResult::None);
    }
}
