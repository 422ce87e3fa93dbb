//! How requests are passed on: whose word on a client is taken, and what servers get. Whoever serves knows that.

use crate::fields::FieldList;
use crate::networks::Networks;
use crate::policy::{Policy, Variables};
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use std::fmt;
use std::net::IpAddr;

/// Where a request comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassedFrom<'a> {
    /// The other end of its connection; `None` for a unix socket.
    pub(crate) peer: Option<IpAddr>,
    /// Its connection is encrypted.
    pub(crate) is_encrypted: bool,
    /// Whose word is taken.
    pub(crate) trusted: &'a Networks,
}

/// What is done with what servers get of a request, and with what proxies say of its way.
pub(crate) type WithPassed<'a> = dyn FnMut(&Edits<'_>, &[u8]) + 'a;

/// Who passes requests on.
pub(crate) trait PassesOn {
    /// The client, if proxies say who it is.
    fn client(&self, from: &PassedFrom<'_>, fields: FieldList<'_>) -> Option<IpAddr>;

    /// Whether the client came by TLS.
    fn is_secure(&self, from: &PassedFrom<'_>, fields: FieldList<'_>) -> bool;

    /// Makes what servers get of a request; `tells_hosts`: a host that proxies have named makes a difference.
    fn pass(
        &self,
        request: (&RequestView<'_>, &PassedFrom<'_>),
        applied: (&Policy, &Variables<'_>),
        tells_hosts: bool,
        with: &mut WithPassed<'_>,
    );
}

/// The same, for whoever asks.
#[derive(Clone, Copy)]
pub struct Passing<'a>(pub(super) &'a dyn PassesOn);

impl fmt::Debug for Passing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passing")
    }
}

impl<'a> Passing<'a> {
    pub(crate) fn new(by: &'a dyn PassesOn) -> Self {
        Self(by)
    }
}
