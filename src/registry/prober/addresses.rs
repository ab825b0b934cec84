//! Where probes may go. A `health_endpoint` is text that anybody who may register can write, and the server that asks it
//! stands in a better place of the network than its writer: without a rule, the registry would be a way to ask the
//! cloud's metadata service for its credentials (server-side request forgery).
//!
//! This judges addresses, not names: the client asks with each address that it is about to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// No node lives there, whatever the configuration denies.
const NEVER_V4: [Ipv4Net; 7] = [
    // "This network" (RFC 1122, section 3.2.1.3): Linux connects 0.0.0.0 to itself.
    v4([0, 0, 0, 0], 8),
    // Link-local (RFC 3927), and the metadata service of most clouds.
    v4([169, 254, 0, 0], 16),
    // Metadata and agents outside the link-local range: Alibaba Cloud, Oracle Cloud, Azure.
    v4([100, 100, 100, 200], 32),
    v4([192, 0, 0, 192], 32),
    v4([168, 63, 129, 16], 32),
    // Multicast (RFC 5771) and broadcast (RFC 919): not one node, and TCP can't reach it.
    v4([224, 0, 0, 0], 4),
    v4([255, 255, 255, 255], 32),
];
const NEVER_V6: [Ipv6Net; 5] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128),
    // Link-local and multicast (RFC 4291, sections 2.5.6 and 2.7).
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    // Metadata: AWS, Google Cloud.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
];

/// Ranges of IPv6 whose last 32 bits are an IPv4 address that the packets may end up at.
const ENDS_IN_V4: [Ipv6Net; 5] = [
    // IPv4-compatible and IPv4-mapped (RFC 4291, section 2.5.5), IPv4-translated (RFC 2765).
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    // NAT64: the well-known prefix (RFC 6052) and the one for local use (RFC 8215).
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
];
/// 6to4 (RFC 3056): the IPv4 address stands behind the first 16 bits.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// Teredo (RFC 4380, section 4): the client's IPv4 address is the last 32 bits, inverted.
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

/// Which addresses may be connected to.
///
/// Link-local, metadata, multicast and unspecified addresses are refused, and what the configuration denies; all but
/// what the configuration allows. Loopback and private ranges are allowed: nodes live there.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    deny: Vec<IpNet>,
    allow: Vec<IpNet>,
}

impl AddressPolicy {
    /// The default, less `deny`, plus `allow`, which wins over both.
    #[must_use]
    pub fn new(deny: Vec<IpNet>, allow: Vec<IpNet>) -> Self {
        Self { deny, allow }
    }

    /// Whether a probe may connect to this address. An IPv6 address with an IPv4 address inside must be permitted as
    /// both.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        self.permits_as_written(address) && self.permits_inside(address)
    }

    fn permits_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => {
                v4_inside(address).is_none_or(|inside| self.permits_as_written(IpAddr::V4(inside)))
            }
        }
    }

    fn permits_as_written(&self, address: IpAddr) -> bool {
        let never = match address {
            IpAddr::V4(address) => NEVER_V4.iter().any(|range| range.contains(&address)),
            IpAddr::V6(address) => NEVER_V6.iter().any(|range| range.contains(&address)),
        };
        let denied = never || self.deny.iter().any(|range| range.contains(&address));
        !denied || self.allow.iter().any(|range| range.contains(&address))
    }
}

/// The IPv4 address that an IPv6 address leads to, if it is of a kind that does.
fn v4_inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = address.octets();
    if address == Ipv6Addr::LOCALHOST {
        // Within the IPv4-compatible range, but not of that kind.
        None
    } else if ENDS_IN_V4.iter().any(|range| range.contains(&address)) {
        Some(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
    } else if SIX_TO_FOUR.contains(&address) {
        Some(Ipv4Addr::new(bytes[2], bytes[3], bytes[4], bytes[5]))
    } else if TEREDO.contains(&address) {
        Some(Ipv4Addr::new(!bytes[12], !bytes[13], !bytes[14], !bytes[15]))
    } else {
        None
    }
}

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(deny: &[&str], allow: &[&str]) -> AddressPolicy {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        AddressPolicy::new(ranges(deny), ranges(allow))
    }

    #[track_caller]
    fn assert_permits(policy: &AddressPolicy, addresses: &[&str], expected: bool) {
        for address in addresses {
            assert_eq!(policy.permits(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn nodes_may_live_on_loopback_private_and_public_addresses() {
        let everyday = [
            "127.0.0.1",
            "127.255.3.4",
            "10.0.0.1",
            "172.16.9.9",
            "192.168.1.1",
            "100.64.0.1",
            "93.184.216.34",
            "::1",
            "fd12:3456::1",
            "2001:db8::1",
            "2606:4700::1111",
            "::ffff:10.0.0.1",
            "64:ff9b::808:808",
        ];
        assert_permits(&AddressPolicy::default(), &everyday, true);
    }

    #[test]
    fn link_local_metadata_multicast_and_unspecified_addresses_are_refused() {
        let refused = [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ];
        assert_permits(&AddressPolicy::default(), &refused, false);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_judged_as_what_it_is() {
        let disguises = [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:1234:5678:0:0:5601:5601",
        ];
        assert_permits(&AddressPolicy::default(), &disguises, false);
        assert_permits(&policy(&["10.0.0.0/8"], &[]), &["::ffff:10.0.0.1", "2002:a00:1::"], false);
    }

    #[test]
    fn the_configuration_denies_ranges_and_allows_exceptions() {
        let policy = policy(&["10.0.0.0/8", "fd00::/8"], &["10.1.0.0/16", "169.254.7.7/32", "fd00:1::/32"]);
        assert_permits(&policy, &["10.0.0.1", "10.2.0.1", "169.254.7.8", "fd00:2::1"], false);
        let exceptions = ["10.1.2.3", "::ffff:10.1.2.3", "169.254.7.7", "fd00:1::1", "192.168.0.1"];
        assert_permits(&policy, &exceptions, true);
    }
}
