//! The request's way: its head and its body, from the client to the server.

use super::Relay;
use crate::access_log::Why;
use crate::edge::Buffer;
use crate::wire::request_head::Body;
use std::task::{Context, Poll};
use std::time::Instant;

/// As much of a body is kept as may have to be sent again, to another server.
const REPEATABLE: usize = 64 * 1024;
/// Bytes of a body that nobody wants that are read rather than closing the connection.
const DISCARDED: u64 = 64 * 1024;

impl Relay<'_> {
    /// Moves as much of the request as moves now.
    pub(super) fn upload(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        if self.is_uploaded || self.is_refused {
            return Ok(());
        }
        loop {
            // What is here of the body goes out with the head.
            if self.body.is_none() && !self.conn.is_request_over() {
                self.read_body(cx)?;
            }
            let both = [&self.request[self.sent..], self.body.as_ref().map_or(&[][..], Buffer::data)];
            if both == [b"", b""] {
                if self.conn.is_request_over() {
                    self.uploaded();
                }
                return Ok(());
            }
            let Some(server) = &mut self.server else { return Err(Why::Internal) };
            match server.poll_send(cx, both) {
                Poll::Ready(Ok(n @ 1..)) => {
                    let of_request = n.min(self.request.len() - self.sent);
                    self.sent += of_request;
                    if let Some(body) = &mut self.body {
                        body.consume(n - of_request);
                    }
                    self.body.take_if(|body| body.is_empty());
                    self.state.watch.touch();
                    self.waits_for(false);
                }
                // It may have answered before it closed.
                Poll::Ready(_) => {
                    self.is_refused = true;
                    return Ok(());
                }
                Poll::Pending => {
                    self.waits_for(true);
                    return Ok(());
                }
            }
        }
    }

    /// Which side is to move next, and how long that may take.
    fn waits_for(&mut self, server: bool) {
        if self.waits_for_server == server || self.status != 0 {
            return;
        }
        self.waits_for_server = server;
        self.exchange.upload_waits(server);
    }

    /// Reads of the request's body what is there.
    fn read_body(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        let mut buffer = Buffer::take();
        let n = match buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf)) {
            Poll::Ready(Ok(n @ 1..)) => n,
            Poll::Ready(_) => return Err(self.state.watch.interrupted().unwrap_or(Why::ClientAborted)),
            Poll::Pending => return Ok(()),
        };
        self.bytes_in = match self.head.body() {
            Body::Chunked => self.conn.chunk_data(),
            Body::Length(_) => self.bytes_in + n as u64,
        };
        let limit = self.exchange.listener.as_ref().map_or(0, |listener| listener.plan.limits.request_body);
        if self.bytes_in > limit {
            return Err(Why::BodyTooLarge);
        }
        if self.is_repeatable && self.request.len() + n <= REPEATABLE {
            self.request.extend_from_slice(buffer.data());
        } else {
            self.is_repeatable = false;
            self.body = Some(buffer);
        }
        Ok(())
    }

    /// The request is with the server, which is now to answer.
    fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.waits_for_server = false;
        if self.status != 0 {
            return;
        }
        let has_body = self.head.body() != Body::Length(0);
        let Some(request) = self.exchange.pool().map(|pool| pool.plan.timeouts.request) else { return };
        let began = if has_body { Instant::now() } else { self.exchange.started };
        self.exchange.expect_head(began + request);
    }

    /// Reads what has come of the request's body: if that is all of it, the connection can go on.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) {
        let mut buffer = Buffer::take();
        while !self.conn.is_request_over()
            && self.bytes_in < DISCARDED
            && let Poll::Ready(Ok(n @ 1..)) = buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf))
        {
            buffer.consume(n);
            self.bytes_in += n as u64;
        }
    }
}
