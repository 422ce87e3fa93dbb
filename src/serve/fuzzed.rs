//! What the fuzz targets (`fuzz/`) call of this room and of those above it, in types of their own: the judge keeps its own to
//! itself.

use crate::filter::{self, ResponseFacts};
use crate::wire::fuzzed::Judged;
use crate::wire::request::RequestView;
use crate::wire::request_head::{self, Head};
use crate::wire::response_head::{
    self, FieldSpans, Framing, Http1Terms, ResponseBodyEnd, ResponseHeadVerdict, ResponseTo,
};
use http::HeaderMap;

/// Who gets a response.
#[derive(Clone, Copy, Debug)]
pub struct Recipient {
    pub has_sent_head: bool,
    /// What its connection may switch to, as Upgrade has it.
    pub upgrade: Option<&'static str>,
    pub is_http_11: bool,
    /// Its connection may bring another request.
    pub may_go_on: bool,
    /// What is said of Strict-Transport-Security.
    pub hsts: Option<&'static str>,
}

/// How a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A response's head that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, its empty line included.
    pub length: usize,
    pub status: u16,
    pub body: ResponseBody,
    pub keeps: bool,
    /// Whether its recipient's connection goes on after it.
    pub goes_on: bool,
    /// What its recipient gets over HTTP/1.
    pub written: Vec<u8>,
}

/// Judges a response's head, and writes it as the client's side of an exchange does.
pub fn response_head(bytes: &[u8], to: Recipient) -> Judged<ResponseHead> {
    let mut fields = FieldSpans::new();
    let form = match judge(bytes, to, &mut fields) {
        Ok(form) => form,
        Err(judged) => return judged,
    };
    let view = form.view(bytes, &fields);
    let framing = Framing::of(&view, to.has_sent_head, to.is_http_11);
    let goes_on = to.may_go_on && framing != Framing::UntilClose;
    let mut written = Vec::new();
    if to.is_http_11 || !view.is_interim() {
        let terms = Http1Terms { is_http_11: to.is_http_11, framing, may_go_on: goes_on };
        with_edits(to, |facts| {
            response_head::write_http1(&view, &filter::response(&view, facts), terms, &mut written);
        });
    }
    Judged::Complete(ResponseHead {
        length: form.length,
        status: form.status,
        body: match form.body {
            ResponseBodyEnd::Length(length) => ResponseBody::Length(length),
            ResponseBodyEnd::Chunked(_) => ResponseBody::Chunked,
            ResponseBodyEnd::UntilClose => ResponseBody::UntilClose,
        },
        keeps: form.keeps,
        goes_on,
        written,
    })
}

/// Its fields as an HTTP/2 client gets them; none if the head is not whole or is refused.
pub fn response_fields(bytes: &[u8], to: Recipient) -> Option<HeaderMap> {
    let mut fields = FieldSpans::new();
    let form = judge::<()>(bytes, to, &mut fields).ok()?;
    let view = form.view(bytes, &fields);
    with_edits(to, |facts| response_head::http2(&view, &filter::response(&view, facts)))
        .map(|response| response.into_parts().0.headers)
}

fn judge<H>(
    bytes: &[u8],
    to: Recipient,
    fields: &mut FieldSpans,
) -> Result<response_head::ResponseHeadForm, Judged<H>> {
    let to = ResponseTo { is_head_request: to.has_sent_head, upgrade: to.upgrade };
    match response_head::judge(bytes, to, fields) {
        ResponseHeadVerdict::Partial => Err(Judged::Partial),
        ResponseHeadVerdict::Refused(why) => Err(Judged::Refused(why)),
        ResponseHeadVerdict::Complete(form) => Ok(form),
    }
}

/// What filters know of a response to somebody who has asked for `/`.
fn with_edits<T>(to: Recipient, then: impl FnOnce(&ResponseFacts<'_>) -> T) -> T {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let request_head::RequestHeadVerdict::Complete(form) = request_head::judge(bytes, bytes.len()) else {
        unreachable!("it is a head")
    };
    let head = Head::new(bytes.to_vec(), form);
    then(&ResponseFacts {
        request: Some(RequestView::from(&head)),
        hsts: to.hsts,
        date: b"Thu, 01 Jan 1970 00:00:00 GMT",
        ..ResponseFacts::default()
    })
}
