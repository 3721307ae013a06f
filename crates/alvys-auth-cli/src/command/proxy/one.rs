//! A proxy for one application, as all commands know it: flags over the environment over a profile.

use std::sync::{Arc, PoisonError, RwLock};

use alvys_auth_core::{Credentials, Error};
use alvys_auth_driver::CredentialsProvider;
use alvys_auth_proxy::{Account, Proxy, Settings};
use alvys_auth_reqwest::TokenSource;
use tracing::info;

use super::{Args, Certificates, Reload, not_reloaded};
use crate::failure::Failure;
use crate::output;
use crate::secret::Provider;

/// Reads the settings of the application and makes a proxy of it.
///
/// # Errors
/// The first setting that is missing or wrong.
pub(super) fn application(arguments: &Args, settings: Settings) -> Result<(Proxy, Reload), Failure> {
    let layers = arguments.settings.layers()?;
    let setup = layers.setup()?;
    for warning in setup.warnings.iter().map(String::as_str).chain(setup.flow.deprecation()) {
        output::warn(warning);
    }
    let certificates = Certificates::read(layers.ca_bundle().as_deref())?;
    let current = Arc::new(Current(RwLock::new(layers.provider()?)));
    let tokens = TokenSource::builder(setup.flow, current.credentials()?)
        .provider(Arc::clone(&current))
        .client(certificates.client())
        .build()?;
    let account = Account::new(tokens.clone());
    let account = if arguments.unshaped { account.unpaced() } else { account };
    let proxy = arguments.proxy(account, setup.api, settings, &certificates)?;
    Ok((proxy, rereading(arguments, tokens, current)))
}

/// Its settings are read anew, and its credentials are those from then on.
fn rereading(arguments: &Args, tokens: TokenSource, current: Arc<Current>) -> Reload {
    let settings = arguments.settings.clone();
    let read = move || {
        if settings.secret.secret_stdin {
            return Err(Failure::configuration(
                "the secret came from stdin, which cannot be read again",
                "end the proxy and start it anew",
            ));
        }
        let provider = settings.layers()?.provider()?;
        tokens.set_credentials(provider.credentials()?)?;
        current.replace(provider);
        Ok(())
    };
    Box::new(move || match read() {
        Ok(()) => info!(target: "alvys_auth", "read the credentials anew"),
        Err(failure) => not_reloaded(&failure),
    })
}

/// Where the credentials come from: what was found last. A source that went on asking the first one would be given a secret
/// that was read once, from a keychain for example, and is an old one by now.
struct Current(RwLock<Provider>);

impl Current {
    fn get(&self) -> Provider {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, provider: Provider) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = provider;
    }
}

impl CredentialsProvider for Current {
    fn credentials(&self) -> Result<Credentials, Error> {
        self.get().credentials()
    }

    fn revision(&self) -> u64 {
        self.get().revision()
    }
}
