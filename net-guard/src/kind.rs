//! The kinds of addresses: one table for every policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The kind of network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This machine.
    Loopback,
    /// This machine, where an address is to be chosen.
    Unspecified,
    /// The network segment of this machine; most clouds' metadata service among them.
    LinkLocal,
    /// A cloud's metadata service at another address.
    Metadata,
    /// Many machines at once.
    Multicast,
    /// A network that its owner numbers: RFC 1918, and unique local addresses.
    Private,
    /// Shared between a provider and its customers: RFC 6598.
    Shared,
    /// Given out for nothing that answers: documentation, benchmarks, tunnels, the future.
    Reserved,
    /// The internet.
    Public,
}

impl Kind {
    /// The kind of an address. An IPv6 address that stands for an IPv4 address (mapped,
    /// compatible, behind NAT64, 6to4) is of that one's kind.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(four) => of_table(four.into()).unwrap_or(Self::Public),
            IpAddr::V6(six) => of_six(six),
        }
    }

    /// Whether what answers there may trust whoever is near: this machine, its segment, a
    /// metadata service; and whether many would answer.
    #[must_use]
    pub fn is_near(self) -> bool {
        matches!(
            self,
            Self::Loopback | Self::Unspecified | Self::LinkLocal | Self::Metadata | Self::Multicast
        )
    }

    /// The kind in words, as in "127.0.0.1 is a loopback address".
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "an unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service of a cloud",
            Self::Multicast => "an address of many",
            Self::Private => "a private address",
            Self::Shared => "a provider's shared address",
            Self::Reserved => "a reserved address",
            Self::Public => "a public address",
        }
    }
}

/// Ranges by kind; the first that holds an address counts.
const TABLE: [(IpNet, Kind); 27] = [
    (four([100, 100, 100, 200], 32), Kind::Metadata),
    (four([192, 0, 0, 192], 32), Kind::Metadata),
    (four([255, 255, 255, 255], 32), Kind::Multicast),
    (four([0, 0, 0, 0], 8), Kind::Unspecified),
    (four([10, 0, 0, 0], 8), Kind::Private),
    (four([100, 64, 0, 0], 10), Kind::Shared),
    (four([127, 0, 0, 0], 8), Kind::Loopback),
    (four([169, 254, 0, 0], 16), Kind::LinkLocal),
    (four([172, 16, 0, 0], 12), Kind::Private),
    (four([192, 0, 0, 0], 24), Kind::Reserved),
    (four([192, 0, 2, 0], 24), Kind::Reserved),
    (four([192, 168, 0, 0], 16), Kind::Private),
    (four([198, 18, 0, 0], 15), Kind::Reserved),
    (four([198, 51, 100, 0], 24), Kind::Reserved),
    (four([203, 0, 113, 0], 24), Kind::Reserved),
    (four([224, 0, 0, 0], 4), Kind::Multicast),
    (four([240, 0, 0, 0], 4), Kind::Reserved),
    (
        six([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
        Kind::Metadata,
    ),
    (six([0, 0, 0, 0, 0, 0, 0, 0], 128), Kind::Unspecified),
    (six([0, 0, 0, 0, 0, 0, 0, 1], 128), Kind::Loopback),
    (six([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Kind::Private),
    (six([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Kind::LinkLocal),
    (six([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Kind::Multicast),
    (six([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Kind::Reserved),
    (six([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Kind::Reserved),
    (six([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Kind::Reserved),
    (six([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Kind::Public),
];

const fn four(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn six(segments: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(a, b, c, d, e, f, g, h),
        prefix,
    ))
}

fn of_table(address: IpAddr) -> Option<Kind> {
    let mut ranges = TABLE.iter();
    let found = ranges.find(|(range, _)| range.contains(&address));
    found.map(|(_, kind)| *kind)
}

fn of_six(six: Ipv6Addr) -> Kind {
    let [a, b, .., g, h] = six.segments();
    let carried = |high: u16, low: u16| {
        let four = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
        Kind::of(four.into())
    };
    match six.segments() {
        [0x2002, ..] => carried(b, six.segments()[2]),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] => carried(g, h),
        // Only 2000::/3 is given out.
        _ => of_table(six.into()).unwrap_or_else(|| match (six.to_ipv4(), a) {
            // Compatible addresses are routed nowhere, and some systems take them for IPv4.
            (Some(_), 0) if carried(g, h).is_near() => carried(g, h),
            _ => Kind::Reserved,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Kind {
        Kind::of(address.parse().unwrap())
    }

    #[test]
    fn every_spelling_of_an_address_is_of_one_kind() {
        for (kinds, wanted) in [
            (
                &[
                    "127.0.0.1",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::127.0.0.1",
                    "64:ff9b::7f00:1",
                ][..],
                Kind::Loopback,
            ),
            (
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "64:ff9b::a9fe:a9fe",
                    "2002:a9fe:a9fe::",
                ],
                Kind::LinkLocal,
            ),
            (
                &["10.0.0.1", "fd12::1", "::ffff:10.0.0.1", "2002:a00:1::"],
                Kind::Private,
            ),
            (
                &["100.100.100.200", "192.0.0.192", "fd00:ec2::254"],
                Kind::Metadata,
            ),
            (
                &["224.0.0.1", "255.255.255.255", "ff02::1"],
                Kind::Multicast,
            ),
            (&["0.0.0.0", "0.1.2.3", "::"], Kind::Unspecified),
            (&["100.64.0.1"], Kind::Shared),
            (
                &[
                    "240.0.0.1",
                    "198.18.0.1",
                    "2001:db8::1",
                    "2001::1",
                    "4000::1",
                    "::8.8.8.8",
                ],
                Kind::Reserved,
            ),
            (
                &[
                    "1.1.1.1",
                    "172.32.0.1",
                    "2606:4700::1111",
                    "64:ff9b::101:101",
                ],
                Kind::Public,
            ),
        ] {
            for address in kinds {
                assert_eq!(kind(address), wanted, "{address}");
            }
        }
    }
}
