//! One proxy, as a variable of the environment names it.

use std::error::Error as StdError;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use alvys_auth_core::{Error, TransportFault};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};

/// The proxy that a variable of the environment names. Its `Debug` and `Display` show no user name and no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    variable: &'static str,
    scheme: Scheme,
    host: String,
    port: u16,
    user: Option<(String, String)>,
}

/// The protocol that a proxy uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `CONNECT` over plain http.
    Http,
    /// `CONNECT` over https.
    Https,
    /// SOCKS 4. This machine looks up the server's IPv4 address.
    Socks4,
    /// SOCKS 4a. The proxy looks up the server's address.
    Socks4a,
    /// SOCKS 5. This machine looks up the server's address.
    Socks5,
    /// SOCKS 5. The proxy looks up the server's address.
    Socks5h,
}

const SCHEMES: [(&str, Scheme, u16); 6] = [
    ("http", Scheme::Http, 80),
    ("https", Scheme::Https, 443),
    ("socks4", Scheme::Socks4, 1080),
    ("socks4a", Scheme::Socks4a, 1080),
    ("socks5", Scheme::Socks5, 1080),
    ("socks5h", Scheme::Socks5h, 1080),
];

impl Proxy {
    /// Reads the value of `variable`, such as `proxy.example.com:3128` or `socks5h://user:password@127.0.0.1`.
    ///
    /// # Errors
    /// Of the kind configuration when it cannot be understood. The error names the variable and shows nothing of its value,
    /// which may hold a password.
    pub(super) fn read(variable: &'static str, value: &str) -> Result<Self, Error> {
        parsed(variable, value).map_err(|what| {
            Error::configuration(
                format!("{variable} names no proxy that can be used: {what}"),
                format!("set {variable} to a URL such as http://proxy.example.com:3128 or socks5h://127.0.0.1:1080, or unset it"),
            )
        })
    }

    /// The variable that names it.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its host name or address. An IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user name and the password for it, as they are and not as a URL spells them.
    pub fn user(&self) -> Option<(&str, &str)> {
        self.user.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }

    /// There is no connection to it.
    pub fn unreached(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::on_the_way(TransportFault::ProxyUnreached, &self.in_words(), source)
    }

    /// The proxy and the variable that names it, for errors.
    pub fn in_words(&self) -> String {
        format!("the proxy {self} of {}", self.variable)
    }

    /// Its URL with user name and password, in which every letter is escaped that could be misread.
    pub fn url(&self) -> String {
        let user = self.user().map(|(name, password)| format!("{}:{}@", escaped(name), escaped(password)));
        format!("{}://{}{}:{}", self.scheme.as_str(), user.unwrap_or_default(), self.host, self.port)
    }
}

impl Scheme {
    /// The scheme as a URL spells it.
    pub fn as_str(self) -> &'static str {
        SCHEMES.into_iter().find(|(_, scheme, _)| *scheme == self).map_or("", |(name, ..)| name)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self} of {})", self.variable)
    }
}

fn parsed(variable: &'static str, value: &str) -> Result<Proxy, &'static str> {
    let (name, rest) = value.split_once("://").unwrap_or(("http", value));
    let known = SCHEMES.into_iter().find(|(known, ..)| name.eq_ignore_ascii_case(known));
    if name.eq_ignore_ascii_case("socks") {
        return Err("write its scheme as socks5h, or as socks5, socks4a or socks4 for an older proxy");
    }
    let (_, scheme, port) = known.ok_or("its scheme is not http, https, socks4, socks4a, socks5 or socks5h")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return Err("there is more behind its host and port; in a password, write / as %2F, ? as %3F and # as %23");
    }
    let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    let (host, port) = match place.rsplit_once(':').filter(|_| !place.ends_with(']')) {
        Some((host, port)) => {
            (host, port.parse().ok().filter(|port| *port > 0).ok_or("its port is not a number up to 65535")?)
        }
        None => (place, port),
    };
    if !is_host(host) {
        return Err("its host is neither a name nor an address; write an IPv6 address in brackets");
    }
    let user = user.map(|user| named(user, scheme)).transpose()?;
    Ok(Proxy { variable, scheme, host: host.to_ascii_lowercase(), port, user })
}

/// A name that every client takes for the same host. A last label of digits would make it a wrong IPv4 address.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        // No client takes an address with a zone.
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let labels = || name.split('.');
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let number = |label: &str| label.starts_with("0x") || label.bytes().all(|byte| byte.is_ascii_digit());
    labels().all(plain) && (!labels().next_back().is_some_and(number) || name.parse::<Ipv4Addr>().is_ok())
}

/// The user name and the password, in both of which escapes of a URL are undone, as curl does.
fn named(user: &str, scheme: Scheme) -> Result<(String, String), &'static str> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let pair = (unescaped(name)?, unescaped(password)?);
    let fits = |text: &str| (1..=255).contains(&text.len());
    match scheme {
        Scheme::Socks4 | Scheme::Socks4a => Err("SOCKS 4 knows no user name and no password; use socks5h"),
        Scheme::Socks5 | Scheme::Socks5h if !fits(&pair.0) || !fits(&pair.1) => {
            Err("SOCKS 5 takes a user name and a password of 1 to 255 bytes each")
        }
        _ => Ok(pair),
    }
}

fn unescaped(text: &str) -> Result<String, &'static str> {
    let refused = "its user name or password is not text in UTF-8 without control characters";
    let text = percent_decode_str(text).decode_utf8().map_err(|_| refused)?;
    if text.contains(char::is_control) { Err(refused) } else { Ok(text.into_owned()) }
}

fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
