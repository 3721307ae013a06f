//! `alvys-auth proxy`: the reverse proxy that adds tokens, in the foreground.

use std::fs;
use std::future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alvys_auth_core::Api;
use alvys_auth_proxy::{Accounts, Listen, Proxy, Server, Settings, SharedKey};
use alvys_auth_reqwest::Http;
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

/// The flags about one application, by their names in clap.
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

/// The function that SIGHUP calls.
type Reload = Box<dyn Fn() + Send + Sync>;

/// Run a reverse proxy that adds the token to each request, so that programs in any language can call the API.
///
/// Ctrl-C ends it. SIGHUP makes it read the credentials and the key file again; a changed secret file is also noticed without
/// SIGHUP. The proxy itself answers /healthz, /readyz, /metrics and /status.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen at this place: an address with a port, or unix:/path. May be given several times.
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:8350")]
    listen: Vec<Listen>,

    /// Also answer /healthz, /readyz and /metrics, and nothing else, at this address.
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,

    /// Allow other machines to connect; needs a key.
    #[arg(long)]
    expose: bool,

    /// Require the key in this file from every request, in X-Alvys-Proxy-Key; ALVYS_PROXY_KEY contains the key itself.
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,

    /// Accept this host name for the proxy in requests. May be given several times.
    #[arg(long, value_name = "HOST", value_parser = host)]
    name: Vec<String>,

    /// The MCP server behind /mcp; by default that of Alvys, if the API is the production API.
    #[arg(long, value_name = "URL")]
    mcp_url: Option<String>,

    /// Serve the application of this profile under /t/PROFILE. May be given several times.
    ///
    /// All settings of an application then come from its profile, and none from flags or the environment.
    #[arg(long, value_name = "PROFILE", conflicts_with_all = OF_ONE_APPLICATION)]
    serve: Vec<String>,

    /// Answer GET /token with the access token.
    #[arg(long)]
    hand_out_tokens: bool,

    /// Send calls at once, without regard to the published rate limits.
    #[arg(long)]
    unshaped: bool,

    /// How long one call may wait in all; 60s by default.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    patience: Option<Duration>,

    /// How many calls may be in progress at the same time.
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
        Failure::configuration(
            format!("cannot run a server here: {error}"),
            "raise the limits of this process for threads and open files",
        )
    };
    if arguments.settings.cache_dir.is_some() || arguments.settings.no_cache {
        return Err(Failure::usage("the proxy keeps its tokens in memory only", "remove --cache-dir and --no-cache"));
    }
    notices::start();
    process::take_descriptors();
    // Read before the signals are caught, so that they end a run that waits for stdin, a command or a keychain.
    let key = arguments.key()?.map(|key| SharedKey::new(key.as_str())).transpose()?;
    let settings = arguments.proxy_settings(key.clone())?;
    let (proxy, reload) = if arguments.serve.is_empty() {
        one::application(arguments, settings)?
    } else {
        several::applications(arguments, settings)?
    };
    let runtime = process::runtime().map_err(failed)?;
    let ran = runtime.block_on(async {
        // Before anything is printed, because a reader of the lines may send a signal at once.
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
    // Does not wait for a command or a keychain that is being read.
    runtime.shutdown_background();
    ran
}

impl Args {
    fn proxy_settings(&self, key: Option<SharedKey>) -> Result<Settings, Failure> {
        let mut settings = self.name.iter().fold(Settings::new(), Settings::name);
        let reachable = |place: &&Listen| matches!(place, Listen::Tcp(address) if !address.ip().is_loopback());
        if self.expose && key.is_none() {
            return Err(Failure::configuration(
                "--expose allows other machines to connect, but there is no key to protect the proxy",
                "give a key with --key-file or ALVYS_PROXY_KEY",
            ));
        }
        if let Some(place) = self.listen.iter().find(reachable).filter(|_| !self.expose) {
            return Err(Failure::configuration(
                format!("other machines can reach {place}"),
                "listen on 127.0.0.1 or a Unix socket, or allow other machines with --expose and a key in --key-file",
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

    /// The proxy for `api`, and for the MCP server that belongs to it.
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
                    output::complain(&format!("alvys-auth: {cut} connections did not end in time and were closed"));
                }
            }
            () = again(&draining) => {
                output::complain("alvys-auth: a second signal came: the calls in progress were ended");
            }
        }
        Ok(())
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        Failure::configuration(
            format!("cannot read the key file {}: {error}", path.display()),
            "give --key-file a file that this user may read",
        )
    });
    Ok(without_line_break(&read?))
}

fn without_line_break(key: &Zeroizing<String>) -> Zeroizing<String> {
    Zeroizing::new(key.trim_end_matches(['\r', '\n']).to_owned())
}

/// Requires the key that is in the file now, if it is a valid key.
fn reread_key(path: &Path, key: &SharedKey) {
    match read_key(path).and_then(|read| Ok(key.set(read.as_str())?)) {
        Ok(()) => info!(target: "alvys_auth", "read the key again"),
        Err(failure) => not_reloaded(&failure),
    }
}

/// The certificates that an HTTP client trusts instead of those of the system.
#[derive(Debug, Clone)]
struct Certificates(Option<Vec<Certificate>>);

impl Certificates {
    /// Reads the PEM file `bundle`, if there is one.
    fn read(bundle: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = bundle else { return Ok(Self(None)) };
        let refused = |what: String| {
            let hint = "set ALVYS_CA_BUNDLE, SSL_CERT_FILE or --ca-bundle to a PEM file with certificates, or unset it";
            Failure::configuration(format!("the CA bundle {} {what}", path.display()), hint)
        };
        let pem = fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| refused("is not a PEM file".to_owned()))?;
        if certificates.is_empty() {
            return Err(refused("contains no certificate".to_owned()));
        }
        Ok(Self(Some(certificates)))
    }

    fn client(&self) -> ClientBuilder {
        // These settings read the system's certificates once: no file is opened when a client is made later on.
        let http = Http::default().builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
        match &self.0 {
            Some(certificates) => http.tls_certs_only(certificates.clone()),
            None => http,
        }
    }
}

/// Completes on the next signal after the one that began the shutdown.
async fn again(draining: &Notify) {
    draining.notified().await;
    match signals::ended() {
        Ok(ended) => ended.await,
        Err(_) => future::pending().await,
    }
}

/// A host name or an IP address, without a port.
fn host(text: &str) -> Result<String, &'static str> {
    let name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if name || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("give a host name or an IP address such as proxy.internal, without http:// and without a port")
}

fn at_least_one(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "give a whole number of calls, at least 1")
}

/// The new settings are for another place, so their credentials must not be sent to the one that this proxy uses.
fn elsewhere(what: String) -> Failure {
    Failure::configuration(what, "restart the proxy, or change the setting back")
}

/// Says on stderr that SIGHUP changed nothing. The sender of the signal sees no exit code.
fn not_reloaded(failure: &Failure) {
    output::complain(&format!(
        "alvys-auth: SIGHUP changed nothing, the old settings stay in use: {}; {}",
        failure.what, failure.todo
    ));
}
