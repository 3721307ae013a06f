//! The proxy, which all connections share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Api, Error, Token};
use alvys_auth_reqwest::Http;
use tokio::sync::Semaphore;

use crate::accounts::{Account, Accounts};
use crate::settings::Settings;
use crate::upstream::Upstream;
use crate::watch::{Subject, Watch};

/// A reverse proxy that adds access tokens. [`Server`](crate::Server) makes it listen. It is cheap to clone.
///
/// To change the credentials, call `set_credentials` of the token source.
#[derive(Clone)]
pub struct Proxy(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) accounts: Box<dyn Accounts>,
    pub(crate) upstream: Upstream,
    pub(crate) settings: Settings,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) watch: Watch,
}

impl Proxy {
    /// A proxy for `api` that uses the tokens of `accounts`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a setting is wrong or the HTTP client cannot be
    /// built.
    pub fn new(accounts: impl Accounts, api: Api, settings: Settings) -> Result<Self, Error> {
        Self::with_client(accounts, api, settings, reqwest::Client::builder)
    }

    /// Like [`new`](Self::new), with your own transport settings: certificates, proxies, name resolution.
    ///
    /// Do not set a time limit for whole requests, because it would cut streams; use [`Settings::answer_within`]. Redirects
    /// and decompression are always turned off. HTTP proxies are turned off when the API or the MCP server is called over
    /// plain http, which is allowed only to this machine.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_client(
        accounts: impl Accounts,
        api: Api,
        settings: Settings,
        http: impl Into<Http>,
    ) -> Result<Self, Error> {
        let upstream = Upstream::new(api, &http.into(), &settings)?;
        Ok(Self(Arc::new(Inner {
            accounts: Box::new(accounts),
            upstream,
            slots: Arc::new(Semaphore::new(settings.most_at_once)),
            watch: Watch::new(),
            settings,
        })))
    }
}

impl Inner {
    /// Gets a token of `account`, and counts the result.
    pub(crate) async fn token_of(&self, account: &Account, subject: &Subject) -> Result<Token, Error> {
        let token = account.tokens.token().await;
        match &token {
            Ok(token) => self.watch.has_token(subject, &account.tokens, token),
            Err(error) => self.watch.no_token(subject, Some(&account.tokens), error),
        }
        token
    }

    /// How many calls are in progress.
    pub(crate) fn in_flight(&self) -> usize {
        self.settings.most_at_once - self.slots.available_permits()
    }

    /// The time until the first of the tokens in use expires.
    pub(crate) fn expiry(&self) -> Duration {
        match self.accounts.sole() {
            Some(account) => account.tokens.status().expires_in.unwrap_or_default(),
            None => self.watch.expiry(),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { upstream, settings, .. } = &*self.0;
        f.debug_struct("Proxy").field("api", &upstream.api).field("settings", settings).finish_non_exhaustive()
    }
}
