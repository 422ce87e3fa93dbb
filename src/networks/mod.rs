//! Networks: which addresses belong to any of a million of them, and the lists and names by which operators write them.

mod named;
mod set;
mod text;

pub use named::{NamedNetworks, NetworkList, Networks, NetworksItem, NetworksSource};
pub use set::NetworkSet;
pub use text::{ListFault, MOST_IN_A_LIST, network, read_list};
