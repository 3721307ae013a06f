//! oauth2: builds and reads requests; holds no token.

use std::convert::Infallible;
use std::io;
use std::time::Instant;

use http::Response;
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, Scope, TokenResponse,
    TokenUrl,
};

use super::common::{case, header};
use crate::input;
use crate::loopback::Loopback;
use crate::probe::{Probe, Work};

const NAME: &str = "oauth2";

type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

fn client(endpoint: String) -> Client {
    BasicClient::new(ClientId::new(input::CLIENT_ID.to_owned()))
        .set_client_secret(ClientSecret::new(input::CLIENT_SECRET.to_owned()))
        .set_token_uri(TokenUrl::new(endpoint).expect("a URL"))
        .set_auth_type(AuthType::RequestBody)
}

pub(super) fn offer_build(probe: &mut impl Probe) {
    probe.offer(case(Work::Build, NAME), || {
        let client = client(input::ENDPOINT.to_owned());
        move || {
            let captured = std::cell::Cell::new(None);
            let capture = |request: HttpRequest| -> Result<HttpResponse, io::Error> {
                captured.set(Some(request));
                Err(io::ErrorKind::Interrupted.into())
            };
            let request = client.exchange_client_credentials().add_extra_param("audience", input::AUDIENCE);
            drop(request.request(&capture));
            captured.take()
        }
    });
}

pub(super) fn offer_parse(probe: &mut impl Probe) {
    probe.offer(case(Work::Parse, NAME), || {
        let answer = input::answer();
        move || {
            let token: BasicTokenResponse = serde_json::from_slice(answer.body()).expect("a token");
            let ends = token.expires_in().map(|lifetime| Instant::now() + lifetime);
            let readable = token.scopes().is_some_and(|scopes| scopes.contains(&Scope::new("load:read".into())));
            (header(token.access_token().secret()), ends, readable, token)
        }
    });
}

/// oauth2 on reqwest, as its documentation shows it.
#[derive(Debug, Clone)]
pub struct Oauth2 {
    client: Client,
    http: reqwest::Client,
}

impl Oauth2 {
    /// A client of the given server.
    ///
    /// # Panics
    /// When no HTTP client can be built.
    #[must_use]
    pub fn new(server: &Loopback) -> Self {
        Self {
            client: client(server.url()),
            http: reqwest::Client::builder().no_proxy().build().expect("an HTTP client"),
        }
    }

    /// Fetches a token and makes a header of it.
    ///
    /// # Panics
    /// When the loopback server fails.
    pub async fn fetch(&self) -> http::HeaderValue {
        let send = |request: HttpRequest| async {
            let request = reqwest::Request::try_from(request).expect("a request");
            let answer = self.http.execute(request).await.expect("an answer");
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut response = Response::new(answer.bytes().await.expect("a body").to_vec());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, Infallible>(response)
        };
        let request = self.client.exchange_client_credentials().add_extra_param("audience", input::AUDIENCE);
        let token = request.request_async(&send).await.expect("a token");
        header(token.access_token().secret())
    }
}
