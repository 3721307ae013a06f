//! Where credentials come from, asked without blocking a task.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark, Tenant, TenantProvider};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The future of a provider's answer.
pub type ProviderFuture<T> = Pin<Box<dyn Future<Output = Result<Given<T>, Error>> + Send>>;

/// An async [`CredentialsProvider`], for a secret store in the network.
///
/// Every [`CredentialsProvider`] is also an async one, and is asked on the runtime's blocking threads.
///
/// ```
/// use std::sync::Arc;
/// use alvys_auth_core::{Given, Mark};
/// use alvys_auth_reqwest::{AsyncCredentialsProvider, Credentials, ProviderFuture};
///
/// struct Vault {
///     application: String,
/// }
///
/// impl AsyncCredentialsProvider for Vault {
///     fn credentials(self: Arc<Self>, known: Option<Mark>) -> ProviderFuture<Credentials> {
///         Box::pin(async move {
///             // … ask the vault for the version of this application's secret …
///             let version = Mark::new(7);
///             Given::unless(known, version, || Credentials::new(self.application.clone(), "s3cret"))
///         })
///     }
/// }
/// # let _ = Vault { application: "my-client".to_owned() };
/// ```
pub trait AsyncCredentialsProvider: Send + Sync + 'static {
    /// The credentials as they are now, unless they are those of the mark `known`; see
    /// [`CredentialsProvider::credentials`].
    fn credentials(self: Arc<Self>, known: Option<Mark>) -> ProviderFuture<Credentials>;

    /// How long an answer may take before it is given up; none for as long as a token request may take.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// Whether a question goes on when nobody waits for its answer any more, because it blocks a thread.
    #[doc(hidden)]
    fn blocks(&self) -> bool {
        false
    }
}

impl<P: CredentialsProvider + 'static> AsyncCredentialsProvider for P {
    fn credentials(self: Arc<Self>, known: Option<Mark>) -> ProviderFuture<Credentials> {
        Box::pin(blocking(move || CredentialsProvider::credentials(&*self, known)))
    }

    fn time_limit(&self) -> Option<Duration> {
        CredentialsProvider::time_limit(self)
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// An async [`TenantProvider`], for a secret store in the network.
///
/// Every [`TenantProvider`] is also an async one, and is asked on the runtime's blocking threads.
pub trait AsyncTenantProvider: Send + Sync + 'static {
    /// The flow and the credentials of `tenant`, unless they are those of the mark `known`; none when there is no such
    /// tenant. See [`TenantProvider::tenant`].
    fn tenant(self: Arc<Self>, tenant: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>>;

    /// How long an answer may take before it is given up; none for as long as a token request may take.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// Whether a question goes on when nobody waits for its answer any more, because it blocks a thread.
    #[doc(hidden)]
    fn blocks(&self) -> bool {
        false
    }
}

impl<P: TenantProvider + 'static> AsyncTenantProvider for P {
    fn tenant(self: Arc<Self>, tenant: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>> {
        Box::pin(blocking(move || TenantProvider::tenant(&*self, &tenant, known)))
    }

    fn time_limit(&self) -> Option<Duration> {
        TenantProvider::time_limit(self)
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// Asks a provider that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(Error::configuration(
            "a provider was asked outside of a tokio runtime",
            "ask from a task of a tokio runtime, or use the blocking driver",
        ));
    };
    joined(runtime.spawn_blocking(ask)).await
}

/// The result of a task that asks a provider.
pub(crate) async fn joined<T>(asking: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    asking.await.unwrap_or_else(|_| {
        Err(Error::configuration("the provider of credentials panicked", "mend it; its panic was printed"))
    })
}
