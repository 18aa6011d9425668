//! The policy for plugins, whose requests the host makes: the internet, and the ranges that an
//! administrator opens.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::kind::Kind;

/// Whether a plugin may reach the address.
#[must_use]
pub fn is_allowed(address: IpAddr, opened: &[IpNet]) -> bool {
    let address = address.to_canonical();
    opened.iter().any(|range| range.contains(&address)) || Kind::of(address) == Kind::Public
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, ranges: &[&str]) -> bool {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
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
}
