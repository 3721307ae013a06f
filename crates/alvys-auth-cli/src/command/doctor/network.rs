//! The network steps of `doctor`: name resolution, the connection and TLS to the token endpoint, and the clock.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use http::Uri;
use http::header::DATE;
use ureq::Proxy;

use crate::agent;
use crate::failure::{Class, Failure};
use crate::messages::one_line;
use crate::report::Report;
use crate::time::in_words;

const NAME: &str = "name resolution";
const CONNECTION: &str = "connection";
const TLS: &str = "TLS";
const CLOCK: &str = "clock";

/// The steps, in this order.
pub(super) const STEPS: [&str; 4] = [NAME, CONNECTION, TLS, CLOCK];

/// How long name resolution and a connection to each address may take, and how long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// How many addresses are tried.
const ADDRESSES: usize = 4;
/// How far the two clocks may differ. The header has whole seconds only, and the answer takes some time.
const DRIFT: Duration = Duration::from_secs(5);

/// Runs the steps up to the first that fails.
///
/// # Errors
/// The step that failed.
pub(super) fn check(endpoint: &Uri, ca_bundle: Option<&Path>, report: &mut Report) -> Result<(), &'static str> {
    let skip_from = |report: &mut Report, first: usize, why: &str| {
        STEPS.iter().skip(first).for_each(|step| report.skipped(step, why));
    };
    let plain = endpoint.scheme_str() == Some("http");
    let host = endpoint.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = endpoint.port_u16().unwrap_or(if plain { 80 } else { 443 });
    // Plain http is only sent to this machine, and never through a proxy.
    let proxy = Proxy::try_from_env().filter(|proxy| !plain && !proxy.is_no_proxy(endpoint));
    let (host, port, way) = match &proxy {
        Some(proxy) => (proxy.host(), proxy.port(), "the proxy "),
        None => (host, port, ""),
    };
    let addresses = match resolved(host, port) {
        Ok(addresses) => addresses,
        Err(what) => {
            let todo = "check the spelling of the host, and the DNS and the internet access of this machine";
            report.failed(NAME, Failure::new(Class::Unreachable, format!("{way}{host} {what}"), todo));
            skip_from(report, 1, "the step before it failed: name resolution");
            return Err(NAME);
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    report.fine(NAME, format!("{way}{host} is {}", shown.join(", ")));
    if let Err(error) = connected(&addresses) {
        let todo = "check the firewall and the port; if your network has a proxy, set HTTPS_PROXY to it";
        let what = format!("no connection to {way}{host} on port {port}: {error}");
        report.failed(CONNECTION, Failure::new(Class::Unreachable, what, todo));
        skip_from(report, 2, "the step before it failed: connection");
        return Err(CONNECTION);
    }
    report.fine(CONNECTION, format!("{way}{host} answers on port {port}"));
    match greeted(endpoint, plain, ca_bundle) {
        Ok((date, between)) => {
            if plain {
                report.skipped(TLS, "plain http, which is allowed only to this machine");
            } else {
                report.fine(TLS, "the certificate is trusted");
            }
            clock(date, between, report);
            Ok(())
        }
        Err(failure) if plain => {
            report.failed(CONNECTION, failure);
            skip_from(report, 2, "the step before it failed: connection");
            Err(CONNECTION)
        }
        Err(failure) => {
            report.failed(TLS, failure);
            skip_from(report, 3, "the step before it failed: TLS");
            Err(TLS)
        }
    }
}

/// Resolves a name on a thread of its own, because the system's resolver takes no time limit.
fn resolved(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    let look_up = move || {
        // Fails when the wait below is over.
        let _ = sender.send((name.as_str(), port).to_socket_addrs().map(|all| all.take(ADDRESSES).collect::<Vec<_>>()));
    };
    thread::Builder::new().spawn(look_up).map_err(|error| format!("cannot be resolved: {error}"))?;
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err("has no address".to_owned()),
        Ok(Err(error)) => Err(format!("is not known: {error}")),
        Err(_) => Err("was not resolved within 5 s".to_owned()),
    }
}

fn connected(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut last = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Sends a request without a secret. Returns the server's date, and this machine's time before and after the request.
fn greeted(
    endpoint: &Uri,
    plain: bool,
    ca_bundle: Option<&Path>,
) -> Result<(Option<SystemTime>, [SystemTime; 2]), Failure> {
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    let url = format!("{}://{authority}/.well-known/jwks.json", endpoint.scheme_str().unwrap_or_default());
    let agent: ureq::Agent = agent::config(ca_bundle)?.build().into();
    let request = agent.get(&url).config().http_status_as_error(false).max_redirects(0).timeout_global(Some(ANSWER));
    let request = request.max_redirects_will_error(false);
    let request = if plain { request.proxy(None) } else { request };
    let before = SystemTime::now();
    let answer = request.build().call().map_err(|error| {
        let todo =
            "check the clock of this machine, the certificates in ALVYS_CA_BUNDLE, and whether a proxy decrypts the traffic";
        Failure::new(Class::Unreachable, format!("no answer: {}", one_line(&error.to_string())), todo)
    })?;
    let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Ok((date, [before, SystemTime::now()]))
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
