//! HTTP clients, one for each tokio runtime that asks for one.
//!
//! The runtime that opened a connection drives it. A request on a connection whose runtime rests would wait for ever, so no
//! two runtimes share connections.

use std::error::Error as _;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use alvys_auth_core::Error;
use reqwest::{Client, ClientBuilder};
use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;

use crate::transport::Http;

/// A client for each runtime, made when that first asks for it and dropped when that ends.
pub(crate) struct PerRuntime {
    http: Http,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    /// Made to see that the settings are good, for the runtime that comes first.
    spare: Option<Client>,
    kept: Vec<Kept>,
}

/// The client of one runtime. A task of that runtime owns it, so it goes when the runtime ends: the runtime's id may then
/// become that of another one.
struct Kept {
    runtime: Id,
    client: Weak<Client>,
    owner: AbortHandle,
}

impl PerRuntime {
    pub(crate) fn new(http: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self { http: http.into(), clients: Mutex::default() }
    }

    /// Makes the first client now, to see that the settings are good.
    pub(crate) fn check(&self) -> Result<Client, Error> {
        let made = self.make()?;
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).spare = Some(made.clone());
        Ok(made)
    }

    /// The client of the runtime that this is called in.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::configuration(
                "a request was to be sent outside of a tokio runtime",
                "send it from a task of a tokio runtime, or use the blocking driver",
            ));
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.kept.retain(|kept| kept.client.strong_count() > 0);
        let kept = clients.kept.iter().find(|kept| kept.runtime == runtime.id());
        if let Some(client) = kept.and_then(|kept| kept.client.upgrade()) {
            return Ok(Client::clone(&client));
        }
        let client = Arc::new(clients.spare.take().map_or_else(|| self.make(), Ok)?);
        let (weak, made) = (Arc::downgrade(&client), Client::clone(&client));
        let owner = runtime.spawn(async move {
            let _client = client;
            pending::<()>().await;
        });
        clients.kept.push(Kept { runtime: runtime.id(), client: weak, owner: owner.abort_handle() });
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

impl fmt::Debug for PerRuntime {
    /// Shows nothing: default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerRuntime")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.owner.abort();
    }
}
