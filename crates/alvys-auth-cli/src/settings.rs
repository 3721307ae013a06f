//! Settings in layers: flags over the environment over a profile.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use alvys_auth_config::{Setup, Variables};
use alvys_auth_core::Credentials;
use tracing::debug;

use crate::failure::Failure;
use crate::output;
use crate::profiles::{self, Named};
use crate::secret::{self, Provider, SecretArgs};

/// The flags that all commands which ask for tokens have in common.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingsArgs {
    /// Take what neither flags nor environment say from this profile (ALVYS_PROFILE).
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// The application's client id (ALVYS_CLIENT_ID).
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,

    #[command(flatten)]
    pub(crate) secret: SecretArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Trust the certificates in this PEM file instead of the built-in ones (ALVYS_CA_BUNDLE, SSL_CERT_FILE).
    #[arg(long, value_name = "PATH")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// Keep tokens under this directory (ALVYS_CACHE_DIR).
    #[arg(long, value_name = "PATH")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Neither use nor keep a token of another run (ALVYS_NO_CACHE).
    #[arg(long)]
    pub(crate) no_cache: bool,
}

/// Which endpoint to ask, and for what: everything of an application but its credentials.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct TargetArgs {
    /// The flow to speak; current by default (ALVYS_FLOW).
    #[arg(long, value_parser = ["current", "legacy"])]
    pub(crate) flow: Option<String>,

    /// The tenant (company code) of the legacy flow (ALVYS_TENANT_ID).
    #[arg(long, value_name = "CODE")]
    pub(crate) tenant: Option<String>,

    /// The Alvys installation; production by default (ALVYS_ENV).
    #[arg(long, value_parser = ["production", "qa"])]
    pub(crate) env: Option<String>,

    /// How the token request is written; the flow's own way by default (ALVYS_ENCODING).
    #[arg(long, value_parser = ["json", "form"])]
    pub(crate) encoding: Option<String>,

    /// The full URL to ask for tokens; {tenant_id} is filled in for the legacy flow (ALVYS_TOKEN_URL).
    #[arg(long, value_name = "URL")]
    pub(crate) token_url: Option<String>,

    /// Another audience than that of the public API (ALVYS_AUDIENCE).
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,

    /// Scopes to name in the token request, between spaces; rarely of use (ALVYS_SCOPE).
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,

    /// Where the API is (ALVYS_API_BASE_URL).
    #[arg(long, value_name = "URL")]
    pub(crate) api_base_url: Option<String>,
}

/// Everything that was decided before anything is asked for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The application.
    pub(crate) credentials: Credentials,
    /// How to ask for its tokens, where the API is, and what was set in vain.
    pub(crate) setup: Setup,
    /// The certificates to trust, when not the built-in ones.
    pub(crate) ca_bundle: Option<PathBuf>,
    /// Where tokens are kept; none when they are not.
    pub(crate) cache_dir: Option<PathBuf>,
}

/// The layers that were found, from which each part of the settings is read.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    arguments: &'a SettingsArgs,
    /// The profile in use.
    pub(crate) profile: Option<Named>,
}

impl SettingsArgs {
    /// Reads everything.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub(crate) fn read(&self) -> Result<Settings, Failure> {
        let layers = self.layers()?;
        let setup = layers.setup()?;
        let credentials = layers.credentials()?;
        debug!(target: "alvys_auth", client_id = credentials.client_id(), "read the settings");
        Ok(Settings { credentials, setup, ca_bundle: layers.ca_bundle(), cache_dir: self.cache_dir() })
    }

    /// Finds the profile in use, if any, and reads nothing else yet.
    ///
    /// # Errors
    /// When a profile is asked for and not there, or when the file of the profiles cannot be read.
    pub(crate) fn layers(&self) -> Result<Layers<'_>, Failure> {
        let environment = || variable("ALVYS_PROFILE").map(|name| name.to_string_lossy().into_owned());
        let profile = profiles::find(self.profile.clone().or_else(environment).as_deref())?;
        if let Some(Named { name, profile }) = &profile {
            debug!(target: "alvys_auth", profile = name, "uses a profile");
            let client_id = variable("ALVYS_CLIENT_ID").filter(|_| self.client_id.is_none());
            if client_id.zip(profile.client_id.as_ref()).is_some_and(|(other, own)| other != **own) {
                output::warn(&format!("ALVYS_CLIENT_ID is set and beats the client id of profile {name}"));
            }
        }
        Ok(Layers { arguments: self, profile })
    }

    /// Where tokens are kept; none when they are not.
    pub(crate) fn cache_dir(&self) -> Option<PathBuf> {
        let off = |value: OsString| !["0", "false", "no"].iter().any(|no| value.eq_ignore_ascii_case(no));
        if self.no_cache || variable("ALVYS_NO_CACHE").is_some_and(off) {
            debug!(target: "alvys_auth", "the cache is switched off");
            return None;
        }
        crate::cache::directory(self.cache_dir.clone())
    }
}

impl Layers<'_> {
    /// All named values.
    pub(crate) fn variables(&self) -> Variables {
        let flags = self.arguments.target.named().chain(named("ALVYS_CLIENT_ID", &self.arguments.client_id));
        let profile = self.profile.iter().flat_map(|named| named.profile.named());
        Variables::from_iter(flags).over(Variables::environment()).over(Variables::from_iter(profile))
    }

    /// The flow and the API.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub(crate) fn setup(&self) -> Result<Setup, Failure> {
        Ok(Setup::read(&self.variables())?)
    }

    /// The credentials, from wherever the secret is.
    ///
    /// # Errors
    /// What is missing, wrong, or cannot be read.
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        secret::credentials(&self.arguments.secret, self)
    }

    /// Where the credentials come from, and come from again when they change.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(crate) fn provider(&self) -> Result<Provider, Failure> {
        secret::provider(&self.arguments.secret, self)
    }

    /// The certificates to trust, when not the built-in ones.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        let profile = || self.profile.as_ref()?.profile.ca_bundle.clone();
        let environment = |name| variable(name).map(PathBuf::from);
        let flag = self.arguments.ca_bundle.clone();
        flag.or_else(|| environment("ALVYS_CA_BUNDLE")).or_else(profile).or_else(|| environment("SSL_CERT_FILE"))
    }
}

impl TargetArgs {
    /// The flags that were given, under the names of their variables.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { flow, tenant, env, encoding, token_url, audience, scope, api_base_url } = self;
        [
            ("ALVYS_FLOW", flow),
            ("ALVYS_TENANT_ID", tenant),
            ("ALVYS_ENV", env),
            ("ALVYS_ENCODING", encoding),
            ("ALVYS_TOKEN_URL", token_url),
            ("ALVYS_AUDIENCE", audience),
            ("ALVYS_SCOPE", scope),
            ("ALVYS_API_BASE_URL", api_base_url),
        ]
        .into_iter()
        .flat_map(|(name, value)| named(name, value))
    }
}

/// A variable of the environment; an empty one is none.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn named<'a>(name: &'static str, value: &'a Option<String>) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
    value.as_deref().map(|value| (name, value)).into_iter()
}
