//! Where the API is, which servers may receive its tokens, and how long a call may wait.

use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use crate::error::Inner;
use crate::url::{Origin, check_url, has_dot_segments, has_host_and_port, is_loopback};
use crate::{Call, CallOptions, Environment, Error, ErrorKind};

/// The hosts that Alvys documents for its API, its MCP server and its test installation. The documents spell the
/// integration host with and without the `s`.
const DOCUMENTED: [&str; 5] =
    ["integrations.alvys.com", "integration.alvys.com", "api.alvys.com", "mcp.alvys.com", "qaapi.alvys.net"];

/// What HTTP clients spell in different ways unless it is percent-encoded, beside all that is not ASCII.
const ENCODED: &AsciiSet =
    &AsciiSet::EMPTY.add(b'"').add(b'[').add(b'\\').add(b']').add(b'^').add(b'{').add(b'|').add(b'}');
const IN_QUERIES: &AsciiSet = &ENCODED.add(b'\'');

/// Where authorized calls go, and which servers may receive a token.
///
/// A token may go over https to the hosts that Alvys documents, to this machine, and to the origins given with
/// [`at`](Self::at) and [`allow`](Self::allow). Every other destination is refused.
///
/// ```
/// use alvys_auth_core::{Api, ErrorKind};
///
/// let api = Api::production();
/// assert_eq!(api.url("loads?page=2")?, "https://integrations.alvys.com/api/p/v1/loads?page=2");
///
/// // A pre-signed document link: it needs no token and must not get one.
/// let error = api.permits(&"https://files.example.net/pod.pdf?signature=abc".parse().unwrap()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Destination);
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "its setters give back the changed value"]
pub struct Api {
    base: String,
    origins: Vec<Origin>,
    pub(crate) patience: Duration,
}

impl Api {
    /// The production API, `https://integrations.alvys.com/api/p/v1`.
    pub fn production() -> Self {
        Self::based("https://integrations.alvys.com/api/p/v1")
    }

    /// The API of the test installation, `https://qaapi.alvys.net/api/p/v1`.
    pub fn qa() -> Self {
        Self::based("https://qaapi.alvys.net/api/p/v1")
    }

    /// The API of an installation.
    pub fn of(environment: Environment) -> Self {
        match environment {
            Environment::Production => Self::production(),
            Environment::Qa => Self::qa(),
        }
    }

    /// An API at another base URL: a gateway, another version or a local server. Tokens may go to its origin.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when this is not https, or plain http to this machine, or has a query.
    pub fn at(base: &str) -> Result<Self, Error> {
        let uri = check_url("API base", "https://integrations.alvys.com/api/p/v1", base)?;
        if uri.query().is_some() {
            return Err(Error::configuration("the API base has a query", "remove the ? and everything after it"));
        }
        let mut api = Self::based(base.trim_end_matches('/'));
        api.origins.extend(Origin::of(&uri));
        Ok(api)
    }

    fn based(base: &str) -> Self {
        Self { base: base.to_owned(), origins: Vec::new(), patience: Duration::from_secs(60) }
    }

    /// Allows tokens to go to one more origin, such as `https://gateway.example.com`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when this is not https, or plain http to this machine.
    pub fn allow(mut self, origin: &str) -> Result<Self, Error> {
        let uri = check_url("allowed origin", "https://gateway.example.com", origin)?;
        self.origins.extend(Origin::of(&uri));
        Ok(self)
    }

    /// Sets how long one call may wait in all before it fails; 60 seconds by default.
    ///
    /// A call waits when the server asks it to, and when it would exceed the rate limits. The wait for a token does not
    /// count; it has a limit of its own.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The base URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The URL of `path` below the base URL. `path` may repeat the path of the base URL, and it may be a full URL.
    ///
    /// [`call`](Self::call) checks whether a token may go there.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when the path contains `.` or `..` segments or a fragment, or makes no valid URL.
    pub fn url(&self, path: &str) -> Result<Uri, Error> {
        if path.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#'])) {
            return spelled(check_url("URL", "https://integrations.alvys.com/api/p/v1/loads", path)?);
        }
        let own = self.base.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, own)| own);
        let path = path.trim_start_matches('/');
        let below = match own.and_then(|own| path.strip_prefix(own)) {
            Some(rest) if rest.is_empty() || rest.starts_with('?') => rest.to_owned(),
            Some(rest) if rest.starts_with('/') => format!("/{}", rest.trim_start_matches('/')),
            _ => format!("/{path}"),
        };
        let fragment = path.contains('#');
        let url = format!("{}{below}", self.base).parse().map_err(|_| unusable());
        if fragment { Err(outside()) } else { spelled(url?) }
    }

    /// Whether a token may go to `uri`.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it may not.
    pub fn permits(&self, uri: &Uri) -> Result<(), Error> {
        let failed = |what: String, hint| Err(Error::build(Inner::new(ErrorKind::Destination, what, hint)));
        let refused = |what: String| {
            failed(what, "send this request without a token, or allow the origin if it belongs to you or to Alvys")
        };
        if has_dot_segments(uri.path()) {
            return failed(
                "a token must not go to a path with . or .. segments, encoded or not".to_owned(),
                "write the path as the server is to read it, such as /api/p/v1/loads",
            );
        }
        let (Some(origin), Some(authority)) = (Origin::of(uri), uri.authority()) else {
            return refused("a token may only go to a full http or https URL".to_owned());
        };
        if authority.as_str().contains('@') || !has_host_and_port(authority) {
            return refused("a token must not go to a URL with user information or a malformed host".to_owned());
        }
        let documented = origin.https && origin.port == 443 && DOCUMENTED.contains(&origin.host.as_str());
        if documented || is_loopback(&origin.host) || self.origins.contains(&origin) {
            return Ok(());
        }
        let scheme = if origin.https { "" } else { " over plain http" };
        refused(format!("a token must not go to {authority}{scheme}"))
    }

    /// Begins an authorized call.
    ///
    /// None when the request already has an `Authorization` header. Send it as it is then, and deliver its answer as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when no token may go to `uri`.
    pub fn call(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        options: CallOptions,
    ) -> Result<Option<Call>, Error> {
        if headers.contains_key(http::header::AUTHORIZATION) {
            return Ok(None);
        }
        self.permits(uri)?;
        Ok(Some(Call::new(self.patience, method, uri, headers, options)))
    }
}

/// The URL in the one spelling that all HTTP clients send as it is (RFC 3986, section 3.3).
fn spelled(url: Uri) -> Result<Uri, Error> {
    if has_dot_segments(url.path()) {
        return Err(outside());
    }
    let path = utf8_percent_encode(url.path(), ENCODED);
    let spelled = match url.query() {
        Some(query) => format!("{path}?{}", utf8_percent_encode(query, IN_QUERIES)),
        None => path.to_string(),
    };
    let mut parts = url.into_parts();
    parts.path_and_query = spelled.parse().ok();
    Uri::from_parts(parts).map_err(|_| unusable())
}

fn outside() -> Error {
    Error::configuration(
        "the path leaves the API base, or has a fragment",
        "give a path below the base, such as loads/search, without . and .. segments and without #",
    )
}

fn unusable() -> Error {
    Error::configuration(
        "the path makes no valid URL",
        "percent-encode the characters that a URL must not contain, for example a space as %20",
    )
}
