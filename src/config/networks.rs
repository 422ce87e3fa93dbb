//! Networks under names, and lists of networks, addresses and such names, wherever the file has them.

use super::geo::GeoReader;
use super::keys;
use super::names::{Names, check_section_name};
use super::place::At;
use super::problem::{Fault, nearest, quoted};
use super::process::file_path;
use super::tree::Scalar;
use crate::networks::{NamedNetworks, Networks, NetworksItem, NetworksSource, network};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What the file has under `networks`, for lists of networks to refer to.
pub(super) struct NamedLists<'a> {
    names: Names<'a>,
    /// Those that are good.
    known: HashMap<&'a str, Arc<NamedNetworks>>,
    /// Lists of where clients are.
    pub(super) geo: GeoReader,
}

impl<'a> NamedLists<'a> {
    /// Reads the section; one that is wrong has been reported.
    pub(super) fn read(sections: Option<&[(&'a str, At<'_>)]>, geo: GeoReader) -> Self {
        let names = sections.map(|sections| sections.iter().map(|(name, _)| *name).collect());
        let one = |(name, at): &(&'a str, At<'_>)| {
            let source = source(name, at)?;
            Some((*name, Arc::new(NamedNetworks::new((*name).into(), source))))
        };
        let known = sections.into_iter().flatten().filter_map(one).collect();
        Self { names: Names::new("networks", names), known, geo }
    }

    /// In the order of the file.
    pub(super) fn into_plan(self) -> Vec<Arc<NamedNetworks>> {
        let in_order = self.names.all().iter().filter_map(|name| self.known.get(name));
        in_order.map(Arc::clone).collect()
    }

    pub(super) fn names(&self) -> &Names<'a> {
        &self.names
    }

    /// A list of networks, addresses and names.
    pub(super) fn list(&self, at: &At<'_>) -> Networks {
        let read = |item: At<'_>| item.scalar(&"a network like `10.0.0.0/8`", |scalar| self.item(scalar))?;
        let items: Option<Vec<_>> = at.items().map(|items| items.filter_map(read).collect());
        items.unwrap_or_default().into()
    }

    /// `None` for a name that was refused where it stands under `networks`.
    fn item(&self, scalar: &Scalar<'_>) -> Result<Option<NetworksItem>, Fault> {
        if let Some(index) = self.names.find(&scalar.text) {
            let name = self.names.name(index).and_then(|name| self.known.get(name));
            return Ok(name.map(|named| NetworksItem::Named(Arc::clone(named))));
        }
        match network(&scalar.text) {
            Ok(network) => Ok(Some(NetworksItem::Network(network))),
            Err(_) if is_like_a_name(&scalar.text) => Err(self.unknown(scalar)),
            Err(fault) => Err(Fault::from(fault)),
        }
    }

    fn unknown(&self, scalar: &Scalar<'_>) -> Fault {
        let message = format!("{} is not a network, and no name under `networks`", quoted(&scalar.text));
        match nearest(&scalar.text, self.names.all().iter().copied()) {
            Some(name) => Fault { message: format!("{message}, did you mean `{name}`?"), help: None },
            None => Fault::new(message, "write it like `10.0.0.0/8`, or add the name under `networks`"),
        }
    }
}

/// The items of a list that every address belongs to.
pub(super) fn everybody<'a>(at: &'a At<'_>, networks: &'a Networks) -> impl Iterator<Item = At<'a>> {
    let items = at.items().into_iter().flatten();
    let all = items.zip(networks.items()).filter(|(_, network)| network.is_everybody());
    all.map(|(item, _)| item)
}

/// Whether nobody would write an address so.
fn is_like_a_name(text: &str) -> bool {
    let is_of_address = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '/');
    !text.contains([':', '/']) && !text.chars().all(is_of_address)
}

fn source(name: &str, at: &At<'_>) -> Option<NetworksSource> {
    check_section_name(name, at);
    if name.parse::<IpAddr>().is_ok() {
        at.refuse_key(Fault::new(format!("{} is an address", quoted(name)), "use a name, like `office`"));
    }
    if at.is_section() {
        let section = at.section(keys::NETWORKS)?;
        return section.required("file", file_path).map(NetworksSource::File);
    }
    let read = |item: At<'_>| {
        item.scalar(&"a network like `10.0.0.0/8`", |scalar| network(&scalar.text).map_err(Fault::from))
    };
    Some(NetworksSource::Listed(at.items()?.filter_map(read).collect()))
}
