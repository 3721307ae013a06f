//! Settings in layers: a flag comes before the environment, and the environment before a profile.

use alvys_auth_config::{Setup, Variables};
use alvys_auth_core::Credentials;
use tracing::debug;

use crate::environment::variable;
use crate::failure::Failure;
use crate::messages;
use crate::network::{CertificateArgs, Network};
use crate::profiles::{self, Named};
use crate::secret::{self, Provider, SecretArgs};
use crate::store::{Choice, Store, StoreArgs};

/// The variables of the environment that are read, apart from the profile and those about certificates.
const OURS: [&str; 23] = [
    "ALVYS_CLIENT_ID",
    "Alvys__ClientId",
    "ALVYS_CLIENT_ID_FILE",
    "ALVYS_CLIENT_SECRET",
    "Alvys__ClientSecret",
    "ALVYS_CLIENT_SECRET_FILE",
    "ALVYS_FLOW",
    "ALVYS_TENANT_ID",
    "ALVYS_COMPANY_CODE",
    "ALVYS_ENV",
    "ALVYS_ENCODING",
    "ALVYS_TOKEN_URL",
    "Alvys__TokenUrl",
    "ALVYS_AUDIENCE",
    "Alvys__Audience",
    "ALVYS_SCOPE",
    "ALVYS_GRANT_TYPE",
    "ALVYS_API_BASE_URL",
    "ALVYS_BASE_URL",
    "ALVYS_API_VERSION",
    "ALVYS_CACHE_DIR",
    "ALVYS_NO_CACHE",
    "ALVYS_STORE",
];

/// The flags of all commands that request tokens.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingsArgs {
    /// Use the settings of this profile where neither a flag nor the environment has one (ALVYS_PROFILE).
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// The application's client id (ALVYS_CLIENT_ID).
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,

    #[command(flatten)]
    pub(crate) secret: SecretArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,

    #[command(flatten)]
    pub(crate) certificates: CertificateArgs,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// The flags about the token request and the API, apart from the credentials.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct TargetArgs {
    /// The flow; current by default (ALVYS_FLOW).
    #[arg(long, value_parser = ["current", "legacy"])]
    pub(crate) flow: Option<String>,

    /// The tenant (company code) of the legacy flow (ALVYS_TENANT_ID).
    #[arg(long, value_name = "CODE")]
    pub(crate) tenant: Option<String>,

    /// The Alvys installation; production by default (ALVYS_ENV).
    #[arg(long, value_parser = ["production", "qa"])]
    pub(crate) env: Option<String>,

    /// The encoding of the token request; json in the current flow, form in the legacy flow by default (ALVYS_ENCODING).
    #[arg(long, value_parser = ["json", "form"])]
    pub(crate) encoding: Option<String>,

    /// The full URL of the token endpoint; {tenant_id} in it is replaced in the legacy flow (ALVYS_TOKEN_URL).
    #[arg(long, value_name = "URL")]
    pub(crate) token_url: Option<String>,

    /// The audience; that of the public API by default, with the slash at its end (ALVYS_AUDIENCE).
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,

    /// The scopes to request, separated by spaces; rarely needed (ALVYS_SCOPE).
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,

    /// The base URL of the API; by default that of --env (ALVYS_API_BASE_URL).
    #[arg(long, value_name = "URL")]
    pub(crate) api_base_url: Option<String>,
}

/// All settings, read and checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The credentials of the application.
    pub(crate) credentials: Credentials,
    /// The flow, the API, and warnings about settings without effect.
    pub(crate) setup: Setup,
    /// How servers are reached.
    pub(crate) network: Network,
    /// The store that tokens are shared through.
    pub(crate) store: Store,
}

/// The layers that the settings are read from.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    arguments: &'a SettingsArgs,
    /// The profile in use.
    pub(crate) profile: Option<Named>,
}

impl SettingsArgs {
    /// Reads all settings.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub(crate) fn read(&self) -> Result<Settings, Failure> {
        let layers = self.layers()?;
        let setup = layers.setup()?;
        setup.warnings.iter().for_each(|warning| messages::ignored(warning));
        let credentials = layers.credentials()?;
        debug!(target: "alvys_auth", client_id = credentials.client_id(), "read the settings");
        Ok(Settings { credentials, setup, network: layers.network()?, store: layers.store().open()? })
    }

    /// Finds the profile in use, if there is one. No other setting is read yet.
    ///
    /// # Errors
    /// When the profile does not exist, or when the file of the profiles cannot be read.
    pub(crate) fn layers(&self) -> Result<Layers<'_>, Failure> {
        if self.profile.is_none() {
            Variables::environment().refuse_empty(&["ALVYS_PROFILE"])?;
        }
        let environment = || variable("ALVYS_PROFILE").map(|name| name.to_string_lossy().into_owned());
        let profile = profiles::find(self.profile.clone().or_else(environment).as_deref())?;
        if let Some(Named { name, profile }) = &profile {
            debug!(target: "alvys_auth", profile = name, "uses a profile");
            let client_id = variable("ALVYS_CLIENT_ID").filter(|_| self.client_id.is_none());
            if client_id.zip(profile.client_id.as_ref()).is_some_and(|(other, own)| other != **own) {
                messages::warn(&format!("ALVYS_CLIENT_ID is set and used instead of the client id of profile {name}"));
            }
        }
        let layers = Layers { arguments: self, profile };
        layers.refuse_empty()?;
        Ok(layers)
    }
}

impl Layers<'_> {
    /// All settings, by the names of their environment variables.
    pub(crate) fn variables(&self) -> Variables {
        let flags = self.arguments.target.named().chain(named("ALVYS_CLIENT_ID", &self.arguments.client_id));
        let profile = self.profile.iter().flat_map(|named| named.profile.named());
        Variables::from_iter(flags).over(Variables::environment()).over(Variables::from_iter(profile))
    }

    /// Refuses variables that are set but empty, unless a flag takes their place.
    fn refuse_empty(&self) -> Result<(), Failure> {
        let SettingsArgs { secret, store: StoreArgs { store, cache_dir, no_cache }, .. } = self.arguments;
        let given = [
            ("ALVYS_CLIENT_SECRET", secret.is_given()),
            ("ALVYS_CLIENT_SECRET_FILE", secret.is_given()),
            ("ALVYS_CACHE_DIR", cache_dir.is_some() || *no_cache),
            ("ALVYS_NO_CACHE", *no_cache),
            ("ALVYS_STORE", store.is_some() || *no_cache),
        ];
        let given = given.into_iter().filter_map(|(name, given)| given.then_some((name, "a flag")));
        Variables::from_iter(given).over(self.variables()).refuse_empty(&OURS)?;
        self.arguments.certificates.refuse_empty()
    }

    /// The flow and the API.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub(crate) fn setup(&self) -> Result<Setup, Failure> {
        Ok(Setup::read(&self.variables())?)
    }

    /// The credentials.
    ///
    /// # Errors
    /// When a value is missing, wrong, or cannot be read.
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        Ok(self.provider()?.current()?)
    }

    /// A provider of the credentials, which reads them again when they change.
    ///
    /// # Errors
    /// When a value is missing or wrong.
    pub(crate) fn provider(&self) -> Result<Provider, Failure> {
        secret::provider(&self.arguments.secret, self.profile.as_ref(), || self.variables())
    }

    /// The store that tokens are shared through.
    pub(crate) fn store(&self) -> Choice {
        self.arguments.store.choose(self.profile.as_ref())
    }

    /// How servers are reached.
    ///
    /// # Errors
    /// When there is a key without a certificate.
    pub(crate) fn network(&self) -> Result<Network, Failure> {
        let profile = self.profile.as_ref().and_then(|named| named.profile.ca_bundle.as_deref());
        Ok(Network::new(self.arguments.certificates.read(profile)?))
    }
}

impl TargetArgs {
    /// The flags that were given, by the names of their environment variables.
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

fn named<'a>(name: &'static str, value: &'a Option<String>) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
    value.as_deref().map(|value| (name, value)).into_iter()
}
