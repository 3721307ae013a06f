//! The applications that may request tokens.

use std::{fmt, time::SystemTime};

use aws_lc_rs::{constant_time, digest};

use crate::signing;

/// The audience of the public Alvys API, and the default audience of an application.
pub const DEFAULT_AUDIENCE: &str = "https://api.alvys.com/public/";

/// The default scopes of an application.
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

/// An application as an Alvys administrator would create it: its credentials, its audience and its scopes.
///
/// An application can use both token endpoints.
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
    /// An application of `tenant` (the company code, for example `va336`). It never expires, and it has
    /// [`DEFAULT_SCOPES`] for [`DEFAULT_AUDIENCE`].
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

    /// The application that every sandbox starts with. Its id and its secret are new each time. The
    /// secret has 64 characters, and some of them must be escaped in a form or in JSON.
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

    /// Sets the granted scopes.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the audience that was granted.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sets the display name, which tokens have as `client_name`.
    #[must_use]
    pub fn with_client_name(mut self, client_name: impl Into<String>) -> Self {
        self.client_name = client_name.into();
        self
    }

    /// Makes the credentials invalid from this moment on, by the server's clock.
    #[must_use]
    pub fn expires_at(mut self, moment: SystemTime) -> Self {
        self.expires_at = Some(moment);
        self
    }

    /// Removes the grant for the audience. The current token endpoint then answers 403 with "Client
    /// is not authorized to access".
    #[must_use]
    pub fn without_grant(mut self) -> Self {
        self.granted = false;
        self
    }

    /// Forbids the grant type `client_credentials`. Both token endpoints then answer 403.
    #[must_use]
    pub fn without_client_credentials(mut self) -> Self {
        self.client_credentials = false;
        self
    }

    /// The client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The client secret.
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

    /// The audience that was granted.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The granted scopes. Every token of the current flow has all of them.
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

    /// The id of the tenant's organization. It is the same for all applications of a tenant.
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
