//! Answers of our own, where a side speaks HTTP/2 or may: in HTTP's words, or in gRPC's to a call.

use super::Relay;
use super::client::Client;
use crate::access_log::Why;
use crate::edge::date;
use crate::serve::{answer, grpc};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

/// How long a client has to take an answer of ours.
const LINGER: Duration = Duration::from_secs(2);

impl<C: Client> Relay<C> {
    /// Whether the client has given its call up by now, if this is the reason for its end.
    pub(super) fn is_given_up(&self, why: Why) -> bool {
        let is_first = |call_due| self.exchange.due.is_none_or(|due| call_due <= due);
        why == Why::RequestTimeout && self.call_due.is_some_and(is_first)
    }

    /// Answers with a status of our own, for the first reason there was.
    pub(super) async fn answer(&mut self, why: Why) {
        self.server = None;
        self.exchange.fail(why);
        self.exchange.give_back();
        self.state.watch.no_deadline();
        self.state.watch.may_be_quiet();
        let why = self.exchange.why;
        if why == Why::ClientAborted {
            return self.client.cut();
        }
        self.state.answered.store(true, Relaxed);
        self.client.refuse_body();
        let said = self.exchange.said();
        let kind = match grpc::web_call(&self.head.headers) {
            _ if self.is_grpc => Some("application/grpc"),
            kind => kind,
        };
        let kind = kind.filter(|_| said.is_plain()).and_then(|kind| HeaderValue::from_str(kind).ok());
        if let Some(kind) = kind {
            return self.answer_call(why, kind).await;
        }
        self.status = why.status();
        let text = said.proof.map_or_else(|| answer::body(self.status), str::to_owned);
        let fields = answer::fields(self.status, said, text.len(), SystemTime::now());
        let is_over = self.head.method == Method::HEAD;
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.client.begin(status, fields, is_over).is_ok() {
            if !is_over {
                self.client.send(Bytes::from(text), true);
            }
            // Most clients have room for it at once.
            let flushed = tokio::time::timeout(LINGER, poll_fn(|cx| self.client.poll_flush(cx))).await;
            if !matches!(flushed, Ok(Ok(()))) {
                self.client.cut();
            }
            self.bytes_out = self.client.sent();
        }
    }

    /// Answers a gRPC call with a head alone, of the call's own type, which is its trailers too.
    async fn answer_call(&mut self, why: Why, kind: HeaderValue) {
        let status = match self.is_given_up(why) {
            true => grpc::DEADLINE_EXCEEDED,
            false => grpc::status_for(why.status()),
        };
        self.exchange.grpc_status = Some(status);
        let mut fields = grpc::trailers(status, why.as_str());
        fields.insert(header::CONTENT_TYPE, kind);
        fields.insert(header::DATE, date(SystemTime::now()));
        self.status = 200;
        if self.client.begin(StatusCode::OK, fields, true).is_ok() {
            let _ = tokio::time::timeout(LINGER, poll_fn(|cx| self.client.poll_flush(cx))).await;
        }
    }
}
