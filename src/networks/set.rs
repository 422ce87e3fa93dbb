//! Which addresses belong to any of many networks: sorted ranges, so that one look-up takes as many steps as their number has
//! bits, in as little memory as there can be.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// The addresses of many networks. IPv6 addresses that stand for IPv4 ones (`::ffff:10.0.0.1`) count as these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Ranges<u32>,
    v6: V6Ranges,
}

/// Ranges in order that neither overlap nor touch. Their ends are apart, so that a look-up has the beginnings alone in its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T> {
    first: Vec<T>,
    last: Vec<T>,
}

/// An address as a number.
trait Number: Ord + Copy {
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<T> Ranges<T> {
    const NONE: Self = Self { first: Vec::new(), last: Vec::new() };
}

impl<T: Number> Ranges<T> {
    fn of(mut all: Vec<(T, T)>) -> Self {
        if !all.is_sorted() {
            all.sort_unstable();
        }
        all.dedup_by(|(first, last), (_, before)| {
            let joins = before.next().is_none_or(|next| *first <= next);
            if joins {
                *before = (*before).max(*last);
            }
            joins
        });
        Self {
            first: all.iter().map(|(first, _)| *first).collect(),
            last: all.iter().map(|(_, last)| *last).collect(),
        }
    }

    fn contains(&self, address: T) -> bool {
        let after = self.first.partition_point(|first| *first <= address);
        after > 0 && address <= self.last[after - 1]
    }
}

/// Ranges of IPv6. The upper halves of their beginnings, which nearly all differ in, are looked through first: in half the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct V6Ranges {
    upper: Vec<u64>,
    ranges: Ranges<u128>,
}

impl V6Ranges {
    const NONE: Self = Self { upper: Vec::new(), ranges: Ranges::NONE };

    fn of(all: Vec<(u128, u128)>) -> Self {
        let ranges = Ranges::of(all);
        Self { upper: ranges.first.iter().map(|first| upper(*first)).collect(), ranges }
    }

    fn contains(&self, address: u128) -> bool {
        let half = upper(address);
        let after = self.upper.partition_point(|upper| *upper <= half);
        let Some(last) = after.checked_sub(1) else { return false };
        if self.upper[last] < half {
            return address <= self.ranges.last[last];
        }
        // Some begin in the address's own /64.
        let from = self.upper[..after].partition_point(|upper| *upper < half);
        let own = &self.ranges.first[from..after];
        let after = from + own.partition_point(|first| *first <= address);
        after > 0 && address <= self.ranges.last[after - 1]
    }
}

fn upper(address: u128) -> u64 {
    (address >> 64) as u64
}

impl Default for NetworkSet {
    fn default() -> Self {
        Self::NONE
    }
}

impl NetworkSet {
    pub(super) const NONE: Self = Self { v4: Ranges::NONE, v6: V6Ranges::NONE };

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.into()),
            IpAddr::V6(address) => self.v6.contains(address.into()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.n_ranges() == 0
    }

    /// How many stretches of addresses there are; networks that overlap or touch are one.
    pub fn n_ranges(&self) -> usize {
        self.v4.first.len() + self.v6.ranges.first.len()
    }
}

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push((network.network().into(), network.broadcast().into())),
                IpNet::V6(network) => {
                    let (first, last): (Ipv6Addr, Ipv6Addr) = (network.network(), network.broadcast());
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) => v4.push((first.into(), last.into())),
                        _ => v6.push((first.into(), last.into())),
                    }
                }
            }
        }
        Self { v4: Ranges::of(v4), v6: V6Ranges::of(v6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(networks: &str) -> NetworkSet {
        networks.split_whitespace().map(|network| crate::networks::network(network).unwrap()).collect()
    }

    #[test]
    fn an_address_belongs_to_any_network_that_has_it() {
        for (networks, address, belongs) in [
            ("", "10.0.0.1", false),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::7 2001:db8::9", "2001:db8::7", true),
            ("2001:db8::7 2001:db8::9", "2001:db8::8", false),
            ("2001:db8::7 2001:db8::9", "2001:db8::1", false),
            ("2001:db7::/48 2001:db8::7", "2001:db8::1", false),
            ("2001:db7::/32 2001:db8::7", "2001:db7:ffff:ffff:ffff::1", true),
            ("2001:db8:0:1::/64 2001:db8:0:3::1", "2001:db8:0:2::1", false),
            ("2001:db8::/63 2001:db8:0:3::1", "2001:db8:0:1::1", true),
            ("::/0", "ffff::", true),
            ("::/0", "::ffff:10.0.0.1", false),
            ("255.255.255.255 0.0.0.0", "128.0.0.0", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(set(networks).contains(address), belongs, "{address} in {networks:?}");
        }
    }

    #[test]
    fn networks_that_overlap_or_touch_are_one_stretch() {
        for (networks, n_ranges) in [
            ("10.0.0.0/9 10.128.0.0/9", 1),
            ("10.0.0.0/8 10.1.0.0/16 10.0.0.1", 1),
            ("10.0.0.0/9 10.128.0.1", 2),
            ("0.0.0.0/1 128.0.0.0/1 255.255.255.255", 1),
            ("2001:db8::/32 10.0.0.0/8", 2),
        ] {
            assert_eq!(set(networks).n_ranges(), n_ranges, "{networks}");
        }
    }

    /// Networks close to each other, so that they overlap and touch.
    fn networks() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (0u32..1 << 12, 16u8..=32).prop_map(|(low, prefix)| {
            IpNet::new(IpAddr::V4((0x0a00_0000 + (low << 4)).into()), prefix).unwrap().trunc()
        });
        let v6 = (0u128..1 << 12, 100u8..=128).prop_map(|(low, prefix)| {
            IpNet::new(IpAddr::V6(((0x2001_0db8 << 96) + (low << 4)).into()), prefix).unwrap().trunc()
        });
        proptest::collection::vec(prop_oneof![v4, v6], 0..60)
    }

    proptest! {
        #[test]
        fn a_set_says_what_its_networks_say_one_by_one(
            networks in networks(),
            near in proptest::collection::vec((0u32..1 << 16, any::<bool>()), 1..60),
        ) {
            let set: NetworkSet = networks.iter().copied().collect();
            let far = near.iter().map(|(low, is_v4)| match is_v4 {
                true => IpAddr::V4((0x0a00_0000 + low).into()),
                false => IpAddr::V6(((0x2001_0db8 << 96) + u128::from(*low)).into()),
            });
            let bounds = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for address in far.chain(bounds) {
                let naive = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(set.contains(address), naive, "{} in {:?}", address, networks);
            }
        }
    }
}
