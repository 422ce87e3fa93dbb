//! Responses that others have as they come: those who wait for the same, and who come while it is on its way. The client who fetches one
//! has it from where it is kept, as they do.

use super::Relay;
use super::caching::{Filling, Unkept};
use crate::serve::client::ClientSide;
use crate::serve::exchange::LeasedServer;
use crate::serve::server::{Part, ServerSide, Stored};
use crate::store::{BodySource, StoredBody};
use http::{HeaderValue, header};
use std::sync::Arc;
use std::task::{Context, Poll};

impl<C: ClientSide> Relay<'_, C> {
    /// Lets those who wait for the response have it as it comes, if it has said how long it is and there is room for all of it. What comes
    /// is where it is, and its length.
    pub(super) fn share(&mut self) -> Option<(Arc<dyn BodySource>, u64)> {
        let caching = self.caching.as_mut()?;
        caching.fetching.as_ref()?;
        let filling = match caching.filling.as_mut()? {
            Filling::Memory(filling) => filling,
            // Its client has it from its server, whatever becomes of the disk.
            Filling::Disk(_) => return None,
        };
        let length = filling.length.filter(|length| *length > filling.body.length())?;
        if !filling.body.claim(length) {
            return None;
        }
        let source = filling.body.source();
        let (status, terms, tags) = (filling.status, filling.terms.clone(), filling.tags.clone());
        let mut fields = filling.fields.clone();
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let selected = self.selected(&terms.vary).into();
        let caching = self.caching.as_ref()?;
        let body = StoredBody::Elsewhere(Arc::clone(&source));
        let coming = caching.stored_as(status, (fields, terms, tags), (body, length), selected);
        caching.fetching.as_ref()?.begin(Arc::new(coming));
        Some((source, length))
    }

    /// Lets those who wait for what goes to the disk have it from there as it comes, once there is room for all of it; or has them ask
    /// servers, if there is none.
    pub(super) fn share_on_disk(&mut self, cx: &Context<'_>) {
        let Some(caching) = &mut self.caching else { return };
        let (Some(Filling::Disk(fill)), Some(fetching)) = (&mut caching.filling, &caching.fetching) else {
            return;
        };
        if fill.is_shared {
            return;
        }
        match fill.writer.poll_made(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                fill.is_shared = true;
                fetching.begin(Arc::new(fill.writer.coming()));
            }
            Poll::Ready(Err(reason)) => self.not_kept(Unkept::NotStored(reason)),
        }
    }

    /// Shares a response that has begun, of which this is the first part. What is left of it for the client comes from what is kept, so
    /// that a client who reads slowly holds up nobody else.
    pub(super) fn share_rest(&mut self, server: ServerSide, first: Option<&Part>) -> ServerSide {
        if matches!(first, Some(Part::Data { is_last: true, .. } | Part::End(_))) {
            return server;
        }
        let Some((source, length)) = self.share() else { return server };
        let mut from = 0;
        if let Some(Part::Data { piece, .. }) = first {
            self.keep(piece.data());
            from = piece.data().len() as u64;
        }
        (self.feeding, self.is_fed) = (Some(server), true);
        ServerSide::Stored(Box::new(Stored::rest(source, from..length)))
    }

    /// A client that is behind holds up nobody who follows what it fetches and has all that has come: from here on it has the rest from where
    /// that is kept, as they do.
    pub(super) fn let_others_go_on(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Option<ServerSide>,
        leased: Option<&LeasedServer>,
    ) {
        let Some(Filling::Disk(fill)) = self.caching.as_ref().and_then(|caching| caching.filling.as_ref())
        else {
            return;
        };
        if self.is_fed || server.is_none() {
            return;
        }
        let Poll::Ready((source, rest)) = fill.writer.poll_awaited(cx) else { return };
        self.feeding = server.replace(ServerSide::Stored(Box::new(Stored::rest(source, rest))));
        self.is_fed = true;
        self.feed(cx, leased);
    }

    /// Keeps what has come of a response that others follow. If it breaks off, they are told at once, and its own client when it has
    /// taken what it was sent.
    pub(super) fn feed(&mut self, cx: &mut Context<'_>, leased: Option<&LeasedServer>) {
        self.share_on_disk(cx);
        while self.feeding.is_some() {
            if self.poll_keeping(cx).is_pending() {
                return;
            }
            let Some(server) = &mut self.feeding else { return };
            let Poll::Ready(part) = server.poll_part(cx, false) else { return };
            self.state.watch.touch();
            let is_over = match part {
                Ok(Part::Data { piece, is_last, .. }) => {
                    self.keep(piece.data());
                    is_last
                }
                Ok(Part::End(_)) => true,
                Err(failure) => {
                    (self.feeding, self.broken_off) = (None, Some(failure));
                    return self.not_kept(Unkept::BrokenOff(failure));
                }
            };
            if is_over {
                self.kept();
                let mut server = self.feeding.take();
                self.release(&mut server, leased);
            }
        }
    }
}
