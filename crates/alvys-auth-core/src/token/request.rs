//! One token request: checked and rendered once, copied per attempt.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock};

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
    head: Arc<Head>,
    /// The body without its tail. After it come the credentials that the body has only in an encoded form. There is one
    /// copy of each, because there may be many tenants.
    text: Zeroizing<Box<str>>,
    body_ends: u32,
    client_id: Place,
    client_secret: Place,
}

/// Where a value begins and ends in a text.
type Place = (u32, u32);

/// The parts that requests of the same flow have in common. All tenants of the flow share them.
pub(crate) struct Head {
    pub(crate) parts: Parts,
    /// The tail of the body: what follows the credentials.
    pub(crate) tail: String,
    /// The scopes of the first token. Mostly all tokens have the same scopes, and share them.
    pub(crate) scopes: OnceLock<Arc<str>>,
}

/// The fields of the body, in the order of the Alvys documentation. The tenant's own fields come first.
#[derive(Serialize)]
struct Own<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

/// The fields of the body that follow from the flow.
#[derive(Serialize)]
pub(crate) struct Tail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<&'a str>,
    pub(crate) grant_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_id: Option<&'a str>,
}

impl Tail<'_> {
    /// Writes what follows the credentials.
    pub(crate) fn render(&self, encoding: Encoding) -> Result<String, Error> {
        let tail = render(self, encoding, 256)?;
        Ok(match encoding {
            Encoding::Json => tail.replacen('{', ",", 1),
            Encoding::Form => format!("&{}", *tail),
        })
    }
}

/// Writes the fields. `longest` is more bytes than they need, so that the buffer does not grow and leave a copy of a
/// secret behind.
fn render(fields: &impl Serialize, encoding: Encoding, longest: usize) -> Result<Zeroizing<String>, Error> {
    let mut buffer = String::with_capacity(longest);
    let written = match encoding {
        Encoding::Json => {
            let mut json = Zeroizing::new(buffer.into_bytes());
            let written = serde_json::to_writer(&mut *json, fields).is_ok();
            buffer = String::from_utf8(mem::take(&mut *json)).unwrap_or_default();
            written
        }
        Encoding::Form => {
            let mut form = form_urlencoded::Serializer::new(buffer);
            let written = fields.serialize(serde_urlencoded::Serializer::new(&mut form)).is_ok();
            buffer = form.finish();
            written
        }
    };
    let unwritten = || Error::configuration("the request could not be encoded", "report this as a defect");
    written.then_some(Zeroizing::new(buffer)).ok_or_else(unwritten)
}

impl TokenRequest {
    /// Checks flow and credentials together and renders the request.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is empty or a placeholder, when the
    /// endpoint is no full https URL (plain http is accepted to this machine only) or holds user information or a
    /// fragment, or when an option does not belong to the flow.
    pub fn new(flow: Flow, credentials: Credentials) -> Result<Self, Error> {
        let (head, encoding) = (flow.checked_head()?, flow.body_encoding());
        let (id, secret) = (credentials.client_id(), credentials.client_secret());
        let mut text =
            render(&Own { client_id: id, client_secret: secret }, encoding, 7 * (id.len() + secret.len()) + 64)?;
        if encoding == Encoding::Json {
            text.pop();
        }
        let body_ends = text.len() as u32;
        let [client_id, client_secret] = [id, secret].map(|value| {
            let start = text.find(value).unwrap_or_else(|| {
                text.push_str(value);
                text.len() - value.len()
            });
            (start as u32, (start + value.len()) as u32)
        });
        // The body is kept as long as the source, so it gives back the spare room for the longest encoding.
        let text = Zeroizing::new(Box::from(text.as_str()));
        Ok(Self(Arc::new(Inner { flow, head, text, body_ends, client_id, client_secret })))
    }

    /// A fresh copy to send: method, URL, `content-type`, `accept` and the body.
    ///
    /// `content-length` is left to the HTTP client. The body holds the secret: send it once, to this URL, and follow no
    /// redirect with it.
    pub fn to_http(&self) -> Request<Vec<u8>> {
        let Inner { head, text, body_ends, .. } = &*self.0;
        let own = text.as_bytes().get(..*body_ends as usize).unwrap_or_default();
        let mut body = Vec::with_capacity(own.len() + head.tail.len());
        body.extend_from_slice(own);
        body.extend_from_slice(head.tail.as_bytes());
        Request::from_parts(head.parts.clone(), body)
    }

    /// The flow this request speaks.
    pub fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// A copy of the credentials this request sends.
    pub fn credentials(&self) -> Credentials {
        let [client_id, client_secret] =
            [self.client_id(), self.client_secret()].map(|value| Zeroizing::new(value.to_owned()));
        Credentials { client_id, client_secret }
    }

    /// The client id of the credentials.
    pub fn client_id(&self) -> &str {
        self.part(self.0.client_id)
    }

    /// The client secret of the credentials, to derive keys from. Handle it like a password.
    pub fn client_secret(&self) -> &str {
        self.part(self.0.client_secret)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.0.head
    }

    fn part(&self, (start, end): Place) -> &str {
        self.0.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Whether the request goes over plain http, which is accepted to this machine only.
    ///
    /// A driver must then not hand it to a proxy.
    pub fn is_plain_http(&self) -> bool {
        self.0.head.parts.uri.scheme_str() == Some("http")
    }
}

impl fmt::Debug for TokenRequest {
    /// Leaves the query of the URL out, because it may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = &self.0.head.parts.uri;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        f.debug_struct("TokenRequest")
            .field("url", &format_args!("{}://{authority}{}", uri.scheme_str().unwrap_or_default(), uri.path()))
            .field("flow", &self.0.flow)
            .field("client_id", &self.client_id())
            .finish()
    }
}
