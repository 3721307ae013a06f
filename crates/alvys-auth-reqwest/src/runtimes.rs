//! HTTP clients, one for each tokio runtime that asks for one.
//!
//! The runtime that opened a connection drives it. A request on a connection whose runtime does not run would wait for
//! ever, so no two runtimes share connections.

use std::error::Error as _;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use alvys_auth_core::Error;
use reqwest::{Client, ClientBuilder};
use tokio::runtime::{Handle, Id};
use tokio::task::JoinSet;

use crate::settings::Http;

/// A client for each runtime. It is made when the runtime first asks for one, and dropped when the runtime ends.
#[derive(Debug)]
pub(crate) struct PerRuntime {
    http: Http,
    kept: Mutex<Vec<Kept>>,
}

/// The client of one runtime. A task of that runtime owns it, so it is dropped when the runtime ends. After that,
/// another runtime may get the same id.
#[derive(Debug)]
struct Kept {
    runtime: Id,
    client: Weak<Client>,
    /// Ends the task when this is dropped.
    _owner: JoinSet<()>,
}

impl PerRuntime {
    pub(crate) fn new(http: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self { http: http.into(), kept: Mutex::default() }
    }

    /// The client of the current runtime. Outside of a runtime, a new client, which shows whether one can be built.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let Ok(runtime) = Handle::try_current() else { return self.make() };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.client.strong_count() > 0);
        let known = kept.iter().find(|kept| kept.runtime == runtime.id());
        if let Some(client) = known.and_then(|kept| kept.client.upgrade()) {
            return Ok(Client::clone(&client));
        }
        let made = self.make()?;
        let client = Arc::new(made.clone());
        let (weak, mut owner) = (Arc::downgrade(&client), JoinSet::new());
        let owns = async move {
            let _client = client;
            pending().await
        };
        owner.spawn_on(owns, &runtime);
        kept.push(Kept { runtime: runtime.id(), client: weak, _owner: owner });
        Ok(made)
    }

    fn make(&self) -> Result<Client, Error> {
        self.http.builder().build().map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::configuration(
                format!("the HTTP client could not be built{cause}"),
                "check the certificates, proxies and TLS settings given to it",
            )
        })
    }
}
