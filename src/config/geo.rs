//! Where clients are: the databases, and lists of countries and autonomous systems.

use super::place::At;
use super::problem::Fault;
use super::process::file_path;
use super::section::Section;
use super::tree::Scalar;
use crate::geo::{AllowDeny, Geo, GeoDatabase, GeoKind};
use crate::template::{Template, Variable};
use std::str::FromStr;
use std::sync::Arc;

/// Reads the section.
pub(super) fn geo(section: &Section<'_>) -> Geo {
    let database = |kind: GeoKind| {
        let file = section.nullable(kind.key(), file_path)?;
        Some(Arc::new(GeoDatabase::new(kind, file)))
    };
    Geo { country: database(GeoKind::Country), asn: database(GeoKind::Asn) }
}

/// What a list is of.
pub(super) trait InGeo: FromStr<Err = String> + PartialEq {
    const KIND: GeoKind;
    const WANTED: &str;
}

impl InGeo for crate::geo::Country {
    const KIND: GeoKind = GeoKind::Country;
    const WANTED: &str = "a country's two letters, like `DE`";
}

impl InGeo for crate::geo::Asn {
    const KIND: GeoKind = GeoKind::Asn;
    const WANTED: &str = "the number of an autonomous system, like `64500`";
}

/// Reads lists of places; they need their database.
#[derive(Clone, Copy)]
pub(super) struct GeoReader {
    pub(super) has_country: bool,
    pub(super) has_asn: bool,
}

impl GeoReader {
    /// Warns of texts with `{country}` where nothing says what that is.
    pub(super) fn check<'t>(self, at: &At<'_>, mut templates: impl Iterator<Item = &'t Template>) {
        let names_country =
            |template: &Template| template.variables().any(|variable| *variable == Variable::Country);
        if !self.has_country && templates.any(names_country) {
            at.warn(Fault::new(
                "`{country}` stands for nothing: there is no `geo.country`",
                "add `geo: { country: /etc/evenkeel/country.mmdb }`",
            ));
        }
    }

    pub(super) fn list<T: InGeo>(self, at: &At<'_>) -> Vec<T> {
        let Some(items) = at.items() else { return Vec::new() };
        let read = |scalar: &Scalar<'_>| scalar.text.parse::<T>().map_err(Fault::from);
        let list: Vec<T> = items.filter_map(|item| item.scalar(&T::WANTED, read)).collect();
        let has_database = match T::KIND {
            GeoKind::Country => self.has_country,
            GeoKind::Asn => self.has_asn,
        };
        if !list.is_empty() && !has_database {
            let key = T::KIND.key();
            at.refuse_key(Fault::new(
                format!("there is no `geo.{key}`, which says where clients are"),
                format!("add `geo: {{ {key}: /etc/evenkeel/{key}.mmdb }}`"),
            ));
        }
        list
    }

    pub(super) fn of<T: InGeo>(self, section: &Section<'_>, name: &str) -> Vec<T> {
        section.get(name).map(|at| self.list(&at)).unwrap_or_default()
    }

    /// Those who may, and those who may not.
    pub(super) fn allow_deny<T: InGeo>(self, section: &Section<'_>) -> AllowDeny<T> {
        AllowDeny { allow: self.of(section, "allow"), deny: self.of(section, "deny") }
    }
}
