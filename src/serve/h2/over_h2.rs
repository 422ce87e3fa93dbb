//! The server's side of an exchange, where the server speaks HTTP/2.

use super::server::{Answer, Data, Failure, is_one_hop};
use crate::access_log::Why;
use crate::fields::list_size;
use crate::serve::shared::StreamPermit;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Request, header};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// All fields of a response's head or trailers: as much as of one over HTTP/1.1.
const FIELDS: usize = 64 * 1024;

/// One exchange: a stream of a connection that others have streams on.
#[derive(Debug)]
pub(super) struct OverH2 {
    permit: StreamPermit,
    send: SendStream<Bytes>,
    response: ResponseFuture,
    body: Option<RecvStream>,
    /// Of the request's body, and not yet sent.
    waiting: Bytes,
    is_finished: bool,
}

impl OverH2 {
    /// Begins an exchange with the request's head.
    pub(super) fn new(
        mut permit: StreamPermit,
        head: &http::request::Parts,
        is_secured: bool,
        has_body: bool,
    ) -> Result<Self, Failure> {
        let request =
            request(head, is_secured).ok_or(Failure::malformed("a head that HTTP/2 has no form for"))?;
        let begun = permit.requests.send_request(request, !has_body);
        let (response, send) = begun.map_err(|error| {
            permit.retire();
            failure(&error)
        })?;
        Ok(Self { permit, send, response, body: None, waiting: Bytes::new(), is_finished: !has_body })
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn put(&mut self, bytes: Bytes) {
        self.waiting = bytes;
    }

    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        // A server that has given up meanwhile says so where its response is read.
        let _ = match trailers {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.waiting.is_empty() {
            self.send.reserve_capacity(self.waiting.len());
            let room = match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(Why::ServerReset.into())),
                },
                room => room,
            };
            if room == 0 {
                // The window has shrunk again; the next look waits.
                continue;
            }
            let part = self.waiting.split_to(room.min(self.waiting.len()));
            self.send.send_data(part, false).map_err(|error| failure(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The next head, be it an interim one or not.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let (head, ()) = interim.map_err(|error| failure(&error))?.into_parts();
            if list_size(&head.headers) > FIELDS {
                return Poll::Ready(Err(Failure::malformed("response head too large")));
            }
            return Poll::Ready(Ok(Answer {
                status: head.status,
                fields: head.headers,
                is_over: false,
                hint: None,
            }));
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| failure(&error))?;
        self.permit.hear();
        let (head, body) = response.into_parts();
        let is_over = body.is_end_stream();
        self.body = Some(body);
        if list_size(&head.headers) > FIELDS {
            return Poll::Ready(Err(Failure::malformed("response head too large")));
        }
        if head.headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
            return Poll::Ready(Err(Failure::malformed("more than one Content-Length")));
        }
        Poll::Ready(Ok(Answer { status: head.status, fields: head.headers, is_over, hint: None }))
    }

    /// The next of the response's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Data, Failure>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Data::End(None))) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It is asked for only when there is room for it with the client.
                let _ = body.flow_control().release_capacity(bytes.len());
                self.permit.hear();
                let is_last = body.is_end_stream();
                Poll::Ready(Ok(Data::Some { bytes, is_last }))
            }
            Some(Err(error)) => Poll::Ready(Err(failure(&error))),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(|error| failure(&error))?;
                if trailers.as_ref().is_some_and(|trailers| list_size(trailers) > FIELDS) {
                    return Poll::Ready(Err(Failure::malformed("trailers too large")));
                }
                Poll::Ready(Ok(Data::End(trailers)))
            }
        }
    }

    /// The server did not answer in time: perhaps nobody is there any more.
    pub(super) fn doubt(&self) {
        if !self.permit.was_heard() {
            self.permit.retire();
        }
    }
}

/// What an error of a stream means.
fn failure(error: &h2::Error) -> Failure {
    // RFC 9113 sections 6.8 and 8.7: the server has done nothing for this request.
    let is_untouched =
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    let is_malformed = error.is_library() && error.is_reset();
    let (why, detail) = match is_malformed {
        true => (Why::ServerMalformed, Some("refused by the HTTP/2 codec")),
        false => (Why::ServerReset, None),
    };
    Failure { why, detail, is_untouched }
}

/// The request as HTTP/2 has it (RFC 9113 section 8.3.1).
fn request(head: &http::request::Parts, is_secured: bool) -> Option<Request<()>> {
    let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host)?;
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder()
        .scheme(if is_secured { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(target)
        .build();
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri.ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    let fields = request.headers_mut();
    fields.reserve(head.headers.len());
    for (name, value) in &head.headers {
        let is_other_te = || *name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers");
        if *name != header::HOST && !is_one_hop(name) && !is_other_te() {
            fields.append(name, value.clone());
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_for_the_way_it_goes() {
        let head = Request::builder()
            .uri("http://a.example/b?c")
            .header("host", "a.example")
            .header("te", "trailers")
            .header("proxy-authorization", "secret")
            .header("x-a", "1")
            .header("x-a", "2");
        let (head, ()) = head.body(()).expect("a request").into_parts();
        let request = request(&head, true).expect("it has a form");
        assert_eq!(request.uri(), "https://a.example/b?c");
        let fields: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("te", &b"trailers"[..]), ("x-a", b"1"), ("x-a", b"2")]);
    }

    #[test]
    fn a_host_field_will_do_for_an_authority() {
        let (head, ()) =
            Request::builder().uri("/b").header("host", "a:80").body(()).expect("a request").into_parts();
        assert_eq!(request(&head, false).expect("it has a form").uri(), "http://a:80/b");
        let (head, ()) = Request::builder().uri("/b").body(()).expect("a request").into_parts();
        assert!(request(&head, false).is_none());
    }
}
