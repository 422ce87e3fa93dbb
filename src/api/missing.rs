//! Names that there are not, and the nearest ones that there are.

use super::ApiError;

impl ApiError {
    /// There is no pool of this name among these.
    pub fn no_pool<'a>(name: &str, pools: impl Iterator<Item = &'a str>) -> Self {
        Self { message: format!("there is no pool {name}"), help: Some(among("pools", name, pools)) }
    }

    /// The pool has no server of this name among these.
    pub fn no_server<'a>(pool: &str, name: &str, servers: impl Iterator<Item = &'a str>) -> Self {
        let message = format!("pool {pool} has no server {name}");
        Self { message, help: Some(among("its servers", name, servers)) }
    }

    /// There is no section of routes and no rule of this name among these.
    pub fn no_route<'a>(name: &str, routes: impl Iterator<Item = &'a str>) -> Self {
        Self { message: format!("there is no route {name}"), help: Some(among("routes", name, routes)) }
    }
}

/// The nearest name, or all of them.
fn among<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<_> = names.collect();
    let nearest =
        names.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    match nearest {
        Some(nearest) if strsim::jaro_winkler(nearest, name) > 0.85 => format!("did you mean {nearest}?"),
        None => format!("{what}: none"),
        _ => {
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("{what}: {}{more}", names[..names.len().min(SHOWN)].join(", "))
        }
    }
}
