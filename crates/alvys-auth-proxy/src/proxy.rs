//! The proxy, which all connections share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Api, Error, Token};
use alvys_auth_reqwest::Http;
use tokio::sync::Notify;

use crate::accounts::{Account, Accounts};
use crate::descriptors::Descriptors;
use crate::guesses::Guesses;
use crate::places::Places;
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
    pub(crate) descriptors: Descriptors,
    /// The calls that are sent or answered.
    pub(crate) calls: Places,
    /// The calls that wait for a token or for their turn.
    pub(crate) waits: Places,
    /// The requests whose bodies are being read.
    pub(crate) arrivals: Places,
    /// The bytes of short request bodies that are kept in memory.
    pub(crate) memory: Places,
    /// The long pages of the proxy that are being sent.
    pub(crate) pages: Places,
    pub(crate) guesses: Guesses,
    /// Notified when a connection has no call any more.
    pub(crate) freed: Arc<Notify>,
    pub(crate) watch: Watch,
}

/// How many calls may wait, as a multiple of the calls that may be in progress.
const WAITS: usize = 2;
/// How many request bodies may be read at the same time.
const MOST_ARRIVALS: usize = 1024;
/// How many bytes of short request bodies are kept. More bodies are streamed.
const MEMORY: usize = 16 * 1024 * 1024;
/// How many long pages are sent at the same time.
const MOST_PAGES: usize = 64;

impl Proxy {
    /// A proxy for `api` that uses the tokens of `accounts`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a setting is wrong or the HTTP client cannot be
    /// built.
    pub fn new(accounts: impl Accounts, api: Api, settings: Settings) -> Result<Self, Error> {
        let http = Http::default();
        for url in [Some(api.base()), settings.mcp.as_deref()].into_iter().flatten() {
            // A URL that cannot be parsed is reported below.
            url.parse().map_or(Ok(()), |url| http.check(&url))?;
        }
        Self::with_client(accounts, api, settings, http)
    }

    /// Like [`new`](Self::new), with your own transport settings: certificates, proxies, name resolution.
    ///
    /// Do not set a time limit for whole requests, because it would cut streams; use [`Settings::answer_within`]. Redirects
    /// and decompression are always turned off. An API or an MCP server that is called over plain http, which is allowed only to
    /// this machine, is called without these settings.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_client(
        accounts: impl Accounts,
        api: Api,
        settings: Settings,
        http: impl Into<Http>,
    ) -> Result<Self, Error> {
        let descriptors = Descriptors::of_this_process();
        let settings = descriptors.limit(settings);
        let upstream = Upstream::new(api, &http.into(), &settings)?;
        let shared = accounts.sole().is_none();
        Ok(Self(Arc::new(Inner {
            accounts: Box::new(accounts),
            upstream,
            descriptors,
            calls: Places::new(settings.most_at_once, shared),
            waits: Places::new(settings.most_at_once.saturating_mul(WAITS), shared),
            arrivals: Places::new(MOST_ARRIVALS, shared),
            memory: Places::new(MEMORY, shared),
            pages: Places::new(MOST_PAGES, false),
            guesses: Guesses::default(),
            freed: Arc::default(),
            watch: Watch::new(),
            settings,
        })))
    }

    /// Forgets that a forward proxy refused its user name and password, so that the next call tries it again. The
    /// refusal is remembered for 5 minutes otherwise. Call this when somebody has corrected the settings of the forward
    /// proxy.
    pub fn retry(&self) {
        self.0.upstream.refusals.forget();
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

    /// How many calls are in progress, including those that wait.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.taken() + self.waits.taken()
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
