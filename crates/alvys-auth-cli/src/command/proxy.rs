//! `alvys-auth proxy`: the sidecar, in the foreground.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alvys_auth_core::{Api, Error, Flow};
use alvys_auth_driver::{CredentialsProvider as _, Setup, Variables};
use alvys_auth_proxy::{Account, Listen, NotServed, PerTenant, Proxy, Server, Settings, SharedKey};
use alvys_auth_reqwest::{Credentials, Tenants, TokenSource};
use tokio::runtime;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;
use crate::profiles;
use crate::secret;
use crate::settings::{SettingsArgs, variable};
use crate::signals;
use crate::time;

/// Run a reverse proxy that adds the token, until Ctrl-C: any language calls it and is authorised.
///
/// SIGHUP reads the credentials anew, and so does a changed file that they come from. The proxy answers /healthz, /readyz,
/// /metrics and /status itself.
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
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,

    /// The MCP server behind /mcp; that of Alvys with its production API.
    #[arg(long, value_name = "URL")]
    mcp_url: Option<String>,

    /// Serve the application of this profile under /t/PROFILE; may be given several times, and replaces the one application.
    #[arg(long, value_name = "PROFILE")]
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
    #[arg(long, value_name = "CALLS")]
    most_at_once: Option<usize>,

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
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // Listened for before anything is printed, so that no signal is missed by who waits for the lines.
        let ended = signals::ended().map_err(failed)?;
        let layers = arguments.settings.layers()?;
        let setup = layers.setup()?;
        for warning in setup.warnings.iter().map(String::as_str).chain(setup.flow.deprecation()) {
            output::warn(warning);
        }
        let api = setup.api.clone();
        let settings = arguments.proxy_settings(&api)?;
        let api = match arguments.patience {
            Some(patience) => api.patience(patience),
            None => api,
        };
        let bundle = layers.ca_bundle();
        let http = http_client(bundle.as_deref())?;
        let server = if arguments.serve.is_empty() {
            let provider = layers.provider()?;
            let credentials = provider.credentials()?;
            let tokens = TokenSource::builder(setup.flow, credentials)
                .provider(provider)
                .client(http_client(bundle.as_deref())?)
                .build()?;
            let account = Account::new(tokens.clone());
            let account = if arguments.unshaped { account.unpaced() } else { account };
            tokio::spawn(signals::on_hangup(arguments.rereading(tokens)));
            Server::new(Proxy::with_client(account, api, settings, http)?)
        } else {
            let tenants = arguments.tenants(bundle.clone())?;
            let found = tenants.clone();
            let accounts = PerTenant::new(move |tenant| {
                let tenants = found.clone();
                async move { Ok::<_, NotServed>(tenants.source(&tenant).await?) }
            });
            let accounts = if arguments.unshaped { accounts.limits(None) } else { accounts };
            let served = arguments.serve.clone();
            tokio::spawn(signals::on_hangup(move || {
                info!(target: "alvys_auth", "reads all profiles anew");
                for tenant in &served {
                    let _ = tenants.forget(tenant);
                }
            }));
            Server::new(Proxy::with_client(accounts, api, settings, http)?)
        };
        arguments.serve_until(server, ended).await
    })
}

impl Args {
    fn proxy_settings(&self, api: &Api) -> Result<Settings, Failure> {
        let mcp =
            self.mcp_url.as_deref().or_else(|| (*api == Api::production()).then_some("https://mcp.alvys.com/mcp"));
        let mut settings = self.name.iter().fold(Settings::new(), Settings::name);
        if let Some(url) = mcp {
            settings = settings.mcp(url);
        }
        if let Some(key) = self.key()? {
            settings = settings.key(SharedKey::new(key.as_str())?);
        }
        if self.expose {
            settings = settings.expose();
        }
        if self.hand_out_tokens {
            settings = settings.hand_out_tokens();
        }
        if let Some(calls) = self.most_at_once {
            settings = settings.most_at_once(calls);
        }
        if let Some(bytes) = self.longest_body {
            settings = settings.longest_body(bytes);
        }
        Ok(settings)
    }

    fn key(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let key = match &self.key_file {
            Some(path) => Some(Zeroizing::new(fs::read_to_string(path).map_err(|error| {
                Failure::configuration(
                    format!("the key file {} cannot be read: {error}", path.display()),
                    "check --key-file",
                )
            })?)),
            None => variable("ALVYS_PROXY_KEY").map(|key| Zeroizing::new(key.to_string_lossy().into_owned())),
        };
        Ok(key.map(|key| Zeroizing::new(key.trim_end_matches(['\r', '\n']).to_owned())))
    }

    /// What SIGHUP does to the one application: its settings are read anew, and its credentials are those from then on.
    fn rereading(&self, tokens: TokenSource) -> impl Fn() + use<> {
        let settings = self.settings.clone();
        move || {
            if settings.secret.secret_stdin {
                warn!(target: "alvys_auth", "the secret came from stdin, which cannot be read again: start anew");
                return;
            }
            let read = settings.layers().and_then(|layers| layers.credentials());
            match read.and_then(|credentials| Ok(tokens.set_credentials(credentials)?)) {
                Ok(()) => info!(target: "alvys_auth", "read the credentials anew"),
                Err(failure) => warn!(target: "alvys_auth", "goes on with the credentials at hand: {}", failure.what),
            }
        }
    }

    /// The applications of the profiles to be served, and of no other ones.
    fn tenants(&self, bundle: Option<PathBuf>) -> Result<Tenants, Failure> {
        for name in &self.serve {
            profile(name)?;
        }
        let served = self.serve.clone();
        let known = move |tenant: &str| {
            if !served.iter().any(|name| name == tenant) {
                return Ok(None);
            }
            profile(tenant).map(Some).map_err(|failure| {
                // Any other kind than configuration, which would say that there is no such tenant.
                Error::transport(format!("profile {tenant} cannot be read"), io::Error::other(failure.what))
            })
        };
        debug!(target: "alvys_auth", tenants = self.serve.len(), "serves profiles");
        let client = move || http_client(bundle.as_deref()).unwrap_or_default();
        Ok(Tenants::builder(known).without_organization_guard().client(client).build())
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
        let cut = server.run(ended).await;
        if cut > 0 {
            output::warn(&format!("{cut} connections did not end in time and were cut"));
        }
        Ok(())
    }
}

/// The flow and the credentials of one profile: nothing of the environment and no flag has a part in them.
fn profile(name: &str) -> Result<(Flow, Credentials), Failure> {
    let Some(named) = profiles::find(Some(name))? else { return Err(profiles::missing(name)) };
    let variables = || Variables::from_iter(named.profile.named());
    let flow = Setup::read(&variables())?.flow;
    let credentials = secret::of_profile(&named, variables())?.credentials()?;
    Ok(match &named.profile.tenant {
        Some(tenant) => (flow.expect_organization(tenant), credentials),
        None => (flow, credentials),
    })
}

/// An HTTP client that trusts the certificates of `bundle`, or those of the system.
fn http_client(bundle: Option<&Path>) -> Result<reqwest::ClientBuilder, Failure> {
    let http = reqwest::Client::builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
    let Some(path) = bundle else { return Ok(http) };
    let refused = |what: String| {
        let hint = "name a PEM file with certificates in ALVYS_CA_BUNDLE, SSL_CERT_FILE or --ca-bundle, or none";
        Failure::configuration(format!("the CA bundle {} {what}", path.display()), hint)
    };
    let pem = fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| refused("is no PEM".to_owned()))?;
    if certificates.is_empty() {
        return Err(refused("holds no certificate".to_owned()));
    }
    Ok(http.tls_certs_only(certificates))
}
