//! Which flow and whose credentials a tenant has.

use alvys_auth_core::{Credentials, Error, Flow};

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
