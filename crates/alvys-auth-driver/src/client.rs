//! The client of either driver: how it is made, and how a request is put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, Error, Scope};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Serialize;

use crate::{Caller, MayBeShared, Pace, Time};

/// What a driver adds to a [`Client`]: the HTTP client that sends its requests. Cheap to clone.
pub trait Transport: Clone {
    /// The token source. Any source that the driver accepts can be converted into it.
    type Tokens: Clone + MayBeShared;
    /// Transport settings.
    type Http;
    /// A finished HTTP client, which may be used elsewhere too.
    type Shared;
    /// The body of a request.
    type Body: From<Vec<u8>>;
    /// A finished request.
    type Request;
    /// The result of sending: an answer or an error, at once or as a future.
    type Sent;

    /// Makes the HTTP client, with the caller's own settings if there are any.
    ///
    /// # Errors
    /// When it cannot be made.
    fn new(http: Option<Self::Http>, api: &Api) -> Result<Self, Error>;

    /// Uses an existing HTTP client as it is.
    fn sharing(shared: Self::Shared, api: &Api) -> Self;

    /// Finishes a request that may take `timeout`.
    ///
    /// # Errors
    /// When it cannot be sent.
    fn request(&self, request: Request<Self::Body>, timeout: Option<Duration>) -> Result<Self::Request, Error>;

    /// Makes the call. Fails if its request could not be put together.
    fn send(
        &self,
        caller: Arc<Caller<Self::Tokens>>,
        request: Result<Self::Request, Error>,
        options: CallOptions,
    ) -> Self::Sent;
}

/// Calls the Alvys API: authorized, renewed and repeated where that is safe.
///
/// An answer of the API is returned whatever its status, unless it is about the token or about waiting. These are
/// [`Error`]s: a 401 that a renewal does not mend, a 403, a 429 or 503 that outlasts the patience, and an HTML page in
/// place of the API. Cheap to clone; clones share connections and token.
#[derive(Clone)]
pub struct Client<T: Transport> {
    caller: Arc<Caller<T::Tokens>>,
    transport: T,
}

/// Settings of a [`Client`]; from [`Client::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder<T: Transport> {
    caller: Caller<T::Tokens>,
    http: Option<T::Http>,
    shared: Option<T::Shared>,
}

/// The builder of one call; from [`Client::get`] and similar methods.
#[must_use = "a call does nothing until it is sent"]
pub struct RequestBuilder<T: Transport> {
    client: Client<T>,
    request: Result<Request<T::Body>, Error>,
    options: CallOptions,
    timeout: Option<Duration>,
}

impl<T: Transport> Client<T> {
    /// A client with default settings.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when no HTTP client can be built.
    pub fn new(tokens: impl Into<T::Tokens>, api: Api) -> Result<Self, Error> {
        Self::builder(tokens, api).build()
    }

    /// A client with settings of your own.
    pub fn builder(tokens: impl Into<T::Tokens>, api: Api) -> ClientBuilder<T> {
        ClientBuilder { caller: Caller::new(tokens.into(), api), http: None, shared: None }
    }

    /// `GET` on a path below the API base, such as `loads/4711`, or on a full URL that a token may go to.
    pub fn get(&self, path: &str) -> RequestBuilder<T> {
        self.request(Method::GET, path)
    }

    /// `POST`, to the same places as [`get`](Self::get).
    pub fn post(&self, path: &str) -> RequestBuilder<T> {
        self.request(Method::POST, path)
    }

    /// `PUT`, to the same places as [`get`](Self::get).
    pub fn put(&self, path: &str) -> RequestBuilder<T> {
        self.request(Method::PUT, path)
    }

    /// `PATCH`, to the same places as [`get`](Self::get).
    pub fn patch(&self, path: &str) -> RequestBuilder<T> {
        self.request(Method::PATCH, path)
    }

    /// `DELETE`, to the same places as [`get`](Self::get).
    pub fn delete(&self, path: &str) -> RequestBuilder<T> {
        self.request(Method::DELETE, path)
    }

    /// Any method, to the same places as [`get`](Self::get).
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder<T> {
        let request = self.caller.api.url(path).map(|uri| {
            let mut request = Request::new(T::Body::from(Vec::new()));
            (*request.method_mut(), *request.uri_mut()) = (method, uri);
            request
        });
        RequestBuilder { client: self.clone(), request, options: CallOptions::new(), timeout: None }
    }

    /// Sends a request that was built elsewhere, with a full URL.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn execute(&self, request: impl TryInto<T::Request>, options: CallOptions) -> T::Sent {
        let request = request.try_into().map_err(|_| {
            Error::configuration("the request cannot be sent", "give it a full URL and a body that this client takes")
        });
        self.transport.send(Arc::clone(&self.caller), request, options)
    }

    /// The token source.
    pub fn tokens(&self) -> &T::Tokens {
        &self.caller.tokens
    }
}

impl<T: Transport> ClientBuilder<T> {
    /// Keeps the calls within rate limits. Without a pace, calls are sent at once.
    ///
    /// A [`Pace`] keeps the limits of one token: give each tenant its own. Its clock is the one of the client.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.caller.keep_to(pace);
        self
    }

    /// Another clock than the system's, such as a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, time: impl Into<Time>) -> Self {
        self.caller.time = time.into();
        self
    }

    /// Your own transport settings: certificates, proxies, time limits, user agent. They replace the default settings,
    /// including the time limits. The driver overrides some of them; see there.
    pub fn http(mut self, http: impl Into<T::Http>) -> Self {
        self.http = Some(http.into());
        self
    }

    /// A finished HTTP client, whose connections this client shares. It is for many tenants, each with its own tokens.
    /// The driver says how it must be built.
    pub fn sharing(mut self, client: T::Shared) -> Self {
        self.shared = Some(client);
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when no HTTP client can be built.
    pub fn build(self) -> Result<Client<T>, Error> {
        let api = &self.caller.api;
        let transport = match self.shared {
            Some(shared) => T::sharing(shared, api),
            None => T::new(self.http, api)?,
        };
        Ok(Client { caller: Arc::new(self.caller), transport })
    }
}

impl<T: Transport> RequestBuilder<T> {
    /// Adds a header. One that cannot be sent fails in [`send`](Self::send).
    pub fn header(self, name: impl TryInto<HeaderName>, value: impl TryInto<HeaderValue>) -> Self {
        self.and_then(|request| {
            let (name, value) = header(name, value)?;
            request.headers_mut().append(name, value);
            Ok(())
        })
    }

    /// Adds parameters to the query: a map, a struct, or pairs such as `[("page", 1)]`.
    pub fn query<Q: Serialize + ?Sized>(self, parameters: &Q) -> Self {
        self.and_then(|request| {
            *request.uri_mut() = with_query(request.uri(), parameters)?;
            Ok(())
        })
    }

    /// Sends `value` as JSON.
    pub fn json<J: Serialize + ?Sized>(self, value: &J) -> Self {
        self.and_then(|request| {
            let json = serde_json::to_vec(value).map_err(|_| {
                Error::configuration("the body makes no JSON", "give a value that serde_json can write")
            })?;
            request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            *request.body_mut() = json.into();
            Ok(())
        })
    }

    /// Sends a body: bytes, text, or a stream, which is sent once and never again.
    pub fn body(self, body: impl Into<T::Body>) -> Self {
        self.and_then(|request| {
            *request.body_mut() = body.into();
            Ok(())
        })
    }

    /// How long the request may take, from when it is sent until its answer has been read to the end. If it is sent
    /// again, it may take as long again.
    ///
    /// This replaces the client's time limits for sending and for the answer. The wait for a token, and waits within
    /// [`Api::patience`], do not count.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Says that sending this request twice has the same effect as sending it once; see [`CallOptions::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.options = self.options.idempotent();
        self
    }

    /// Names scopes that the token must have. If it lacks one, the request is not sent.
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.options = self.options.require(scopes);
        self
    }

    /// Sends the request, repeats it where that is safe and of use, and returns the answer.
    ///
    /// # Errors
    /// The reason why there is no token or why none may be sent there, or the meaning of the API's refusal; see
    /// [`Client`].
    pub fn send(self) -> T::Sent {
        let Client { caller, transport } = self.client;
        let request = self.request.and_then(|request| transport.request(request, self.timeout));
        transport.send(caller, request, self.options)
    }

    fn and_then(mut self, change: impl FnOnce(&mut Request<T::Body>) -> Result<(), Error>) -> Self {
        self.request = self.request.and_then(|mut request| change(&mut request).map(|()| request));
        self
    }
}

/// Makes a header from values such as two texts. The value may be a secret, so no error shows it.
fn header(
    name: impl TryInto<HeaderName>,
    value: impl TryInto<HeaderValue>,
) -> Result<(HeaderName, HeaderValue), Error> {
    let name = name.try_into().map_err(|_| {
        Error::configuration("the name of a header cannot be sent", "give letters, digits and hyphens only")
    })?;
    let value = value.try_into().map_err(|_| {
        let what = format!("the value of the header {name} cannot be sent");
        Error::configuration(what, "remove line breaks and other control characters from it")
    })?;
    Ok((name, value))
}

/// Adds parameters to the URL's query.
fn with_query<Q: Serialize + ?Sized>(uri: &Uri, parameters: &Q) -> Result<Uri, Error> {
    let mut pairs = form_urlencoded::Serializer::new(uri.query().unwrap_or_default().to_owned());
    parameters.serialize(serde_urlencoded::Serializer::new(&mut pairs)).map_err(|_| {
        Error::configuration("the parameters make no query", "give a map, a struct or pairs, whose values are plain")
    })?;
    let query = pairs.finish();
    let mut parts = uri.clone().into_parts();
    let mark = if query.is_empty() { "" } else { "?" };
    parts.path_and_query = format!("{}{mark}{query}", uri.path()).parse().ok();
    Uri::from_parts(parts).map_err(|_| Error::configuration("the query makes no URL", "give shorter parameters"))
}

impl<T: Transport> fmt::Debug for Client<T> {
    /// Leaves the HTTP client out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl<T: Transport> fmt::Debug for ClientBuilder<T> {
    /// Leaves the HTTP client out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl<T: Transport> fmt::Debug for RequestBuilder<T> {
    /// Leaves the query, the headers and the body out: they may hold secrets of the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RequestBuilder");
        match &self.request {
            Ok(request) => shown.field("method", request.method()).field("path", &request.uri().path()),
            Err(error) => shown.field("error", error),
        };
        shown.field("options", &self.options).finish_non_exhaustive()
    }
}
