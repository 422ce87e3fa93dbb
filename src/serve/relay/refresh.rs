//! What is fetched for the cache alone, in a task of its own: it renews what goes out meanwhile.

use super::Relay;
use super::caching::Caching;
use crate::edge::{RequestState, Watch, Watched};
use crate::serve::client::{Background, ClientSide};
use crate::serve::exchange::Exchange;
use crate::wire::request::RequestView;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, header};
use std::sync::Arc;

/// Fetches what a request would have fetched, if it still meets the same rule and its head has a form in http's map.
pub(super) fn spawn<C: ClientSide>(relay: &Relay<'_, C>, caching: Caching, scope: u64) {
    let Some(head) = owned(&relay.request) else { return };
    let (live, client) = (Arc::clone(&relay.exchange.live), Arc::clone(&relay.state.client));
    let addresses = relay.addresses;
    tokio::spawn(async move {
        let watch = Watched::new(Watch::new(client.listener));
        let state = Arc::new(RequestState::new(client, watch));
        let exchange = Exchange::begin(&live, &state);
        let request = RequestView::of_parts(&head, false);
        let mut relay = Relay::new(exchange, state, addresses, request, Background);
        if relay.exchange.decide_for_store(&relay.request).is_err()
            || relay.exchange.cache().is_none_or(|rule| rule.scope != scope)
        {
            return;
        }
        relay.caching = Some(Box::new(caching));
        relay.fetch().await;
    });
}

/// A request's head that outlives its connection.
fn owned(request: &RequestView<'_>) -> Option<Parts> {
    let target = PathAndQuery::try_from(request.path_and_query).ok()?;
    let uri = match request.host {
        Some(host) => Uri::builder().scheme("http").authority(host).path_and_query(target).build().ok()?,
        None => Uri::from(target),
    };
    let mut head = Request::new(()).into_parts().0;
    (head.method, head.uri, head.version) = (Method::GET, uri, request.version);
    request.fields.each().for_each(|field| field.append_to(&mut head.headers));
    // It is fetched whole, whatever its client has asked for of it.
    for name in [&header::RANGE, &header::IF_RANGE, &header::IF_NONE_MATCH, &header::IF_MODIFIED_SINCE] {
        head.headers.remove(name);
    }
    Some(head)
}
