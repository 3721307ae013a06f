//! `alvys-auth proxy`: the sidecar, in the foreground.

use std::fs;
use std::future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alvys_auth_core::Api;
use alvys_auth_proxy::{Accounts, Listen, Proxy, Server, Settings, SharedKey};
use reqwest::{Certificate, ClientBuilder};
use tokio::sync::Notify;
use tracing::info;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;
use crate::settings::{SettingsArgs, variable};
use crate::signals;
use crate::time;

mod notices;
mod one;
mod process;
mod several;

/// The flags that say something about one application, by their names in clap.
const OF_ONE_APPLICATION: [&str; 13] = [
    "profile",
    "client_id",
    "secret_stdin",
    "secret_file",
    "secret_command",
    "flow",
    "tenant",
    "env",
    "encoding",
    "token_url",
    "audience",
    "scope",
    "api_base_url",
];

/// What SIGHUP does.
type Reload = Box<dyn Fn() + Send + Sync>;

/// Run a reverse proxy that adds the token, until Ctrl-C: any language calls it and is authorized.
///
/// SIGHUP reads the credentials and the key file anew; a changed secret file is noticed without it. The proxy answers
/// /healthz, /readyz, /metrics and /status itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: an address and port, or unix:/path; may be given several times.
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:8350")]
    listen: Vec<Listen>,

    /// Answer /healthz, /readyz and /metrics, and nothing else, at this address too.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,

    /// Listen beyond this machine; needs a key.
    #[arg(long)]
    expose: bool,

    /// Ask of every request the key in this file, in X-Alvys-Proxy-Key (ALVYS_PROXY_KEY holds the key itself).
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,

    /// Another name that callers may use for this proxy.
    #[arg(long, value_name = "HOST", value_parser = host)]
    name: Vec<String>,

    /// The MCP server behind /mcp; that of Alvys with its production API.
    #[arg(long, value_name = "URL")]
    mcp_url: Option<String>,

    /// Serve the application of this profile under /t/PROFILE; may be given several times, and replaces the one application.
    ///
    /// Everything about an application then comes from its profile, nothing from flags and the environment.
    #[arg(long, value_name = "PROFILE", conflicts_with_all = OF_ONE_APPLICATION)]
    serve: Vec<String>,

    /// Answer GET /token with the token itself.
    #[arg(long)]
    hand_out_tokens: bool,

    /// Let calls go out as they come, instead of within the published rate limits.
    #[arg(long)]
    unshaped: bool,

    /// How long one call may wait, all its waits together.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    patience: Option<Duration>,

    /// How many calls may be under way at once.
    #[arg(long, value_name = "CALLS", value_parser = at_least_one)]
    most_at_once: Option<NonZeroUsize>,

    /// The longest request body, in bytes.
    #[arg(long, value_name = "BYTES")]
    longest_body: Option<u64>,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::configuration(format!("cannot run a server here: {error}"), "see the limits of this process")
    };
    if arguments.settings.cache_dir.is_some() || arguments.settings.no_cache {
        return Err(Failure::usage(
            "the proxy keeps its tokens in memory only",
            "leave --cache-dir and --no-cache away",
        ));
    }
    notices::start();
    process::take_descriptors();
    // Before signals are listened for: they are to end a run that waits for stdin, a command or a keychain.
    let key = arguments.key()?.map(|key| SharedKey::new(key.as_str())).transpose()?;
    let settings = arguments.proxy_settings(key.clone())?;
    let (proxy, reload) = if arguments.serve.is_empty() {
        one::application(arguments, settings)?
    } else {
        several::applications(arguments, settings)?
    };
    let runtime = process::runtime().map_err(failed)?;
    let ran = runtime.block_on(async {
        // Listened for before anything is printed, so that no signal is missed by who waits for the lines.
        let ended = signals::ended().map_err(failed)?;
        let (path, key) = (arguments.key_file.clone(), key);
        let hangup = move || {
            reload();
            if let Some((path, key)) = path.as_deref().zip(key.as_ref()) {
                reread_key(path, key);
            }
        };
        tokio::spawn(signals::on_hangup(hangup).map_err(failed)?);
        arguments.serve_until(Server::new(proxy), ended).await
    });
    // A command or a keychain that is being read is not waited for.
    runtime.shutdown_background();
    ran
}

impl Args {
    fn proxy_settings(&self, key: Option<SharedKey>) -> Result<Settings, Failure> {
        let mut settings = self.name.iter().fold(Settings::new(), Settings::name);
        let reachable = |place: &&Listen| matches!(place, Listen::Tcp(address) if !address.ip().is_loopback());
        if self.expose && key.is_none() {
            return Err(Failure::configuration(
                "--expose lets other machines in, and there is no key to ask them for",
                "give one with --key-file or in ALVYS_PROXY_KEY",
            ));
        }
        if let Some(place) = self.listen.iter().find(reachable).filter(|_| !self.expose) {
            return Err(Failure::configuration(
                format!("{place} can be reached from other machines"),
                "listen on 127.0.0.1 or a Unix socket, or allow it with --expose and a key in --key-file",
            ));
        }
        if let Some(key) = key {
            settings = settings.key(key);
        }
        if self.expose {
            settings = settings.expose();
        }
        if self.hand_out_tokens {
            settings = settings.hand_out_tokens();
        }
        if let Some(calls) = self.most_at_once {
            settings = settings.most_at_once(calls.get());
        }
        if let Some(bytes) = self.longest_body {
            settings = settings.longest_body(bytes);
        }
        Ok(settings)
    }

    fn key(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match &self.key_file {
            Some(path) => read_key(path).map(Some),
            None => Ok(variable("ALVYS_PROXY_KEY")
                .map(|key| without_line_break(&Zeroizing::new(key.to_string_lossy().into_owned())))),
        }
    }

    /// The proxy in front of `api`, and of the MCP server that belongs to it.
    fn proxy(
        &self,
        accounts: impl Accounts,
        api: Api,
        settings: Settings,
        certificates: &Certificates,
    ) -> Result<Proxy, Failure> {
        let own = || (api == Api::production()).then_some("https://mcp.alvys.com/mcp");
        let settings = match self.mcp_url.as_deref().or_else(own) {
            Some(url) => settings.mcp(url),
            None => settings,
        };
        let api = match self.patience {
            Some(patience) => api.patience(patience),
            None => api,
        };
        Ok(Proxy::with_client(accounts, api, settings, certificates.client())?)
    }

    async fn serve_until(&self, mut server: Server, ended: impl Future<Output = ()>) -> Result<(), Failure> {
        for place in &self.listen {
            server = server.listen(place).await?;
        }
        if let Some(address) = self.health {
            server = server.health(address).await?;
        }
        let places: String = server.places().iter().map(|place| format!("{place}\n")).collect();
        output::payload(&places)?;
        let draining = Notify::new();
        let shutdown = async {
            ended.await;
            draining.notify_one();
        };
        tokio::select! {
            cut = server.run(shutdown) => {
                if cut > 0 {
                    output::complain(&format!("alvys-auth: {cut} connections did not end in time and were cut"));
                }
            }
            () = again(&draining) => output::complain("alvys-auth: a second signal: what was under way was cut"),
        }
        Ok(())
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        Failure::configuration(format!("the key file {} cannot be read: {error}", path.display()), "check --key-file")
    });
    Ok(without_line_break(&read?))
}

fn without_line_break(key: &Zeroizing<String>) -> Zeroizing<String> {
    Zeroizing::new(key.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for the key that is in the file now, if it is one.
fn reread_key(path: &Path, key: &SharedKey) {
    match read_key(path).and_then(|read| Ok(key.set(read.as_str())?)) {
        Ok(()) => info!(target: "alvys_auth", "read the key anew"),
        Err(failure) => not_reloaded(&failure),
    }
}

/// The certificates that an HTTP client trusts, when not those of the system.
#[derive(Debug, Clone)]
struct Certificates(Option<Vec<Certificate>>);

impl Certificates {
    /// Reads a PEM file, if there is one to be read.
    fn read(bundle: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = bundle else { return Ok(Self(None)) };
        let refused = |what: String| {
            let hint = "name a PEM file with certificates in ALVYS_CA_BUNDLE, SSL_CERT_FILE or --ca-bundle, or none";
            Failure::configuration(format!("the CA bundle {} {what}", path.display()), hint)
        };
        let pem = fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| refused("is no PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(refused("holds no certificate".to_owned()));
        }
        Ok(Self(Some(certificates)))
    }

    fn client(&self) -> ClientBuilder {
        let http = reqwest::Client::builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
        match &self.0 {
            Some(certificates) => http.tls_certs_only(certificates.clone()),
            None => http,
        }
    }
}

/// Ends with the first signal after the one that began the draining.
async fn again(draining: &Notify) {
    draining.notified().await;
    match signals::ended() {
        Ok(ended) => ended.await,
        Err(_) => future::pending().await,
    }
}

/// A name or an address alone, as it stands in the Host of a request without the port.
fn host(text: &str) -> Result<String, &'static str> {
    let name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if name || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("give a host name or an address, without http:// and without a port, such as proxy.internal")
}

fn at_least_one(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "give a whole number of calls, 1 at least")
}

/// The settings lead somewhere else than at the start: their credentials must not go where this proxy leads.
fn elsewhere(what: String) -> Failure {
    Failure::configuration(what, "start the proxy anew, or change it back")
}

/// Says on stderr that a SIGHUP changed nothing: whoever sent it does not see an exit code.
fn not_reloaded(failure: &Failure) {
    output::complain(&format!("alvys-auth: goes on with the settings at hand: {}; {}", failure.what, failure.todo));
}
