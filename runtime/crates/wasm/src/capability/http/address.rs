//! Which addresses a request may go to when nobody allowed more: public ones.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address, or a range of them in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    prefix: u8,
}

/// Text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write `10.1.2.3`, `10.0.0.0/8`, `fd00::1` or `fd00::/8`")]
pub struct BadAddress(pub String);

impl FromStr for AddressRange {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= most).ok_or_else(bad)?,
            None => most,
        };
        Ok(Self { first, prefix })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.first.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == most => write!(f, "{}", self.first),
            prefix => write!(f, "{}/{prefix}", self.first),
        }
    }
}

impl AddressRange {
    /// Whether `address` is in it. An IPv4 address is the same however it is written.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (first.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (first.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// Whether it is an address of the public Internet: not this machine, not its networks, not
/// the metadata service of a cloud, and no way to write one of these in another form.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)          // this network, private, loopback
            | (100, 64..=127, _)    // shared by carriers; Alibaba's metadata
            | (169, 254, _)         // link-local; the metadata of most clouds
            | (172, 16..=31, _)     // private
            | (192, 0, 0 | 2)       // protocols (Oracle's metadata), documentation
            | (192, 88, 99)         // relays of 6to4
            | (192, 168, _)         // private
            | (198, 18 | 19, _)     // benchmarks
            | (198, 51, 100)        // documentation
            | (203, 0, 113)         // documentation
            | (224.., ..) // multicast, reserved, broadcast
    );
    // Azure's metadata has a public address
    !special && address != Ipv4Addr::new(168, 63, 129, 16)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, _, _, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[w, x], [y, z]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        (0x64, 0xff9b) => c == 0 && d == 0 && embedded(g, h), // NAT64 of an IPv4 address
        (0x2002, _) => embedded(b, c),                        // 6to4
        (0x2001, 0..=0x1ff) => false,                         // Teredo, protocols
        (0x2001, 0xdb8) => false,                             // documentation
        (0x3fff, 0..=0xfff) => false,                         // documentation
        // all that was ever given out; unique-local, link-local and the rest are not in it
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
        text.split_whitespace().map(|a| a.parse().unwrap())
    }

    #[test]
    fn s3_private_loopback_link_local_and_metadata_addresses_are_not_public() {
        let inside =
            "0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.9.9.9
            169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1
            192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 240.0.0.1
            255.255.255.255 168.63.129.16
            :: ::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::a00:1
            64:ff9b:1::808:808 2002:7f00:1:: 2002:a9fe:a9fe:: 2001::1 2001:db8::1 3fff::1
            fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 100::1";
        for address in addresses(inside) {
            assert!(!is_public(address), "{address}");
        }
    }

    #[test]
    fn public_addresses_are() {
        let outside = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.1.1.1
            128.0.0.1 169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 198.17.0.1 223.1.1.1
            ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808:: 2606:4700::1111 2a00:1450::1 2001:200::1";
        for address in addresses(outside) {
            assert!(is_public(address), "{address}");
        }
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let holds = |range: &str, address: &str| {
            range.parse::<AddressRange>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"), "however it is written");
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "a.b", "10.0.0.0/-1", "10.0.0.0/"]
        {
            assert_eq!(bad.parse::<AddressRange>(), Err(BadAddress(bad.to_owned())));
        }
        assert_eq!("10.0.0.0/8".parse::<AddressRange>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("::1/128".parse::<AddressRange>().unwrap().to_string(), "::1");
    }
}
