//! The two ways Alvys hands out tokens, and where.

use std::borrow::Cow;
use std::fmt;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::credentials::check_value;
use crate::url::check_url;
use crate::{Error, Scope};

/// The audience of the public Alvys API; the slash at the end belongs to it.
pub(crate) const AUDIENCE: &str = "https://api.alvys.com/public/";

/// What the URL to post to is called in errors, and what it may look like.
const ENDPOINT: &str = "token endpoint";
const EXAMPLE: &str = "https://auth.alvys.com/oauth/token";

/// What RFC 3986 leaves unreserved stays; everything else in a tenant is escaped.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which grant flow to speak, in which encoding, to which endpoint.
///
/// [`Flow::current`] is what Alvys documents today; [`Flow::legacy`] is the per-tenant predecessor. Options are consuming
/// setters. Nothing is checked before [`TokenRequest::new`](crate::TokenRequest::new), which checks everything.
///
/// ```
/// use alvys_auth_core::{Encoding, Environment, Flow};
///
/// let qa = Flow::current().environment(Environment::Qa).encoding(Encoding::Form);
/// assert!(qa.deprecation().is_none());
///
/// let old = Flow::legacy("va336");
/// assert!(old.deprecation().unwrap().contains("2025-07-31"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    kind: Kind,
    encoding: Encoding,
    environment: Environment,
    endpoint: Option<UncheckedUrl>,
    audience: Option<String>,
    scopes: Vec<Scope>,
    organization: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Current,
    Legacy { tenant: String, path: LegacyPath, tenant_in_body: bool },
}

/// How the body of a token request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

/// Which of the Alvys installations to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Environment {
    /// Real data: tokens from `auth.alvys.com`, or `integrations.alvys.com` in the legacy flow.
    #[default]
    Production,
    /// The test installation: tokens from `qaauth.alvys.net`. Only the current flow is known there.
    Qa,
}

/// The two spellings of the legacy token path that Alvys documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LegacyPath {
    /// `/api/authentication/{tenant}/token`
    #[default]
    Api,
    /// `/api/p/authentication/{tenant}/token`
    ApiP,
}

/// A URL as it was given: `Debug` leaves out what may be a password or a key.
#[derive(Clone, PartialEq, Eq)]
struct UncheckedUrl(String);

impl fmt::Debug for UncheckedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('@') {
            return f.write_str("[redacted: holds user information]");
        }
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

impl Flow {
    /// The flow Alvys documents today: JSON to `auth.alvys.com/oauth/token`, with an audience.
    #[must_use]
    pub fn current() -> Self {
        Self::new(Kind::Current, Encoding::Json)
    }

    /// The deprecated per-tenant flow: a form to `integrations.alvys.com`, the tenant in the path.
    ///
    /// Alvys announced its end for 2025-07-31; see [`deprecation`](Self::deprecation). The tenant looks like `va336`; the
    /// Alvys pages call it company code.
    #[must_use]
    pub fn legacy(tenant: impl Into<String>) -> Self {
        let kind = Kind::Legacy { tenant: tenant.into(), path: LegacyPath::default(), tenant_in_body: false };
        Self::new(kind, Encoding::Form)
    }

    fn new(kind: Kind, encoding: Encoding) -> Self {
        Self {
            kind,
            encoding,
            environment: Environment::default(),
            endpoint: None,
            audience: None,
            scopes: Vec::new(),
            organization: None,
        }
    }

    /// Writes the body as JSON (the default of the current flow) or as a form (the default of the legacy flow).
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Talks to another Alvys installation than production.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sends the request to this full URL instead of the documented one.
    ///
    /// In the legacy flow a `{tenant_id}` in it is replaced by the tenant, which must be part of the URL. Only https is
    /// accepted, and plain http to this machine itself.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(UncheckedUrl(url.into()));
        self
    }

    /// Asks for a token for another audience than `https://api.alvys.com/public/`. Current flow only.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Names scopes in the request. Current flow only, and rarely of use.
    ///
    /// Alvys never narrows a token: it always carries every scope granted to the application, and naming one that was not
    /// granted makes the request fail. Compare [`Token::scopes`](crate::Token::scopes) instead.
    #[must_use]
    pub fn scopes<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Chooses the other documented spelling of the legacy path; without effect in the current flow.
    #[must_use]
    pub fn legacy_path(mut self, chosen: LegacyPath) -> Self {
        if let Kind::Legacy { path, .. } = &mut self.kind {
            *path = chosen;
        }
        self
    }

    /// Sends `tenant_id` in the legacy body too, as some Alvys pages list it; without effect in the current flow.
    #[must_use]
    pub fn tenant_in_body(mut self) -> Self {
        if let Kind::Legacy { tenant_in_body, .. } = &mut self.kind {
            *tenant_in_body = true;
        }
        self
    }

    /// Refuses every token whose claims do not name this organization, by id or by tenant name such as `va336`.
    ///
    /// The guard for programs that serve several tenants: a mix-up is an error before the token is used. The comparison
    /// ignores ASCII case. The claims are not verified, so this guards against mistakes, not against a hostile server.
    #[must_use]
    pub fn expect_organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// What to tell people when the server's side of this flow is going away, in one sentence.
    #[must_use]
    pub fn deprecation(&self) -> Option<&'static str> {
        self.is_legacy().then_some(
            "the legacy per-tenant flow was announced to shut down on 2025-07-31; \
             create an application in Alvys for the current flow and move to it",
        )
    }

    /// Whether this is the legacy per-tenant flow.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        matches!(self.kind, Kind::Legacy { .. })
    }

    /// The tenant of a legacy flow.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match &self.kind {
            Kind::Current => None,
            Kind::Legacy { tenant, .. } => Some(tenant),
        }
    }

    pub(crate) fn body_encoding(&self) -> Encoding {
        self.encoding
    }

    /// The organization that every token must name; see [`expect_organization`](Self::expect_organization).
    #[must_use]
    pub fn expected_organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    pub(crate) fn body_tenant(&self) -> Option<&str> {
        match &self.kind {
            Kind::Legacy { tenant, tenant_in_body: true, .. } => Some(tenant),
            _ => None,
        }
    }

    /// The audience to send; none in the legacy flow.
    pub(crate) fn checked_audience(&self) -> Result<Option<&str>, Error> {
        match (&self.audience, self.is_legacy()) {
            (None, true) => Ok(None),
            (None, false) => Ok(Some(AUDIENCE)),
            (Some(_), true) => Err(Error::configuration(
                "the legacy flow has no audience",
                "leave the audience away, or use the current flow",
            )),
            (Some(audience), false) => check_value("audience", audience).map(|()| Some(audience.as_str())),
        }
    }

    /// The `scope` parameter to send, if any.
    pub(crate) fn checked_scope(&self) -> Result<Option<String>, Error> {
        if self.scopes.is_empty() {
            return Ok(None);
        }
        if self.is_legacy() {
            return Err(Error::configuration(
                "the legacy flow has no scopes",
                "leave the scopes away, or use the current flow",
            ));
        }
        if let Some(scope) = self.scopes.iter().find(|scope| !scope.is_well_formed()) {
            return Err(Error::configuration(
                format!("{:?} is not one scope", scope.as_str()),
                "give each scope on its own, such as \"load:read\"",
            ));
        }
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        Ok(Some(scopes.join(" ")))
    }

    /// The URL to post to, with the tenant filled in.
    pub(crate) fn checked_endpoint(&self) -> Result<Uri, Error> {
        if let Some(organization) = &self.organization {
            check_value("expected organization", organization)?;
        }
        let template = match (&self.endpoint, &self.kind, self.environment) {
            (Some(UncheckedUrl(url)), ..) => Cow::Borrowed(url.as_str()),
            (None, Kind::Current, Environment::Production) => "https://auth.alvys.com/oauth/token".into(),
            (None, Kind::Current, Environment::Qa) => "https://qaauth.alvys.net/oauth/token".into(),
            (None, Kind::Legacy { path, .. }, Environment::Production) => match path {
                LegacyPath::Api => "https://integrations.alvys.com/api/authentication/{tenant_id}/token".into(),
                LegacyPath::ApiP => "https://integrations.alvys.com/api/p/authentication/{tenant_id}/token".into(),
            },
            (None, Kind::Legacy { .. }, Environment::Qa) => {
                return Err(Error::configuration(
                    "no QA endpoint is known for the legacy flow",
                    "use the current flow, or give the endpoint's full URL",
                ));
            }
        };
        match &self.kind {
            Kind::Current => check_url(ENDPOINT, EXAMPLE, &template),
            Kind::Legacy { tenant, .. } => {
                check_value("tenant", tenant)?;
                if matches!(tenant.as_str(), "." | "..") {
                    return Err(Error::configuration(
                        "the tenant is a path segment of dots",
                        "set it to the company code shown in Alvys, such as va336",
                    ));
                }
                let segment = utf8_percent_encode(tenant, SEGMENT).to_string();
                let url = template.replace("{tenant_id}", &segment);
                let uri = check_url(ENDPOINT, EXAMPLE, &url)?;
                if self.body_tenant().is_none() && !url.split(['/', '?']).any(|part| part == segment) {
                    return Err(Error::configuration(
                        "the token endpoint names no tenant, or another one",
                        "put {tenant_id} where the tenant belongs in the URL",
                    ));
                }
                Ok(uri)
            }
        }
    }
}
