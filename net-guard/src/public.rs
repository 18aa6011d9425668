//! Which addresses a plugin may reach through the host: public ones, and what the administrator allows.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

/// A text that is no range.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address range, wanted <address>/<prefix length> such as 10.0.0.0/8")]
pub struct ParseCidrError(String);

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let first: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let longest = if first.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { first, prefix })
        });
        parsed.ok_or_else(|| ParseCidrError(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

impl Cidr {
    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ
                    .checked_shr(128 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// Whether a plugin may reach the address.
pub fn is_allowed(address: IpAddr, allowed: &[Cidr]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|range| range.contains(address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local() // holds the metadata address of clouds
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT, and Alibaba's metadata address
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || (a == 192 && b == 0 && c == 0); // protocol assignments, and Oracle's metadata address
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out; loopback, link-local, unique local and multicast lie outside it.
    let segments = address.segments();
    let global = segments[0] & 0xe000 == 0x2000;
    match segments {
        _ if !global => is_nat64(&segments) && is_public_v4(last_v4(&segments, 6)),
        [0x2001, 0xdb8, ..] | [0x2001, 0, ..] | [0x3fff, ..] => false, // documentation, Teredo
        [0x2002, ..] => is_public_v4(last_v4(&segments, 1)), // 6to4 carries an IPv4 address
        _ => true,
    }
}

/// 64:ff9b::/96, behind which a NAT64 gateway reaches IPv4.
fn is_nat64(segments: &[u16; 8]) -> bool {
    matches!(segments, [0x64, 0xff9b, 0, 0, 0, 0, ..])
}

fn last_v4(segments: &[u16; 8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(segments[at]) << 16 | u32::from(segments[at + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, ranges: &[&str]) -> bool {
        let ranges: Vec<Cidr> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        is_allowed(address.parse().unwrap(), &ranges)
    }

    #[test]
    fn addresses_of_inside_networks_are_refused() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!allowed(address, &[]), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_reached() {
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(allowed(address, &[]), "{address}");
        }
    }

    #[test]
    fn an_allowed_range_opens_itself_alone() {
        assert!(allowed("10.1.2.3", &["10.1.0.0/16"]));
        assert!(allowed("::ffff:10.1.2.3", &["10.1.0.0/16"]));
        assert!(!allowed("10.2.2.3", &["10.1.0.0/16"]));
        assert!(allowed("10.2.2.3", &["0.0.0.0/0"]));
        assert!(!allowed("fd00::1", &["0.0.0.0/0"]));
        assert!(allowed("fd00::1", &["fd00::/8"]));
        assert!(allowed("127.0.0.1", &["127.0.0.1/32"]));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }
}
