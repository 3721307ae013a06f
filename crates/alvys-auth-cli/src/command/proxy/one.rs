//! A proxy for one application, with the settings that all commands use: flags, environment and profile.

use std::mem;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alvys_auth_config::Setup;
use alvys_auth_core::{Api, Credentials, CredentialsProvider, Error, Flow, Given, Mark};
use alvys_auth_proxy::{Account, Proxy, Settings};
use alvys_auth_reqwest::{Blocking, TokenSource};
use tracing::info;

use super::arguments::Args;
use super::reload::{Reload, elsewhere, not_reloaded};
use crate::failure::Failure;
use crate::keys;
use crate::messages;
use crate::network::Certificates;
use crate::secret::Provider;
use crate::settings::Layers;
use crate::store::Choice;

/// Reads the settings of the application and makes a proxy for it.
///
/// # Errors
/// The first setting that is missing or wrong.
pub(super) fn application(arguments: &Args, settings: Settings) -> Result<(Proxy, Reload), Failure> {
    let layers = arguments.settings.layers()?;
    let setup = layers.setup()?;
    // Without a token, the proxy runs on, and nobody would be told later.
    setup.warnings.iter().for_each(|warning| messages::notice(warning));
    setup.flow.deprecation().into_iter().for_each(messages::warn);
    let network = layers.network()?;
    let http = network.asynchronous(&[&keys::endpoint(&setup.flow)?])?;
    let certificates = network.certificates.clone();
    let store = layers.store();
    let shared = store.open()?.shared();
    let start = Start { flow: setup.flow.clone(), api: setup.api.clone(), certificates, store };
    let current = Arc::new(Current(RwLock::new(layers.provider()?)));
    let tokens = TokenSource::builder(setup.flow, current.current()?).provider(Arc::clone(&current) as _).http(http);
    let tokens = match shared {
        Some(shared) => tokens.store(Arc::new(Blocking::new(shared))),
        None => tokens,
    };
    let tokens = tokens.build()?;
    let account = Account::new(tokens.clone());
    let account = if arguments.unshaped { account.unpaced() } else { account };
    let proxy = arguments.proxy(account, setup.api, settings, &network)?;
    Ok((proxy, rereading(arguments, start, tokens, current)))
}

/// The function for SIGHUP: it reads the settings again and uses their credentials from then on.
fn rereading(arguments: &Args, start: Start, tokens: TokenSource, current: Arc<Current>) -> Reload {
    let settings = arguments.settings.clone();
    let read = move || {
        if settings.secret.secret_stdin {
            return Err(Failure::configuration(
                "the secret came from stdin, which cannot be read again",
                "restart the proxy",
            ));
        }
        let layers = settings.layers()?;
        start.check(&layers)?;
        let provider = layers.provider()?;
        let credentials = provider.current()?;
        // Before the source gets them, so that a token request in between uses the new credentials too.
        let before = current.replace(provider);
        tokens.set_credentials(credentials).inspect_err(|_| drop(current.replace(before)))?;
        Ok(())
    };
    Box::new(move || match read() {
        Ok(()) => info!(target: "alvys_auth", "read the credentials again"),
        Err(failure) => not_reloaded(&failure),
    })
}

/// The settings, apart from the credentials, that the proxy was started with and keeps until it ends.
#[derive(Debug)]
struct Start {
    flow: Flow,
    api: Api,
    certificates: Certificates,
    store: Choice,
}

impl Start {
    /// Refuses settings that differ, because their credentials are for another place than the one that this proxy uses.
    fn check(&self, layers: &Layers<'_>) -> Result<(), Failure> {
        let Setup { flow, api, .. } = layers.setup()?;
        let certificates = layers.network()?.certificates;
        let differs = [
            (flow != self.flow, "the flow"),
            (api != self.api, "the API"),
            (certificates != self.certificates, "the CA bundle or the client certificate"),
            (layers.store() != self.store, "the store"),
        ];
        let differs: Vec<_> = differs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect();
        if differs.is_empty() {
            return Ok(());
        }
        Err(elsewhere(format!("changed since the start: {}", differs.join(", "))))
    }
}

/// The provider that was found last. The first one may have read its secret once, for example from a keychain, and would go
/// on giving an old secret.
struct Current(RwLock<Provider>);

impl Current {
    fn get(&self) -> Provider {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, provider: Provider) -> Provider {
        mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), provider)
    }
}

impl CredentialsProvider for Current {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        self.get().credentials(known)
    }

    fn time_limit(&self) -> Option<Duration> {
        self.get().time_limit()
    }
}
