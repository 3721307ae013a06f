//! How a run reaches servers: the proxies from the environment, and the certificates that it trusts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alvys_auth_config::{Variables, read_secret};
use alvys_auth_core::Error;
use alvys_auth_driver::{Proxies, Trust, Trusted};
use http::{Request, Response, Uri};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use ureq::config::ConfigBuilder;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};

use crate::environment::variable;
use crate::failure::Failure;
use crate::messages;

const CA_BUNDLE: &str = "ALVYS_CA_BUNDLE";
const EXTRA_CA: &str = "ALVYS_EXTRA_CA";
const CLIENT_CERT: &str = "ALVYS_CLIENT_CERT";
const CLIENT_KEY: &str = "ALVYS_CLIENT_KEY";

/// The flags about certificates.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct CertificateArgs {
    /// Trust the certificates in this PEM file instead of those of the system (ALVYS_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR).
    #[arg(long, value_name = "PATH")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// Trust the certificates in this PEM file besides (ALVYS_EXTRA_CA).
    #[arg(long, value_name = "PATH")]
    pub(crate) extra_ca: Option<PathBuf>,

    /// Show the certificate in this PEM file to servers that ask for one (ALVYS_CLIENT_CERT).
    #[arg(long, value_name = "PATH")]
    pub(crate) client_cert: Option<PathBuf>,

    /// The private key of --client-cert in this PEM file; by default it is in the same file (ALVYS_CLIENT_KEY).
    #[arg(long, value_name = "PATH")]
    pub(crate) client_key: Option<PathBuf>,
}

/// The certificates that the settings name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// The setting and the file of the certificates that are trusted in place of the system's.
    pub(crate) bundle: Option<(&'static str, PathBuf)>,
    pub(crate) extra: Option<PathBuf>,
    /// The certificate to show to servers, and its key.
    pub(crate) shown: Option<[PathBuf; 2]>,
}

/// How this run reaches servers. The certificates are read once, and only when something is to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    pub(crate) certificates: Certificates,
    tls: Arc<OnceLock<Trusted>>,
}

impl CertificateArgs {
    /// Refuses variables that are set but empty, unless a flag takes their place.
    ///
    /// # Errors
    /// The variable.
    pub(crate) fn refuse_empty(&self) -> Result<(), Failure> {
        let Self { ca_bundle, extra_ca, client_cert, client_key } = self;
        let flags =
            [(CA_BUNDLE, ca_bundle), (EXTRA_CA, extra_ca), (CLIENT_CERT, client_cert), (CLIENT_KEY, client_key)];
        let given = flags.iter().filter_map(|(name, flag)| flag.is_some().then_some((*name, "a flag")));
        let variables = Variables::from_iter(given).over(Variables::environment());
        Ok(variables.refuse_empty(&flags.map(|(name, _)| name))?)
    }

    /// Reads which certificates the flags, the environment and a profile name.
    ///
    /// # Errors
    /// When there is a key without a certificate.
    pub(crate) fn read(&self, profile: Option<&Path>) -> Result<Certificates, Failure> {
        let of = |flag: &Option<PathBuf>, name| flag.clone().or_else(|| variable(name).map(PathBuf::from));
        let named = |setting, path: Option<PathBuf>| path.map(|path| (setting, path));
        let bundle = named("--ca-bundle", self.ca_bundle.clone());
        let bundle = bundle.or_else(|| named(CA_BUNDLE, variable(CA_BUNDLE).map(PathBuf::from)));
        let bundle = bundle.or_else(|| named("ca_bundle of the profile", profile.map(PathBuf::from)));
        let key = of(&self.client_key, CLIENT_KEY);
        let shown = match (of(&self.client_cert, CLIENT_CERT), key) {
            (Some(certificate), key) => Some([certificate.clone(), key.unwrap_or(certificate)]),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Failure::configuration(
                    "there is a key but no certificate that it belongs to",
                    "name the certificate in ALVYS_CLIENT_CERT or --client-cert, or remove ALVYS_CLIENT_KEY and --client-key",
                ));
            }
        };
        Ok(Certificates { bundle, extra: of(&self.extra_ca, EXTRA_CA), shown })
    }
}

impl Certificates {
    fn trust(&self) -> Trust {
        let mut trust = Trust::system();
        if let Some((setting, path)) = &self.bundle {
            trust = trust.only(*setting, path);
        }
        if let Some(path) = &self.extra {
            trust = trust.more("--extra-ca or ALVYS_EXTRA_CA", path);
        }
        match &self.shown {
            Some([certificate, key]) => trust.identity(certificate, key),
            None => trust,
        }
    }
}

impl Network {
    pub(crate) fn new(certificates: Certificates) -> Self {
        Self { certificates, ..Self::default() }
    }

    /// The settings of an agent for this URL.
    ///
    /// # Errors
    /// When the certificates cannot be read, or the proxy for this URL cannot be used.
    pub(crate) fn blocking(&self, url: &Uri) -> Result<alvys_auth_ureq::Http, Failure> {
        let http = match self.tls(&[url])? {
            Some(tls) => alvys_auth_ureq::Http::with(Proxies::from_env(), tls),
            None => alvys_auth_ureq::Http::default(),
        };
        http.check(url)?;
        Ok(http)
    }

    /// An agent that reads the certificates only when it has something to send.
    pub(crate) fn later(&self, config: ConfigBuilder<AgentScope>) -> Agent {
        let network = self.clone();
        let tls = move || Ok(Arc::clone(&network.read()?.config));
        alvys_auth_ureq::Http::with_later(Proxies::from_env(), tls).agent(config.middleware(Checked(self.clone())))
    }

    /// The settings of a client for these URLs.
    ///
    /// # Errors
    /// As [`blocking`](Self::blocking).
    pub(crate) fn asynchronous(&self, urls: &[&Uri]) -> Result<alvys_auth_reqwest::Http, Failure> {
        let http = match self.tls(urls)? {
            Some(tls) => alvys_auth_reqwest::Http::with(Proxies::from_env(), tls),
            None => alvys_auth_reqwest::Http::default(),
        };
        urls.iter().try_for_each(|url| http.check(url))?;
        Ok(http.and(|http| http.user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")))))
    }

    /// The certificates that could not be used, in one sentence for each file. Empty until there is a request to send.
    pub(crate) fn ignored(&self) -> &[String] {
        self.tls.get().map_or(&[], |read| &read.ignored)
    }

    /// The TLS settings. None when no URL is encrypted and no certificates are named. Named certificates are read even
    /// for plain http, so that a mistake in them is found.
    fn tls(&self, urls: &[&Uri]) -> Result<Option<Arc<ClientConfig>>, Error> {
        if !self.certificates.trust().is_named() && urls.iter().all(|url| url.scheme_str() == Some("http")) {
            return Ok(None);
        }
        Ok(Some(Arc::clone(&self.read()?.config)))
    }

    fn read(&self) -> Result<&Trusted, Error> {
        if let Some(read) = self.tls.get() {
            return Ok(read);
        }
        if let Some([_, key]) = &self.certificates.shown {
            // Refuses a key file that other users can write, like every other file with a secret.
            read_secret(key)?;
        }
        let read = self.certificates.trust().read(Arc::new(aws_lc_rs::default_provider()))?;
        read.ignored.iter().for_each(|what| messages::notice(what));
        Ok(self.tls.get_or_init(|| read))
    }
}

/// Finds mistakes in the settings of certificates before a request, whether or not it is encrypted.
struct Checked(Network);

impl Middleware for Checked {
    fn handle(&self, request: Request<SendBody>, next: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        self.0.tls(&[request.uri()]).map_err(|error| ureq::Error::Other(error.into()))?;
        next.handle(request)
    }
}
