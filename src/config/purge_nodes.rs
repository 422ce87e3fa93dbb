//! `cache.purge_nodes`: the other nodes that are told what is purged here.

use super::address::to_connect;
use super::keys;
use super::names::Once;
use super::place::At;
use super::plan::AdminPlan;
use super::plan::cache::PurgeNodePlan;
use super::problem::Fault;
use super::process::file_path;
use crate::units::Address;

/// A node for each item: an address alone, or a section with its token.
pub(super) fn purge_nodes(at: &At<'_>, admin: Option<&AdminPlan>) -> Vec<PurgeNodePlan> {
    let (mut read, mut taken) = (Vec::new(), Once::default());
    for item in at.items().into_iter().flatten() {
        let Some(node) = purge_node(&item) else { continue };
        if let Some(line) = taken.seen(node.address.clone(), item.line()) {
            item.refuse(Fault::new(
                format!("{} is listed twice", node.address),
                format!("remove it here or in line {line}"),
            ));
        }
        if let Some(admin) = admin {
            look(&item, &node, admin);
        }
        read.push(node);
    }
    read
}

fn purge_node(item: &At<'_>) -> Option<PurgeNodePlan> {
    if item.is_scalar() {
        let address = item.scalar(&"an address like `10.0.0.2:9900`", to_connect)?;
        return Some(PurgeNodePlan { address, token_file: None });
    }
    let section = item.section(keys::PURGE_NODE)?;
    let token_file = section.nullable("token_file", file_path);
    Some(PurgeNodePlan { address: section.required("address", to_connect)?, token_file })
}

/// Warns of a node that need not be told anything, or will not be.
fn look(item: &At<'_>, node: &PurgeNodePlan, admin: &AdminPlan) {
    let is_tcp = matches!(node.address, Address::Inet(_));
    let fault = if admin.is_at(&node.address) {
        Fault::new(
            format!("{} is this process's own admin endpoint, so it is left out", node.address),
            "remove it, unless all nodes are to have the same list",
        )
    } else if is_tcp && node.token_file.is_none() && admin.token_file.is_none() {
        Fault::new(
            format!("{} is shown no token, and over TCP nothing can be purged without one", node.address),
            "add `admin.token_file`, whose token is shown to nodes that have no other, or a `token_file` here",
        )
    } else if !is_tcp && node.token_file.is_some() {
        Fault::new("has a token that nobody asks for on a unix socket", "remove `token_file`")
    } else {
        return;
    };
    item.warn(fault);
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// The problems of these nodes, each as its path and its beginning.
    fn check(admin: &str, nodes: &str, expected: &[&str]) {
        let text = format!(
            "admin: {{ {admin} }}\ncache: {{ purge_nodes: [{nodes}] }}\nlisteners: {{ a: {{ address: 127.0.0.1:1, policy: c, pool: p }} }}\n\
             policies: {{ c: {{ cache: {{}} }} }}\npools: {{ p: {{ servers: [127.0.0.1:2] }} }}\n"
        );
        let problems = match parse(&text) {
            Ok((_, problems)) | Err(problems) => problems,
        };
        let told: Vec<_> =
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        assert_eq!(told.len(), expected.len(), "{nodes}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{nodes}: {told}");
        }
    }

    #[test]
    fn nodes_that_cannot_be_told_anything_are_found() {
        let token = "address: 10.0.0.1:9900, token_file: t";
        check(
            token,
            "10.0.0.2:9900, '[::1]:9900', unix:/run/b.sock, { address: 10.0.0.3:1, token_file: u }",
            &[],
        );
        check(token, "10.0.0.1:9900", &["cache.purge_nodes[0]: 10.0.0.1:9900 is this process's own"]);
        check("address: 0.0.0.0:9900, token_file: t", "127.0.0.1:9900", &["own admin endpoint"]);
        check("address: 0.0.0.0:9900, token_file: t", "127.0.0.1:9901, 10.0.0.1:9900", &[]);
        check("socket: /run/a.sock", "unix:/run/a.sock", &["own admin endpoint"]);
        check(
            token,
            "10.0.0.2:9900, 10.0.0.2:9900",
            &["cache.purge_nodes[1]: 10.0.0.2:9900 is listed twice"],
        );
        check(token, "10.0.0.2", &["`10.0.0.2` has no port"]);
        check(token, "10.0.0.2:0", &["has port 0"]);
        check(token, "node2", &["`node2` has no port"]);
        check(token, "node2:9900", &["`node2:9900` is not an address"]);
        check(token, "0.0.0.0:9900", &["cannot be connected to"]);
        check(token, "{ token_file: u }", &["`address` is missing"]);
        check(token, "{ address: unix:/run/b.sock, token_file: u }", &["nobody asks for"]);
        check("", "10.0.0.2:9900", &["is shown no token"]);
    }
}
