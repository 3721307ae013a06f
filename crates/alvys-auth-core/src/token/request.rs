//! One token request: checked and rendered once, copied per attempt.

use std::fmt;
use std::sync::Arc;

use http::Request;
use http::request::Parts;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Credentials, Encoding, Error, Flow};

/// A token request that is known to be sendable: every value checked, every byte rendered.
///
/// Cheap to clone. `Debug` shows neither body nor secret.
///
/// ```
/// use alvys_auth_core::{Credentials, Flow, TokenRequest};
///
/// let request = TokenRequest::new(Flow::legacy("va336"), Credentials::new("my-client", "s3cret")?)?;
/// let http = request.to_http();
/// assert_eq!(http.uri(), "https://integrations.alvys.com/api/authentication/va336/token");
/// assert_eq!(http.body(), b"client_id=my-client&client_secret=s3cret&grant_type=client_credentials");
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenRequest(Arc<Inner>);

struct Inner {
    flow: Flow,
    credentials: Credentials,
    /// Shared by all tenants that speak the same flow.
    head: Arc<Parts>,
    body: Zeroizing<Box<[u8]>>,
}

/// The fields of the body, in the order of the Alvys documentation.
#[derive(Serialize)]
struct Body<'a> {
    client_id: &'a str,
    client_secret: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'a str>,
    grant_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
}

impl Body<'_> {
    fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut json = Zeroizing::new(Vec::with_capacity(self.longest()));
        serde_json::to_writer(&mut *json, self).ok()?;
        Some(json)
    }

    fn to_form(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(self.longest()));
        self.serialize(serde_urlencoded::Serializer::new(&mut form)).ok()?;
        Some(Zeroizing::new(form.finish().into_bytes()))
    }

    /// More bytes than any encoding takes, so that no buffer grows and leaves a copy of the secret behind.
    fn longest(&self) -> usize {
        let optional = [self.audience, self.scope, self.tenant_id].into_iter().flatten();
        let values = [self.client_id, self.client_secret].into_iter().chain(optional);
        values.map(|value| 6 * value.len()).sum::<usize>() + 256
    }
}

impl TokenRequest {
    /// Checks flow and credentials together and renders the request.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is empty or a placeholder, when the
    /// endpoint is no full https URL (plain http is accepted to this machine only) or holds user information or a
    /// fragment, or when an option does not belong to the flow.
    pub fn new(flow: Flow, credentials: Credentials) -> Result<Self, Error> {
        let head = flow.checked_head()?;
        let scope = flow.checked_scope()?;
        let body = Body {
            client_id: credentials.client_id(),
            client_secret: credentials.client_secret(),
            audience: flow.checked_audience()?,
            grant_type: "client_credentials",
            scope: scope.as_deref(),
            tenant_id: flow.body_tenant(),
        };
        let body = match flow.body_encoding() {
            Encoding::Json => body.to_json(),
            Encoding::Form => body.to_form(),
        };
        let Some(body) = body else {
            return Err(Error::configuration("the request could not be encoded", "report this as a defect"));
        };

        // Kept for as long as the source: not with the room that the longest encoding would have taken.
        let body = Zeroizing::new(Box::from(&**body));
        Ok(Self(Arc::new(Inner { flow, credentials, head, body })))
    }

    /// A fresh copy to send: method, URL, `content-type`, `accept` and the body.
    ///
    /// `content-length` is left to the HTTP client. The body holds the secret: send it once, to this URL, and follow no
    /// redirect with it.
    pub fn to_http(&self) -> Request<Vec<u8>> {
        Request::from_parts(Parts::clone(&self.0.head), self.0.body.to_vec())
    }

    /// The flow this request speaks.
    pub fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// The credentials this request sends.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// The URL without its query, which may hold a key.
    fn endpoint(&self) -> impl fmt::Display + '_ {
        let uri = &self.0.head.uri;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}{}", uri.scheme_str().unwrap_or_default(), uri.path())
    }

    /// Whether the request goes over plain http, which is accepted to this machine only.
    ///
    /// A driver must then not hand it to a proxy.
    pub fn is_plain_http(&self) -> bool {
        self.0.head.uri.scheme_str() == Some("http")
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("url", &format_args!("{}", self.endpoint()))
            .field("flow", &self.0.flow)
            .field("credentials", &self.0.credentials)
            .finish()
    }
}
