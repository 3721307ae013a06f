//! TLS: with the right certificate everything works, and without it nothing is sent.

use std::fs;
use std::path::Path;

use alvys_auth_core::ErrorKind;
use alvys_auth_redis::RedisStore;
use alvys_auth_store::BlockingStore;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::servers::{Program, Server, check, claim, cluster, name, on_each_server, run};

on_each_server!(
    a_certificate_of_the_named_authority_is_trusted,
    a_certificate_that_is_not_trusted_is_told,
    a_client_shows_its_certificate,
    a_cluster_with_tls,
    sentinels_with_tls,
);

/// An authority, and below it a certificate for the loopback address and one for another host; as files.
fn write_certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    // With the name that certificates have by default, those below it would seem to be signed by themselves.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    for (file, host) in [("own", "127.0.0.1"), ("other", "other.example")] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(directory.join(format!("{file}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// A server that has a certificate.
fn with_tls(program: &Program, certificate: &str, settings: &[&str]) -> (Server, u16) {
    let (pem, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
    let tls = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", "ca.pem"];
    let server = Server::with_files(program, &[&tls, settings].concat(), write_certificates);
    let port = server.tls_port.unwrap();
    (server, port)
}

const NO_CLIENTS: &[&str] = &["--tls-auth-clients", "no"];

fn has_tls(program: &Program) -> bool {
    if !program.has_tls {
        eprintln!("skipped: this server is built without TLS");
    }
    program.has_tls
}

fn file(server: &Server, name: &str) -> String {
    server.directory.path().join(name).display().to_string()
}

fn a_certificate_of_the_named_authority_is_trusted(program: &Program) {
    if !has_tls(program) {
        return;
    }
    let (server, port) = with_tls(program, "own", NO_CLIENTS);
    check(&RedisStore::new(&format!("rediss://127.0.0.1:{port}?ca={}", file(&server, "ca.pem"))).unwrap());
}

fn a_certificate_that_is_not_trusted_is_told(program: &Program) {
    if !has_tls(program) {
        return;
    }
    let (server, port) = with_tls(program, "own", NO_CLIENTS);
    let another = tempfile::tempdir().unwrap();
    write_certificates(another.path());
    let (elsewhere, other_port) = with_tls(program, "other", NO_CLIENTS);
    for url in [
        format!("rediss://127.0.0.1:{port}"),
        format!("rediss://127.0.0.1:{port}?ca={}", another.path().join("ca.pem").display()),
        format!("rediss://127.0.0.1:{other_port}?ca={}", file(&elsewhere, "ca.pem")),
    ] {
        let error = run(&RedisStore::new(&url).unwrap(), claim(1)).expect_err(&url);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("certificate that is not trusted"), "{error}");
        assert!(error.hint().contains("setting ca"), "{error}");
    }
    assert_eq!(server.calls("eval") + server.calls("evalsha"), 0);
    // The other way round: TLS where there is none, and none where there is TLS.
    for url in [format!("rediss://127.0.0.1:{}", server.port), format!("redis://127.0.0.1:{port}")] {
        let error = run(&RedisStore::new(&url).unwrap(), claim(1)).expect_err(&url);
        assert!(matches!(error.kind(), ErrorKind::Transport | ErrorKind::TimedOut), "{url}: {error}");
    }
}

fn a_client_shows_its_certificate(program: &Program) {
    if !has_tls(program) {
        return;
    }
    let (server, port) = with_tls(program, "own", &["--tls-auth-clients", "yes"]);
    let without = format!("rediss://127.0.0.1:{port}?ca={}", file(&server, "ca.pem"));
    run(&RedisStore::new(&without).unwrap(), claim(1)).expect_err("the server asks for a certificate");
    let with = format!("{without}&cert={}&key={}", file(&server, "other.pem"), file(&server, "other.key"));
    run(&RedisStore::new(&with).unwrap(), claim(1)).unwrap();
}

fn a_cluster_with_tls(program: &Program) {
    if !has_tls(program) {
        return;
    }
    let certificates = tempfile::tempdir().unwrap();
    write_certificates(certificates.path());
    let path = |name: &str| certificates.path().join(name).display().to_string();
    let (pem, key, ca) = (path("own.pem"), path("own.key"), path("ca.pem"));
    let tls = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-cluster", "yes"];
    let nodes = cluster(program, &[&tls, NO_CLIENTS].concat());
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.tls_port.unwrap())).collect();
    let store = RedisStore::new(&format!("rediss+cluster://{}?ca={ca}", hosts.join(","))).unwrap();
    for number in 0..32 {
        BlockingStore::run(&store, &name(number), claim(1)).unwrap();
    }
}

fn sentinels_with_tls(program: &Program) {
    if !has_tls(program) {
        return;
    }
    let (primary, port) = with_tls(program, "own", NO_CLIENTS);
    let (pem, key, ca) = (file(&primary, "own.pem"), file(&primary, "own.key"), file(&primary, "ca.pem"));
    let tls = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-replication", "yes"];
    let settings = [&["sentinel.conf", "--sentinel"], &tls[..], NO_CLIENTS].concat();
    let sentinel = Server::with_files(program, &settings, |directory| {
        let settings = format!("sentinel monitor alvys 127.0.0.1 {port} 1\n");
        fs::write(directory.join("sentinel.conf"), settings).unwrap();
    });
    let own = sentinel.tls_port.unwrap();
    let store = RedisStore::new(&format!("rediss+sentinel://127.0.0.1:{own}/alvys?ca={ca}")).unwrap();
    run(&store, claim(1)).unwrap();
}
