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
