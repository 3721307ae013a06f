//! The flags of `alvys-auth proxy`, and the settings that they make.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alvys_auth_config::{Variables, read_secret};
use alvys_auth_core::Api;
use alvys_auth_proxy::{Accounts, Listen, Proxy, Settings, SharedKey};
use http::Uri;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::network::Network;
use crate::secret::PROXY_KEY;
use crate::settings::SettingsArgs;
use crate::time;

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

/// Run a reverse proxy that adds the token to each request, so that programs in any language can call the API.
///
/// Ctrl-C ends it. SIGHUP makes it read the credentials and the key file again; a changed secret file is also noticed without
/// SIGHUP. The proxy shares its tokens with other sidecars and with runs of the command: see --store. The proxy itself answers
/// /healthz, /readyz, /metrics and /status.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen at this place: an address with a port, or unix:/path. May be given several times.
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:8350")]
    pub(super) listen: Vec<Listen>,

    /// Also answer /healthz, /readyz and /metrics, and nothing else, at this address.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) health: Option<SocketAddr>,

    /// Allow other machines to connect; needs a key.
    #[arg(long)]
    expose: bool,

    /// Require the key in this file from every request, in X-Alvys-Proxy-Key; ALVYS_PROXY_KEY contains the key itself.
    #[arg(long, value_name = "PATH")]
    pub(super) key_file: Option<PathBuf>,

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
    pub(super) serve: Vec<String>,

    /// Answer GET /token with the access token.
    #[arg(long)]
    hand_out_tokens: bool,

    /// Send calls at once, without regard to the published rate limits.
    #[arg(long)]
    pub(super) unshaped: bool,

    /// How long one call may wait in all; 60s by default.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    patience: Option<Duration>,

    /// Also send the token to this path of the API's host, and below it. May be given several times.
    #[arg(long, value_name = "PATH")]
    allow_path: Vec<String>,

    /// How many calls may be in progress at the same time.
    #[arg(long, value_name = "CALLS", value_parser = at_least_one)]
    most_at_once: Option<NonZeroUsize>,

    /// The longest request body, in bytes.
    #[arg(long, value_name = "BYTES")]
    longest_body: Option<u64>,

    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

impl Args {
    pub(super) fn proxy_settings(&self, key: Option<SharedKey>) -> Result<Settings, Failure> {
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
        settings = self.allow_path.iter().fold(settings, Settings::allow_path);
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

    pub(super) fn key(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match &self.key_file {
            Some(path) => read_key(path).map(Some),
            None => {
                // An empty one would leave the proxy without a key.
                Variables::environment().refuse_empty(&[PROXY_KEY])?;
                let key = env::var_os(PROXY_KEY).map(|key| Zeroizing::new(key.to_string_lossy().into_owned()));
                Ok(key.map(|key| without_line_break(&key)))
            }
        }
    }

    /// The proxy for `api`, and for the MCP server that belongs to it.
    pub(super) fn proxy(
        &self,
        accounts: impl Accounts,
        api: Api,
        settings: Settings,
        network: &Network,
    ) -> Result<Proxy, Failure> {
        let own = || (api == Api::production()).then_some("https://mcp.alvys.com/mcp");
        let mcp = self.mcp_url.as_deref().or_else(own);
        // The proxy says what is wrong with a URL that cannot be called.
        let called: Vec<Uri> =
            [Some(api.base()), mcp].into_iter().flatten().filter_map(|url| url.parse().ok()).collect();
        let http = network.asynchronous(&called.iter().collect::<Vec<_>>())?;
        let settings = match mcp {
            Some(url) => settings.mcp(url),
            None => settings,
        };
        let api = match self.patience {
            Some(patience) => api.patience(patience),
            None => api,
        };
        Ok(Proxy::with_client(accounts, api, settings, http)?)
    }
}

pub(super) fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    Ok(without_line_break(&read_secret(path)?))
}

fn without_line_break(key: &Zeroizing<String>) -> Zeroizing<String> {
    Zeroizing::new(key.trim_end_matches(['\r', '\n']).to_owned())
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
