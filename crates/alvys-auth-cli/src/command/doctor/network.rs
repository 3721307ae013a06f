//! The network steps of `doctor`: the proxies, name resolution, the connection and TLS to the token endpoint, and the clock.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use alvys_auth_core::{Api, ErrorKind};
use alvys_auth_driver::{Proxies, Proxy, Way};
use alvys_auth_ureq::explain;
use http::Uri;
use http::header::DATE;

use crate::agent;
use crate::failure::{Class, Failure};
use crate::messages::one_line;
use crate::network::Network;
use crate::report::Report;
use crate::time::in_words;

const PROXY: &str = "proxy";
const NAME: &str = "name resolution";
const CONNECTION: &str = "connection";
const TLS: &str = "TLS";
const CLOCK: &str = "clock";

/// The steps, in this order.
pub(super) const STEPS: [&str; 5] = [PROXY, NAME, CONNECTION, TLS, CLOCK];

/// How long name resolution and the connections may take, and how long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// How much longer than the first connection the others may take.
const LAG: Duration = Duration::from_secs(2);
/// How many addresses are tried.
const ADDRESSES: usize = 8;
/// How far the two clocks may differ. The header has whole seconds only, and the answer takes some time.
const DRIFT: Duration = Duration::from_secs(5);

/// Runs the steps up to the first that fails.
///
/// # Errors
/// The step that failed.
pub(super) fn check(endpoint: &Uri, api: &Api, network: &Network, report: &mut Report) -> Result<(), &'static str> {
    let proxies = Proxies::from_env();
    steps(endpoint, api, &proxies, network, report).map_err(|(step, after, failure)| {
        report.failed(step, *failure);
        let later = STEPS.iter().skip_while(|later| **later != after).skip(1);
        later.for_each(|later| report.skipped(later, format!("the step before it failed: {step}")));
        step
    })
}

/// The step that failed, the last one that something is known of, and why.
type Broken = (&'static str, &'static str, Box<Failure>);

fn broken(step: &'static str, after: &'static str) -> impl FnOnce(Failure) -> Broken {
    move |failure| (step, after, Box::new(failure))
}

/// The steps.
fn steps(endpoint: &Uri, api: &Api, proxies: &Proxies, network: &Network, report: &mut Report) -> Result<(), Broken> {
    let way = proxies.way(endpoint).map_err(Failure::from).map_err(broken(PROXY, PROXY))?;
    proxy(way, api, proxies, report).map_err(broken(PROXY, PROXY))?;
    // Plain http is only sent to this machine, and never through a proxy.
    let plain = endpoint.scheme_str() == Some("http");
    let place = match way.proxy() {
        Some(proxy) => Place { host: proxy.host(), port: proxy.port(), kind: "the proxy " },
        None => Place {
            host: endpoint.host().unwrap_or_default().trim_matches(['[', ']']),
            port: endpoint.port_u16().unwrap_or(if plain { 80 } else { 443 }),
            kind: "",
        },
    };
    let addresses = place.resolved().map_err(broken(NAME, NAME))?;
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    report.fine(NAME, format!("{}{} is {}", place.kind, place.host, shown.join(", ")));
    place.reached(addresses, report).map_err(broken(CONNECTION, CONNECTION))?;
    let (date, between) = greeted(endpoint, way.proxy(), network)?;
    for ignored in network.ignored() {
        report.warning(TLS, ignored, "correct the file, or remove them from it");
    }
    if plain {
        report.skipped(TLS, "plain http, which is allowed only to this machine");
    } else {
        report.fine(TLS, "the certificate is trusted");
    }
    clock(date, between, report);
    Ok(())
}

/// Tells which proxy each request takes, and why.
fn proxy(way: Way<'_>, api: &Api, proxies: &Proxies, report: &mut Report) -> Result<(), Failure> {
    let calls = api.base().parse::<Uri>().ok().map(|api| proxies.way(&api)).transpose()?;
    match calls.filter(|calls| *calls != way) {
        None => report.fine(PROXY, format!("requests go {way}")),
        Some(calls) => {
            report.fine(PROXY, format!("token requests go {way}"));
            report.fine(PROXY, format!("calls go {calls}"));
        }
    }
    Ok(())
}

/// Where the first connection leads.
struct Place<'a> {
    host: &'a str,
    port: u16,
    kind: &'static str,
}

impl Place<'_> {
    /// Resolves the name on a thread of its own, because the system's resolver takes no time limit.
    fn resolved(&self) -> Result<Vec<SocketAddr>, Failure> {
        let Self { host, port, kind } = self;
        let failed = |what: String| {
            let todo = "check the spelling of the host, and the DNS and the internet access of this machine";
            Failure::new(Class::Unreachable, format!("{kind}{host} {what}"), todo)
        };
        let (sender, receiver) = mpsc::channel();
        let (name, port) = ((*host).to_owned(), *port);
        let look_up = move || {
            // Fails when the wait below is over.
            let _ =
                sender.send((name.as_str(), port).to_socket_addrs().map(|all| all.take(ADDRESSES).collect::<Vec<_>>()));
        };
        thread::Builder::new().spawn(look_up).map_err(|error| failed(format!("cannot be resolved: {error}")))?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_)) => Err(failed("has no address".to_owned())),
            Ok(Err(error)) => Err(failed(format!("is not known: {error}"))),
            Err(_) => Err(failed("was not resolved within 5 s".to_owned())),
        }
    }

    /// Tells over which families of addresses there is a connection.
    fn reached(&self, addresses: Vec<SocketAddr>, report: &mut Report) -> Result<(), Failure> {
        let (fine, silent) = self.families(&connected(addresses))?;
        for (name, what) in silent {
            let todo =
                format!("mend {name} in your network, or switch it off: each new connection waits for it for a moment");
            report.warning(CONNECTION, what, todo);
        }
        report.fine(CONNECTION, fine);
        Ok(())
    }

    /// What works, and what is wrong with the families of addresses that do not although this machine has them.
    fn families(&self, tried: &[Tried]) -> Result<Families, Failure> {
        let Self { host, port, kind } = self;
        let (mut answered, mut failed) = (Vec::new(), Vec::new());
        for (name, six) in [("IPv4", false), ("IPv6", true)] {
            let results = || tried.iter().filter(|(address, _)| address.is_ipv6() == six).map(|(_, result)| result);
            match results().find_map(|result| result.as_ref().err()) {
                _ if results().any(Result::is_ok) => answered.push(name),
                Some(error) => failed.push((name, error)),
                None => {}
            }
        }
        if answered.is_empty() {
            let errors: Vec<String> = failed.iter().map(|(name, error)| format!("{error} ({name})")).collect();
            let todo = "check the firewall and the port; if your network has a proxy, set HTTPS_PROXY to it";
            let what = format!("no connection to {kind}{host} on port {port}: {}", errors.join(", "));
            return Err(Failure::new(Class::Unreachable, what, todo));
        }
        let mut fine = format!("{kind}{host} answers on port {port} over {}", answered.join(" and "));
        let (absent, silent): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(_, error)| is_absent(error));
        for (name, _) in absent {
            fine.push_str(&format!("; this machine has no way out over {name}, which costs no time"));
        }
        let told = |(name, error)| (name, format!("{kind}{host} does not answer over {name}: {error}"));
        Ok((fine, silent.into_iter().map(told).collect()))
    }
}

/// What works, in a sentence, and for each family that does not what is wrong with it.
type Families = (String, Vec<(&'static str, String)>);

/// What came of a connection to an address.
type Tried = (SocketAddr, io::Result<()>);

/// Whether this machine has no address of that family, which programs notice at once.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
}

/// Connects to all addresses at the same time.
fn connected(addresses: Vec<SocketAddr>) -> Vec<Tried> {
    let (sender, receiver) = mpsc::channel();
    for address in addresses.clone() {
        let sender = sender.clone();
        let connect = move || {
            // Fails when the wait below is over.
            let _ = sender.send((address, TcpStream::connect_timeout(&address, PATIENCE).map(drop)));
        };
        // Without a thread the address counts as silent.
        let _ = thread::Builder::new().spawn(connect);
    }
    drop(sender);
    let (mut results, mut deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while let Ok((address, result)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if result.is_ok() {
            deadline = deadline.min(Instant::now() + LAG);
        }
        results.push((address, result));
    }
    let silent = addresses.iter().filter(|address| !results.iter().any(|(one, _)| one == *address));
    let silent: Vec<_> =
        silent.map(|address| (*address, Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))).collect();
    results.extend(silent);
    results
}

type Between = [SystemTime; 2];

/// Sends a request without a secret. Returns the server's date, and this machine's time before and after the request.
fn greeted(endpoint: &Uri, proxy: Option<&Proxy>, network: &Network) -> Result<(Option<SystemTime>, Between), Broken> {
    let plain = endpoint.scheme_str() == Some("http");
    let (step, after) = if plain { (CONNECTION, CONNECTION) } else { (TLS, TLS) };
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    let url = format!("{}://{authority}/.well-known/jwks.json", endpoint.scheme_str().unwrap_or_default());
    let agent = network.blocking(endpoint).map_err(broken(step, after))?.agent(agent::config());
    let request = agent.get(&url).config().http_status_as_error(false).max_redirects(0).timeout_global(Some(ANSWER));
    let request = request.max_redirects_will_error(false);
    let before = SystemTime::now();
    let answer = request.build().call().map_err(|error| {
        let (not_led, said) = (matches!(error, ureq::Error::ConnectProxyFailed(_)), one_line(&error.to_string()));
        let told = explain("the server", error);
        let todo = "check the clock of this machine, the certificates in ALVYS_CA_BUNDLE, and whether a proxy decrypts the traffic";
        match (told.kind(), proxy) {
            (ErrorKind::ProxyCredentials, Some(proxy)) => broken(PROXY, CONNECTION)(refuses_user(proxy)),
            (_, Some(proxy)) if not_led => broken(PROXY, CONNECTION)(does_not_lead(proxy, &said)),
            (ErrorKind::Certificate, _) => broken(step, after)(told.into()),
            _ => {
                let said = told.cause().unwrap_or(said);
                broken(step, after)(Failure::new(Class::Unreachable, format!("no answer: {said}"), todo))
            }
        }
    })?;
    let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Ok((date, [before, SystemTime::now()]))
}

fn refuses_user(proxy: &Proxy) -> Failure {
    let what = format!("the proxy {proxy} refuses its user name and password");
    Failure::configuration(what, format!("correct the user name and the password in {}", proxy.variable()))
}

/// What the proxy says instead of leading to the server.
fn does_not_lead(proxy: &Proxy, said: &str) -> Failure {
    let todo = format!("ask those who run the proxy in {} to allow this server", proxy.variable());
    Failure::new(Class::Unreachable, format!("the proxy {proxy} does not lead to the server: {said}"), todo)
}

fn clock(date: Option<SystemTime>, [before, after]: [SystemTime; 2], report: &mut Report) {
    let Some(date) = date else { return report.skipped(CLOCK, "the answer has no Date") };
    let (apart, which) = match (before.duration_since(date), date.duration_since(after)) {
        (Ok(ahead), _) if ahead > DRIFT => (ahead, "ahead of"),
        (_, Ok(behind)) if behind > DRIFT => (behind, "behind"),
        _ => return report.fine(CLOCK, "the clocks of this machine and of the server agree"),
    };
    report.warning(
        CLOCK,
        format!("the clock of this machine is {} {which} the server's", in_words(apart)),
        "set the clock, best with NTP: certificates and the times in tokens are checked with it",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_of_addresses_that_fails_is_named() {
        let place = Place { host: "example.com", port: 443, kind: "" };
        let [four, six] =
            ["192.0.2.1:443", "[2001:db8::1]:443"].map(|address| address.parse::<SocketAddr>().expect("an address"));
        let failed = |kind: io::ErrorKind| Err(io::Error::from(kind));

        let (fine, silent) = place.families(&[(six, Ok(())), (four, Ok(()))]).expect("both");
        assert_eq!((fine.as_str(), silent.len()), ("example.com answers on port 443 over IPv4 and IPv6", 0));
        let (fine, silent) = place.families(&[(six, failed(io::ErrorKind::TimedOut)), (four, Ok(()))]).expect("one");
        assert_eq!(fine, "example.com answers on port 443 over IPv4");
        assert_eq!(silent, [("IPv6", "example.com does not answer over IPv6: timed out".to_owned())]);
        let (fine, silent) =
            place.families(&[(six, failed(io::ErrorKind::NetworkUnreachable)), (four, Ok(()))]).expect("one");
        assert!(
            fine.ends_with("IPv4; this machine has no way out over IPv6, which costs no time") && silent.is_empty(),
            "{fine}"
        );
        let (_, silent) = place
            .families(&[
                (six, Ok(())),
                (four, failed(io::ErrorKind::ConnectionRefused)),
                (six, failed(io::ErrorKind::TimedOut)),
            ])
            .expect("one");
        assert_eq!(silent, [("IPv4", "example.com does not answer over IPv4: connection refused".to_owned())]);
        let none =
            place.families(&[(six, failed(io::ErrorKind::TimedOut)), (four, failed(io::ErrorKind::ConnectionRefused))]);
        assert_eq!(
            none.expect_err("none").what,
            "no connection to example.com on port 443: connection refused (IPv4), timed out (IPv6)"
        );
    }
}
