//! Parses the store's URL.

use std::fmt;
use std::fs;

use alvys_auth_core::Error;
use percent_encoding::percent_decode_str;
use redis::{ClientTlsConfig, TlsCertificates};
use zeroize::Zeroizing;

const EXAMPLES: &str = "write redis://user:password@host:6379/0, rediss:// for TLS, redis+cluster://a:6379,b:6379 \
                        or redis+sentinel://a:26379,b:26379/service";
const SETTINGS: &str =
    "the settings behind the question mark are prefix, ca, cert, key, sentinel-user and sentinel-password";

/// Where the store is, and with which user and password it is used.
pub(crate) struct Address {
    pub(crate) kind: Kind,
    pub(crate) tls: Option<TlsCertificates>,
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) database: i64,
    pub(crate) login: Login,
    pub(crate) prefix: String,
}

pub(crate) enum Kind {
    Single,
    Cluster,
    Sentinel { service: String, login: Login },
}

#[derive(Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

impl Address {
    /// Parses a URL. No error repeats any part of it, because a misplaced part may belong to the password.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme", EXAMPLES))?;
        let (server, way) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match server {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(wrong("has an unknown scheme", EXAMPLES)),
        };
        if rest.contains('#') {
            return Err(wrong("contains the character #", "write it as %23 in a password"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err(wrong("contains an @ after the first slash", "write a slash in a password as %2F"));
        }
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let mut settings = Settings::parse(query)?;
        let (kind, port, database) = match way {
            "" => (Kind::Single, 6379, path),
            "cluster" => (Kind::Cluster, 6379, path),
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                if service.is_empty() || !service.bytes().all(named) {
                    return Err(wrong("names no service for the sentinels", EXAMPLES));
                }
                let login = Login {
                    user: settings.take("sentinel-user"),
                    password: settings.take("sentinel-password").map(Zeroizing::new),
                };
                (Kind::Sentinel { service: service.to_owned(), login }, 26379, database)
            }
            _ => return Err(wrong("has an unknown scheme", EXAMPLES)),
        };
        let address = Self {
            tls: settings.certificates(tls)?,
            hosts: hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<_, _>>()?,
            database: if database.is_empty() { Ok(0) } else { database.parse::<u16>().map(i64::from) }
                .map_err(|_| wrong("has a database that is not a number", EXAMPLES))?,
            login: Login::parse(login)?,
            prefix: settings.prefix()?,
            kind,
        };
        settings.end()?;
        if address.hosts.len() > 1 && matches!(address.kind, Kind::Single) {
            return Err(wrong("names several servers", "write redis+cluster:// or redis+sentinel:// for several"));
        }
        if address.database != 0 && matches!(address.kind, Kind::Cluster) {
            return Err(wrong("names a database of a cluster", "a cluster has the database 0 only: leave it out"));
        }
        Ok(address)
    }

    /// `text` without the passwords, in case a server has repeated one.
    pub(crate) fn without_passwords(&self, text: &str) -> String {
        let sentinel = match &self.kind {
            Kind::Sentinel { login, .. } => login.password.as_ref(),
            _ => None,
        };
        let passwords = [self.login.password.as_ref(), sentinel].into_iter().flatten();
        passwords
            .filter(|password| !password.is_empty())
            .fold(text.to_owned(), |text, password| text.replace(password.as_str(), "[password]"))
    }
}

/// The URL without user, passwords and settings.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, path) = match &self.kind {
            Kind::Single => ("", String::new()),
            Kind::Cluster => ("+cluster", String::new()),
            Kind::Sentinel { service, .. } => ("+sentinel", format!("/{service}")),
        };
        write!(f, "redis{}{way}://", if self.tls.is_some() { "s" } else { "" })?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        f.write_str(&path)?;
        if self.database != 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, Error> {
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map(String::from);
            text.map_err(|_| wrong("has a user or a password that is not UTF-8", "percent-encode it as UTF-8"))
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let login = Self { user: some(decoded(user)?), password: some(decoded(password)?).map(Zeroizing::new) };
        if login.user.is_some() && login.password.is_none() {
            return Err(wrong("has a user and no password", "write :password@ for a password without a user"));
        }
        Ok(login)
    }
}

/// The settings behind the question mark.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn parse(query: &str) -> Result<Self, Error> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let twice = |index: usize| pairs[..index].iter().any(|(name, _)| *name == pairs[index].0);
        if (0..pairs.len()).any(twice) {
            return Err(wrong("has a setting twice", "write each one once"));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(one, _)| one == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn prefix(&mut self) -> Result<String, Error> {
        let prefix = self.take("prefix").unwrap_or_default();
        // A brace would move the tag that keeps the keys of a token together, the others are patterns in access rules.
        if prefix.bytes().any(|byte| !byte.is_ascii_graphic() || b"{}*?[]\\".contains(&byte)) {
            return Err(wrong("has a prefix with characters that are not allowed", "use letters, digits, : . _ and -"));
        }
        Ok(prefix)
    }

    fn certificates(&mut self, tls: bool) -> Result<Option<TlsCertificates>, Error> {
        let mut read = |name: &str| {
            let Some(path) = self.take(name) else { return Ok(None) };
            let text = fs::read(&path).map_err(|error| {
                Error::configuration(
                    format!("the file {path:?} cannot be read: {error}"),
                    format!("correct the setting {name} of the store's URL"),
                )
            })?;
            Ok(Some(text))
        };
        let (root_cert, client_cert, client_key) = (read("ca")?, read("cert")?, read("key")?);
        // The client would trust nobody, and say so with each connection.
        if root_cert.as_ref().is_some_and(|pem| !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----")) {
            return Err(wrong(
                "names a file that has no certificate in the setting ca",
                "name a file in the PEM format",
            ));
        }
        let given = root_cert.is_some() || client_cert.is_some() || client_key.is_some();
        if given && !tls {
            return Err(wrong("has certificates and no TLS", "write rediss:// in place of redis://"));
        }
        let client_tls = match (client_cert, client_key) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
            (None, None) => None,
            _ => return Err(wrong("has one of cert and key only", "name both files, or none")),
        };
        Ok(tls.then_some(TlsCertificates { client_tls, root_cert }))
    }

    fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(wrong("has an unknown setting", SETTINGS)) }
    }
}

fn parse_host(text: &str, default_port: u16) -> Result<(String, u16), Error> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), str::parse);
    let port = port.map_err(|_| wrong("has a port that is not a number", "write a slash in a password as %2F"))?;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(named) {
        return Err(wrong("has no host, or one that cannot be one", EXAMPLES));
    }
    Ok((host.to_owned(), port))
}

fn wrong(what: &'static str, hint: &'static str) -> Error {
    Error::configuration(format!("the URL of the store {what}"), hint)
}
