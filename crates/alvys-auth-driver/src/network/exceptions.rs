//! The hosts that `NO_PROXY` lists.

use std::net::IpAddr;

/// One host or network that is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exception {
    /// As it is listed.
    pub(super) text: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// A domain and its subdomains, in lower case.
    Domain(String),
    /// An address and how many of its first bits count.
    Network(IpAddr, u8),
}

/// The entries of a list, separated by commas and spaces. An entry that cannot be understood matches nothing.
pub(super) fn listed(list: &str) -> Vec<Exception> {
    list.split([',', ' ', '\t', '\r', '\n']).filter_map(Exception::read).collect()
}

impl Exception {
    fn read(entry: &str) -> Option<Self> {
        let made = |hosts, port| Some(Self { text: entry.to_owned(), hosts, port });
        if let Some(network) = network(entry) {
            return made(network, None);
        }
        let (host, port) = match entry.rsplit_once(':').map(|(host, port)| (host, port.parse().ok())) {
            Some((host, Some(port))) => (host, Some(port)),
            _ => (entry, None),
        };
        let hosts = match (network(host), host.strip_prefix('*').unwrap_or(host).trim_matches('.')) {
            (Some(network), _) => network,
            (None, "") if host == "*" => Hosts::All,
            (None, "") => return None,
            (None, domain) => Hosts::Domain(domain.to_ascii_lowercase()),
        };
        made(hosts, port)
    }

    /// Whether the entry names this host at this port. The host is in lower case and without brackets.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let listed = match (&self.hosts, host.parse::<IpAddr>()) {
            (Hosts::All, _) => true,
            (Hosts::Network(network, bits), Ok(address)) => is_in(address.to_canonical(), *network, *bits),
            (Hosts::Domain(domain), Err(_)) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        };
        listed && self.port.is_none_or(|listed| listed == port)
    }
}

/// An address, with or without brackets, or a network such as `10.0.0.0/8`.
fn network(text: &str) -> Option<Hosts> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse::<IpAddr>().ok()?.to_canonical();
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
    Some(Hosts::Network(address, bits))
}

fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (one, other, all) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    // A shift by all 128 bits overflows: of no bits, none differ.
    (one ^ other).checked_shr(all - u32::from(bits)).unwrap_or_default() == 0
}
