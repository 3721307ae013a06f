//! The applications that may ask for tokens.

use std::{fmt, time::SystemTime};

use aws_lc_rs::{constant_time, digest};

use crate::signing;

/// The audience of the Alvys public API, and of every application that names no other.
pub const DEFAULT_AUDIENCE: &str = "https://api.alvys.com/public/";

/// The scopes an application is granted when it names no others.
pub const DEFAULT_SCOPES: [&str; 15] = [
    "carrier:read",
    "customer:read",
    "customer:update",
    "dispatch:read",
    "driver:read",
    "fuel:read",
    "invoice:read",
    "load:create",
    "load:read",
    "load:update",
    "maintenance:read",
    "trailer:read",
    "trip:read",
    "trip:update",
    "truck:read",
];

/// A set of credentials and what it was granted, as an Alvys administrator would create it.
///
/// One application works on both token endpoints.
///
/// ```
/// use alvys_auth_sandbox::{Application, Sandbox};
///
/// let sandbox = Sandbox::start()?;
/// sandbox.add(Application::new("reader", "s3cret", "AB123").with_scopes(["load:read"]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Application {
    client_id: String,
    client_secret: String,
    tenant: String,
    client_name: String,
    audience: String,
    scopes: Vec<String>,
    expires_at: Option<SystemTime>,
    granted: bool,
    client_credentials: bool,
}

impl Application {
    /// An application of `tenant` (the company code, for example `va336`) that never expires and
    /// holds [`DEFAULT_SCOPES`] for [`DEFAULT_AUDIENCE`].
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            tenant: tenant.into(),
            client_name: "Sandbox application".to_owned(),
            audience: DEFAULT_AUDIENCE.to_owned(),
            scopes: DEFAULT_SCOPES.map(str::to_owned).to_vec(),
            expires_at: None,
            granted: true,
            client_credentials: true,
        }
    }

    /// The application every sandbox starts with: a fresh id and a fresh secret of 64 characters,
    /// some of which need escaping in a form or in JSON.
    pub(crate) fn generate() -> Self {
        let secret = format!(
            "{}+{}&{}={}\"{}%{}/{}",
            signing::random_text(9),
            signing::random_text(9),
            signing::random_text(9),
            signing::random_text(9),
            signing::random_text(9),
            signing::random_text(9),
            signing::random_text(4),
        );
        Self::new(signing::random_text(32), secret, "va336")
    }

    /// Replaces the granted scopes.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces the audience the application was granted.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Replaces the display name that tokens carry as `client_name`.
    #[must_use]
    pub fn with_client_name(mut self, client_name: impl Into<String>) -> Self {
        self.client_name = client_name.into();
        self
    }

    /// Makes the credentials invalid from this moment on, as the server's clock tells it.
    #[must_use]
    pub fn expires_at(mut self, moment: SystemTime) -> Self {
        self.expires_at = Some(moment);
        self
    }

    /// Takes the grant for the audience away: the current token endpoint then answers 403 with
    /// "Client is not authorized to access".
    #[must_use]
    pub fn without_grant(mut self) -> Self {
        self.granted = false;
        self
    }

    /// Forbids the client credentials grant: both token endpoints then answer 403.
    #[must_use]
    pub fn without_client_credentials(mut self) -> Self {
        self.client_credentials = false;
        self
    }

    /// The public identifier.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret.
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The tenant the application belongs to.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The display name.
    pub fn client_name(&self) -> &str {
        &self.client_name
    }

    /// The audience the application was granted.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The scopes every token of the application carries.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.granted
    }

    pub(crate) fn allows_client_credentials(&self) -> bool {
        self.client_credentials
    }

    pub(crate) fn replace_secret(&mut self, client_secret: String) {
        self.client_secret = client_secret;
    }

    /// Whether the secret is right and the application has not expired by `now`.
    pub(crate) fn accepts(&self, client_secret: &str, now: SystemTime) -> bool {
        constant_time::verify_slices_are_equal(self.client_secret.as_bytes(), client_secret.as_bytes()).is_ok()
            && self.expires_at.is_none_or(|moment| now < moment)
    }

    /// The identifier of the tenant's organization: the same for every application of a tenant.
    pub(crate) fn organization_id(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.tenant.as_bytes());
        format!("org_{}", signing::hex(&hash.as_ref()[..8]))
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("client_id", &self.client_id)
            .field("tenant", &self.tenant)
            .field("client_name", &self.client_name)
            .field("audience", &self.audience)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
