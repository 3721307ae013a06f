//! The two flows in which Alvys issues access tokens, and their token endpoints.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::credentials::check_value;
use crate::token::{Head, Tail};
use crate::url::check_url;
use crate::{Error, Scope};

/// The audience of the public Alvys API. The slash at the end is part of it.
pub(crate) const AUDIENCE: &str = "https://api.alvys.com/public/";

/// The name of the token URL in errors, and an example of one.
const ENDPOINT: &str = "token endpoint";
const EXAMPLE: &str = "https://auth.alvys.com/oauth/token";

/// The characters of a tenant that are escaped in a URL: all but the unreserved ones of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How to ask for a token: the flow, the encoding of the body, the token endpoint and the audience.
///
/// [`Flow::current`] is the flow that Alvys documents today. [`Flow::legacy`] is the older flow with a token endpoint per
/// tenant. [`TokenRequest::new`](crate::TokenRequest::new) checks all values; the setters check nothing.
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
#[must_use = "its setters give back the changed value"]
pub struct Flow {
    settings: Arc<Settings>,
    organization: Option<Box<str>>,
}

/// The values that many tenants have in common, and share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    kind: Kind,
    encoding: Encoding,
    environment: Environment,
    endpoint: Option<UncheckedUrl>,
    audience: Option<String>,
    scopes: Vec<Scope>,
    rendered: Rendered,
}

/// The head of the token request, once it was rendered. It follows from the other settings, so it makes no difference.
#[derive(Clone, Default)]
struct Rendered(OnceLock<Arc<Head>>);

impl PartialEq for Rendered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Rendered {}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "yes" } else { "no" })
    }
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

/// An installation of Alvys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Environment {
    /// The installation with real data. Tokens come from `auth.alvys.com`, in the legacy flow from `integrations.alvys.com`.
    #[default]
    Production,
    /// The test installation. Tokens come from `qaauth.alvys.net`. No legacy token endpoint is known for it.
    Qa,
}

/// The path of the legacy token endpoint. Alvys documents two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LegacyPath {
    /// `/api/authentication/{tenant}/token`
    #[default]
    Api,
    /// `/api/p/authentication/{tenant}/token`
    ApiP,
}

/// A URL as it was given. `Debug` leaves out the parts that may hold a password or a key.
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
    /// The flow that Alvys documents today: a JSON body with an audience, sent to `https://auth.alvys.com/oauth/token`.
    pub fn current() -> Self {
        Self::new(Kind::Current, Encoding::Json)
    }

    /// The deprecated flow: a form body, sent to `https://integrations.alvys.com` with the tenant in the path.
    ///
    /// Alvys announced that this flow ends on 2025-07-31; see [`deprecation`](Self::deprecation). A tenant looks like
    /// `va336`. The pages of Alvys call it the company code.
    pub fn legacy(tenant: impl Into<String>) -> Self {
        let kind = Kind::Legacy { tenant: tenant.into(), path: LegacyPath::default(), tenant_in_body: false };
        Self::new(kind, Encoding::Form)
    }

    fn new(kind: Kind, encoding: Encoding) -> Self {
        let settings = Settings {
            kind,
            encoding,
            environment: Environment::default(),
            endpoint: None,
            audience: None,
            scopes: Vec::new(),
            rendered: Rendered::default(),
        };
        Self { settings: Arc::new(settings), organization: None }
    }

    /// Keeps one copy of the values of both flows, if they differ only in the expected organization. It is for programs
    /// that serve many tenants.
    pub fn share(&mut self, other: &Self) {
        if self.settings == other.settings {
            self.settings = Arc::clone(&other.settings);
        }
    }

    fn settings(&mut self) -> &mut Settings {
        let settings = Arc::make_mut(&mut self.settings);
        settings.rendered = Rendered::default();
        settings
    }

    /// Sets the encoding of the body. The default is JSON in the current flow and a form in the legacy flow.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.settings().encoding = encoding;
        self
    }

    /// Sets the installation of Alvys. The default is production.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.settings().environment = environment;
        self
    }

    /// Sends the token request to this full URL instead of the documented one.
    ///
    /// It must be an https URL, or a plain http URL of this machine. In the legacy flow, the URL must contain the tenant:
    /// write `{tenant_id}` where it belongs.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.settings().endpoint = Some(UncheckedUrl(url.into()));
        self
    }

    /// Sets the audience of the token. The default is `https://api.alvys.com/public/`. Current flow only.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.settings().audience = Some(audience.into());
        self
    }

    /// Sends these scopes in the token request. Current flow only. Few programs need this.
    ///
    /// A token of Alvys always has every scope that was granted to the application. Alvys refuses a token request that
    /// names a scope that was not granted. To see what a token may do, read [`scopes`](crate::TokenResponse::scopes) of it.
    pub fn scopes<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.settings().scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the path of the legacy token endpoint. It has no effect in the current flow.
    pub fn legacy_path(mut self, chosen: LegacyPath) -> Self {
        if let Kind::Legacy { path, .. } = &mut self.settings().kind {
            *path = chosen;
        }
        self
    }

    /// Sends `tenant_id` in the legacy body too, as some pages of Alvys show it. It has no effect in the current flow.
    pub fn tenant_in_body(mut self) -> Self {
        if let Kind::Legacy { tenant_in_body, .. } = &mut self.settings().kind {
            *tenant_in_body = true;
        }
        self
    }

    /// Refuses every token whose claims do not name this organization: its id, or its tenant name such as `va336`.
    ///
    /// It protects programs that serve several tenants from using the token of the wrong one. The comparison ignores
    /// ASCII case. The claims are not verified, so this finds mistakes, but does not protect against a hostile server.
    pub fn expect_organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into().into());
        self
    }

    /// A warning for people when Alvys is going to end this flow, in one sentence.
    pub fn deprecation(&self) -> Option<&'static str> {
        self.is_legacy().then_some(
            "the legacy per-tenant flow was announced to shut down on 2025-07-31; \
             create an application in Alvys for the current flow and move to it",
        )
    }

    /// Whether this is the legacy flow.
    pub fn is_legacy(&self) -> bool {
        matches!(self.settings.kind, Kind::Legacy { .. })
    }

    /// The tenant of the legacy flow. None in the current flow.
    pub fn tenant(&self) -> Option<&str> {
        match &self.settings.kind {
            Kind::Current => None,
            Kind::Legacy { tenant, .. } => Some(tenant),
        }
    }

    pub(crate) fn body_encoding(&self) -> Encoding {
        self.settings.encoding
    }

    /// The organization that every token must name; see [`expect_organization`](Self::expect_organization).
    pub fn expected_organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    pub(crate) fn body_tenant(&self) -> Option<&str> {
        match &self.settings.kind {
            Kind::Legacy { tenant, tenant_in_body: true, .. } => Some(tenant),
            _ => None,
        }
    }

    pub(crate) fn requested_scopes(&self) -> &[Scope] {
        &self.settings.scopes
    }

    /// The audience to send. None in the legacy flow.
    pub(crate) fn checked_audience(&self) -> Result<Option<&str>, Error> {
        match (&self.settings.audience, self.is_legacy()) {
            (None, true) => Ok(None),
            (None, false) => Ok(Some(AUDIENCE)),
            (Some(_), true) => Err(Error::configuration(
                "the legacy flow has no audience",
                "remove the audience, or use the current flow",
            )),
            (Some(audience), false) => check_value("audience", audience).map(|()| Some(audience.as_str())),
        }
    }

    /// The `scope` parameter to send, if any.
    fn checked_scope(&self) -> Result<Option<String>, Error> {
        if self.settings.scopes.is_empty() {
            return Ok(None);
        }
        if self.is_legacy() {
            return Err(Error::configuration(
                "the legacy flow has no scopes",
                "remove the scopes, or use the current flow",
            ));
        }
        if let Some(scope) = self.settings.scopes.iter().find(|scope| !scope.is_well_formed()) {
            return Err(Error::configuration(
                format!("{:?} is not one scope", scope.as_str()),
                "give each scope as a value of its own, such as \"load:read\"",
            ));
        }
        let scopes: Vec<&str> = self.settings.scopes.iter().map(Scope::as_str).collect();
        Ok(Some(scopes.join(" ")))
    }

    /// The head of the token request, rendered once for all tenants that share it.
    pub(crate) fn checked_head(&self) -> Result<Arc<Head>, Error> {
        if let Some(organization) = &self.organization {
            check_value("expected organization", organization)?;
        }
        if let Some(head) = self.settings.rendered.0.get() {
            return Ok(Arc::clone(head));
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = Method::POST;
        parts.uri = self.checked_endpoint()?;
        let content_type = match self.body_encoding() {
            Encoding::Json => "application/json",
            Encoding::Form => "application/x-www-form-urlencoded",
        };
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let scope = self.checked_scope()?;
        let tail = Tail {
            audience: self.checked_audience()?,
            grant_type: "client_credentials",
            scope: scope.as_deref(),
            tenant_id: self.body_tenant(),
        };
        let head = Head { parts, tail: tail.render(self.body_encoding())?, scopes: OnceLock::new() };
        Ok(Arc::clone(self.settings.rendered.0.get_or_init(|| Arc::new(head))))
    }

    /// The URL of the token endpoint, with the tenant filled in.
    fn checked_endpoint(&self) -> Result<Uri, Error> {
        let settings = &self.settings;
        let template = match (&settings.endpoint, &settings.kind, settings.environment) {
            (Some(UncheckedUrl(url)), ..) => Cow::Borrowed(url.as_str()),
            // Each token request copies the URL. Copies of static text need no counter.
            (None, Kind::Current, Environment::Production) => return Ok(Uri::from_static(EXAMPLE)),
            (None, Kind::Current, Environment::Qa) => {
                return Ok(Uri::from_static("https://qaauth.alvys.net/oauth/token"));
            }
            (None, Kind::Legacy { path, .. }, Environment::Production) => match path {
                LegacyPath::Api => "https://integrations.alvys.com/api/authentication/{tenant_id}/token".into(),
                LegacyPath::ApiP => "https://integrations.alvys.com/api/p/authentication/{tenant_id}/token".into(),
            },
            (None, Kind::Legacy { .. }, Environment::Qa) => {
                return Err(Error::configuration(
                    "no QA endpoint is known for the legacy flow",
                    "use the current flow, or give the full URL of the token endpoint",
                ));
            }
        };
        match &self.settings.kind {
            Kind::Current => check_url(ENDPOINT, EXAMPLE, &template),
            Kind::Legacy { tenant, .. } => {
                check_value("tenant", tenant)?;
                if matches!(tenant.as_str(), "." | "..") {
                    return Err(Error::configuration(
                        "the tenant consists of dots only",
                        "set it to the company code shown in Alvys, such as va336",
                    ));
                }
                let segment = utf8_percent_encode(tenant, SEGMENT).to_string();
                let url = template.replace("{tenant_id}", &segment);
                let uri = check_url(ENDPOINT, EXAMPLE, &url)?;
                if self.body_tenant().is_none() && !url.split(['/', '?']).any(|part| part == segment) {
                    return Err(Error::configuration(
                        "the URL of the token endpoint does not contain the tenant",
                        "write {tenant_id} in the URL where the tenant belongs",
                    ));
                }
                Ok(uri)
            }
        }
    }
}
