//! Which flow and whose credentials a tenant has.

use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow};

/// Knows the tenants: each with its own flow and its own credentials.
///
/// A function from a tenant id is one.
///
/// ```
/// use alvys_auth_core::{Credentials, Error, Flow};
/// use alvys_auth_driver::TenantProvider;
///
/// fn known(tenant: &str) -> Result<Option<(Flow, Credentials)>, Error> {
///     Ok(match tenant {
///         "va336" => Some((Flow::current(), Credentials::new("a-client", "s3cret")?)),
///         "AB123" => Some((Flow::legacy("AB123"), Credentials::new("another", "t0psecret")?)),
///         _ => None,
///     })
/// }
///
/// assert!(known.tenant("va336")?.is_some());
/// assert!(known.tenant("zz999")?.is_none());
/// # Ok::<(), Error>(())
/// ```
pub trait TenantProvider: Send + Sync {
    /// The flow and the credentials of `tenant`; none when there is no such tenant.
    ///
    /// Asked when a tenant is first used, when [`revision`](Self::revision) has changed, and once for each time that the
    /// server refuses the tenant's credentials or application, or gives a token of another organization. A changed flow
    /// counts once the tenant was forgotten or pushed out; that a tenant was removed, when it is asked, so let its revision
    /// change then.
    ///
    /// # Errors
    /// Why that cannot be told now; not used for a tenant that does not exist.
    fn tenant(&self, tenant: &str) -> Result<Option<(Flow, Credentials)>, Error>;

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

impl<F: Fn(&str) -> Result<Option<(Flow, Credentials)>, Error> + Send + Sync> TenantProvider for F {
    fn tenant(&self, tenant: &str) -> Result<Option<(Flow, Credentials)>, Error> {
        self(tenant)
    }
}

/// What a provider gave for `tenant`, or that there is no such tenant. Nothing else takes its place.
///
/// With `guard`, a flow that expects no organization of its own expects the tenant.
///
/// # Errors
/// [`ErrorKind::UnknownTenant`](alvys_auth_core::ErrorKind::UnknownTenant) when there is no such tenant.
pub fn known_tenant(
    tenant: &str,
    given: Option<(Flow, Credentials)>,
    guard: bool,
) -> Result<(Flow, Credentials), Error> {
    let Some((flow, credentials)) = given else { return Err(Error::unknown_tenant(tenant)) };
    let guarded = guard && flow.expected_organization().is_none();
    Ok((if guarded { flow.expect_organization(tenant) } else { flow }, credentials))
}
