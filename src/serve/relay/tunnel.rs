//! A connection that has switched to another protocol (RFC 9110 section 7.8).

use super::Relay;
use crate::access_log::Why;
use crate::edge::{AfterRequest, Duplex};
use crate::metrics::RequestOutcome;
use crate::serve::client::ClientSide;
use crate::serve::exchange::LeasedServer;
use crate::serve::server::{ResponseStart, ServerSide};
use std::future::poll_fn;
use std::time::Instant;

impl<C: ClientSide> Relay<'_, C> {
    /// Passes bytes both ways, behind the response's head. Neither side's messages are looked at; of a WebSocket it is known
    /// where they end.
    pub(super) async fn tunnel(&mut self, side: ServerSide, start: ResponseStart, leased: LeasedServer) {
        if let Err(failure) = self.begin(&side) {
            self.exchange.detail = failure.detail.or(self.exchange.detail);
            return self.reply(failure.why).await;
        }
        self.status = start.status;
        self.exchange.answered(start.status, None);
        self.exchange.tunnel_begins();
        self.exchange.judge();
        let watch = &self.state.watch;
        watch.quiet(leased.pool.plan.timeouts.tunnel_idle, Why::TunnelIdle);
        // Only HTTP/1 has such responses, and only who has asked for one by HTTP/1 gets it.
        let (ServerSide::Http1(server), Some((client, mut down))) = (side, self.client.switch()) else {
            return self.reply(Why::Internal).await;
        };
        let (mut server, came) = server.switch();
        let up = client.take_arrived();
        down.extend_from_slice(&came);
        let (read, came) = (up.len() as u64, came.len() as u64);
        // It may be silent for hours, and outlive many reloads: nothing is held that it does not need.
        drop(leased);
        self.exchange.listener = None;
        let duplex = Duplex::new((up, read), (down, came));
        let mut duplex = if start.is_websocket { duplex.of_websocket() } else { duplex };
        let since = Instant::now();
        let why = poll_fn(|cx| duplex.poll(client.socket_mut(), &mut server, watch, cx)).await;
        (self.bytes_in, self.bytes_out) = duplex.passed();
        // Whoever ends a WebSocket says so (RFC 6455 section 7.1.1); others may have nothing to say.
        let is_abrupt = start.is_websocket && why == Why::Ok && duplex.has_ended_mute();
        if is_abrupt && since.elapsed() < RequestOutcome::PATIENCE {
            self.exchange.detail = Some("closed at once, without a word");
            self.exchange.fail(Why::ServerReset);
        }
        self.exchange.fail(why);
        self.client.switched(match self.state.watch.interrupted() {
            // Unread bytes of the client's would turn our close frame into a reset.
            Some(_) if duplex.is_delivered() => AfterRequest::LingeringClose,
            _ => AfterRequest::Close,
        });
    }
}
