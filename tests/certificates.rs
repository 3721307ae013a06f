//! Whom the async driver's default clients trust, and what they offer to a TLS server.

use std::path::Path;
use std::process::{Command, id};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use alvys_auth_core::{Api, Credentials, ErrorKind, Flow, Policy};
use alvys_auth_driver::{Time, Trust};
use alvys_auth_reqwest::{Client, TokenSource};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::tls::{Offer, Server, fixture};
use alvys_auth_tests::{Async, Blocking, Settings, Source, async_tokens, both_drivers, credentials};
use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};

/// Names the server to a process of its own: these tests set its environment, and what the clients share is made once.
const SERVER: &str = "ALVYS_AUTH_TEST_SERVER";

/// Runs the test `name` again, in a process whose system trusts the server's certificate alone. What it prints is shown when
/// it fails.
fn in_a_process_of_its_own(name: &str) -> Vec<Offer> {
    let server = Server::start(false);
    let trusted = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pem", id()));
    fs::copy(fixture("localhost.pem"), &trusted).expect("a copy");
    let mut again = Command::new(env::current_exe().expect("this program"));
    again.args(["--exact", name, "--nocapture"]).env(SERVER, server.url());
    again.env("SSL_CERT_FILE", &trusted).env_remove("SSL_CERT_DIR");
    let output = again.output().expect("a process");
    let _ = fs::remove_file(trusted);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", shown(&output.stdout), shown(&output.stderr));
    server.offers()
}

/// A source and a client with default settings, both of which reach the server; `between` runs before the client is made.
fn both_reach(server: &str, between: impl FnOnce()) {
    let credentials = Credentials::new("id", "secret").expect("acceptable credentials");
    let flow = Flow::current().endpoint(format!("{server}/oauth/token"));
    let tokens = TokenSource::new(flow, credentials).expect("a source");
    between();
    let client = Client::new(tokens, Api::at(&format!("{server}/api")).expect("an API")).expect("a client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answer = runtime.block_on(client.get("loads").send()).expect("an answer");
    assert_eq!(answer.status(), 200);
}

/// Plain http to this machine needs no certificates.
fn both_reach_plainly(sandbox: &Sandbox) {
    let client = Client::new(async_tokens(sandbox), Api::at(&sandbox.api_url()).expect("an API")).expect("a client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    assert_eq!(runtime.block_on(client.get("loads").send()).expect("an answer").status(), 200);
}

/// An empty variable is as good as none, in both drivers: the certificates of the system count.
#[test]
fn an_empty_variable_replaces_no_certificates() {
    const FILE: &str = "ALVYS_AUTH_TEST_SYSTEM";
    let trusted = |trust: &Trust| trust.read(Arc::new(ring::default_provider())).expect("certificates");
    if env::var_os(FILE).is_some() {
        assert_eq!(Trust::system().is_named(), cfg!(target_os = "linux"));
        assert!(trusted(&Trust::system()).ignored.is_empty());
        return;
    }
    if !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        eprintln!("skipped: this system keeps its certificates elsewhere");
        return;
    }
    for (file, directories) in [("", None), ("", Some("")), ("", Some(":"))] {
        let mut again = Command::new(env::current_exe().expect("this program"));
        again.args(["--exact", "an_empty_variable_replaces_no_certificates"]).env(FILE, "1");
        again.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        if let Some(directories) = directories {
            again.env("SSL_CERT_DIR", directories);
        }
        let output = again.output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn default_clients_read_the_systems_certificates_once() {
    if let Ok(server) = env::var(SERVER) {
        let trusted = env::var_os("SSL_CERT_FILE").expect("a file");
        return both_reach(&server, || fs::remove_file(trusted).expect("a file"));
    }
    let offers = in_a_process_of_its_own("default_clients_read_the_systems_certificates_once");
    assert_eq!(offers.len(), 2, "the token request and the call");
    assert!(offers.iter().all(|offer| offer.protocols == ["h2", "http/1.1"]), "{offers:?}");
}

fn a_stranger_is_told_as_one_and_asked_once<S: Source>() {
    let server = Server::start(false);
    let settings = Settings {
        flow: Flow::current().endpoint(format!("{}/oauth/token", server.url())),
        credentials: credentials("id", "secret"),
        policy: Policy::new(),
        patience: Duration::from_secs(15),
        time: Time::boot(),
        store: None,
    };
    let error = S::build(settings).expect("a source").token().expect_err("nobody vouches for the server");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Certificate, false), "{error:#}");
    assert_eq!(error.what(), "the certificate of the token endpoint is not trusted");
    // Which words depends on whether this system knows somebody of the name of its issuer.
    let in_words = |cause: String| !cause.contains(|c: char| c.is_uppercase() || "{[(".contains(c));
    assert!(error.cause().is_some_and(in_words), "{error:#}");
    assert!(error.hint().contains("ALVYS_CA_BUNDLE"), "{error}");
    assert_eq!(server.offers().len(), 1, "trying again does not help");
}

both_drivers![a_stranger_is_told_as_one_and_asked_once];

#[test]
fn default_clients_use_the_cryptography_that_the_program_has_chosen() {
    if let Ok(server) = env::var(SERVER) {
        let cipher_suites = vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
        let chosen = CryptoProvider { cipher_suites, ..ring::default_provider() };
        chosen.install_default().expect("the first choice");
        return both_reach(&server, || ());
    }
    let offers = in_a_process_of_its_own("default_clients_use_the_cryptography_that_the_program_has_chosen");
    let chosen = |offer: &Offer| !offer.suites.contains(&CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert!(offers.len() == 2 && offers.iter().all(chosen), "{offers:?}");
}

#[test]
fn a_system_without_certificates_is_an_error_until_it_has_some() {
    if let Ok(server) = env::var(SERVER) {
        let trusted = env::var_os("SSL_CERT_FILE").expect("a file");
        let pem = fs::read(&trusted).expect("a certificate");
        fs::write(&trusted, "").expect("a file");
        let credentials = Credentials::new("id", "secret").expect("acceptable credentials");
        let error = TokenSource::new(Flow::current(), credentials).expect_err("nobody is trusted");
        assert!(error.to_string().contains("certificates"), "{error}");
        let sandbox = Sandbox::start().expect("a sandbox");
        both_reach_plainly(&sandbox);
        fs::write(&trusted, pem).expect("a file");
        return both_reach(&server, || ());
    }
    let offers = in_a_process_of_its_own("a_system_without_certificates_is_an_error_until_it_has_some");
    assert_eq!(offers.len(), 2);
}
