//! Where credentials come from, asked without blocking a task.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow};
use alvys_auth_driver::{Question, open_question};
use tokio::runtime::Handle;

/// What [`CredentialsProvider::credentials`] gives.
pub type ProviderFuture = Pin<Box<dyn Future<Output = Result<Credentials, Error>> + Send>>;

/// Where credentials come from, and come from again when they change.
///
/// The environment, files and commands have providers that block; they are taken as they are and run on the runtime's
/// blocking threads. Implement this for a store that is asked over the network.
///
/// ```
/// use std::sync::Arc;
/// use alvys_auth_reqwest::{Credentials, CredentialsProvider, ProviderFuture};
///
/// struct Vault {
///     application: String,
/// }
///
/// impl CredentialsProvider for Vault {
///     fn credentials(self: Arc<Self>) -> ProviderFuture {
///         Box::pin(async move {
///             // … ask the vault for the secret of this application …
///             Credentials::new(self.application.clone(), "s3cret")
///         })
///     }
/// }
/// # let _ = Vault { application: "my-client".to_owned() };
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// The credentials as they are now.
    ///
    /// Asked when a source is made, when [`revision`](Self::revision) has changed, and once for each time that the server
    /// refuses the credentials in use, their application, or gives a token of another organization than the one expected.
    fn credentials(self: Arc<Self>) -> ProviderFuture;

    /// A mark of what [`credentials`](Self::credentials) would give: as long as it stays the same, asking again is not
    /// worth it. Called before every token request, so it must be quick; the default never changes.
    fn revision(&self) -> u64 {
        0
    }

    /// How long an answer may take before it is given up; none for as long as a token request. Callers wait no longer than
    /// their patience meanwhile.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

impl<P: alvys_auth_driver::CredentialsProvider + 'static> CredentialsProvider for P {
    fn credentials(self: Arc<Self>) -> ProviderFuture {
        Box::pin(async move {
            let question = open_question(&self, "")?;
            blocking("credentials", question, move || alvys_auth_driver::CredentialsProvider::credentials(&*self)).await
        })
    }

    fn revision(&self) -> u64 {
        alvys_auth_driver::CredentialsProvider::revision(self)
    }

    fn time_limit(&self) -> Option<Duration> {
        alvys_auth_driver::CredentialsProvider::time_limit(self)
    }
}

/// What [`TenantProvider::tenant`] gives.
pub type TenantFuture = Pin<Box<dyn Future<Output = Result<Option<(Flow, Credentials)>, Error>> + Send>>;

/// Knows the tenants: each with its own flow and its own credentials.
///
/// A function from a tenant id to these is one, and runs on the runtime's blocking threads. Implement this for a store that is
/// asked over the network.
pub trait TenantProvider: Send + Sync + 'static {
    /// The flow and the credentials of `tenant`; none when there is no such tenant.
    ///
    /// Asked when a tenant is first used, when [`revision`](Self::revision) has changed, and once for each time that the
    /// server refuses the tenant's credentials or application, or gives a token of another organization. A changed flow
    /// counts once the tenant was forgotten or pushed out; that a tenant was removed, when it is asked, so let its revision
    /// change then.
    fn tenant(self: Arc<Self>, tenant: Arc<str>) -> TenantFuture;

    /// A mark of the tenant's credentials: as long as it stays the same, asking again is not worth it. Called before every
    /// token request, so it must be quick; the default never changes.
    fn revision(&self, tenant: &str) -> u64 {
        let _ = tenant;
        0
    }

    /// How long an answer may take before it is given up; none for as long as a token request. The first callers of a tenant
    /// wait for it beside their patience.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

impl<P: alvys_auth_driver::TenantProvider + 'static> TenantProvider for P {
    fn tenant(self: Arc<Self>, tenant: Arc<str>) -> TenantFuture {
        Box::pin(async move {
            let question = open_question(&self, &tenant)?;
            blocking("tenant", question, move || alvys_auth_driver::TenantProvider::tenant(&*self, &tenant)).await
        })
    }

    fn revision(&self, tenant: &str) -> u64 {
        alvys_auth_driver::TenantProvider::revision(self, tenant)
    }

    fn time_limit(&self) -> Option<Duration> {
        alvys_auth_driver::TenantProvider::time_limit(self)
    }
}

/// Asks a provider that blocks.
async fn blocking<T: Send + 'static>(
    what: &str,
    question: Question,
    ask: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(Error::configuration(
            format!("the {what} provider was asked outside of a tokio runtime"),
            "ask from a task of a tokio runtime, or use the blocking driver",
        ));
    };
    let asking = runtime.spawn_blocking(move || {
        // Open until the answer is there, whether somebody still waits for it or not.
        let _question = question;
        ask()
    });
    asking.await.unwrap_or_else(|_| {
        Err(Error::configuration(format!("the {what} provider panicked"), "mend it; its panic was printed"))
    })
}
