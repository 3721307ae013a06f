//! yup-oauth2: its flow that comes nearest is the one for a user's refresh token. Its endpoint is fixed, so the connector
//! leads every connection to the loopback server.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;
use yup_oauth2::authenticator::Authenticator;
use yup_oauth2::authorized_user::AuthorizedUserSecret;
use yup_oauth2::{AuthorizedUserAuthenticator, CustomHyperClientBuilder};

use super::common::{case, header};
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::poll::at_once;
use crate::probe::{Probe, Work};
use crate::subject::{Inside, Subject};

const SCOPES: [&str; 1] = ["load:read"];

/// An authenticator of the loopback server.
#[derive(Clone)]
pub struct Yup(Authenticator<Diverted>);

impl std::fmt::Debug for Yup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Yup")
    }
}

impl Subject for Yup {
    const NAME: &'static str = "yup-oauth2";
    /// It renews in the last minute.
    const INSIDE: Inside = Inside { lifetime: 30, after: Duration::ZERO };

    async fn new(server: &Loopback) -> Self {
        let secret = AuthorizedUserSecret {
            client_id: input::CLIENT_ID.to_owned(),
            client_secret: input::CLIENT_SECRET.to_owned(),
            refresh_token: input::AUDIENCE.to_owned(),
            key_type: "authorized_user".to_owned(),
        };
        let client = Client::builder(TokioExecutor::new()).build(Diverted(server.address()));
        let builder = CustomHyperClientBuilder::from(client);
        let authenticator = AuthorizedUserAuthenticator::with_client(secret, builder).build().await;
        Self(authenticator.expect("an authenticator"))
    }

    async fn token(&self) -> Result<(), String> {
        let token = self.0.token(&SCOPES).await.map_err(|error| error.to_string())?;
        token.token().map(drop).ok_or_else(|| "no token".to_owned())
    }
}

pub(super) fn offer_cached(probe: &mut impl Probe) {
    probe.offer(case(Work::Cached, Yup::NAME), || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let server = Loopback::start(Reply::token(input::LIFETIME));
        let yup = runtime.block_on(async {
            let yup = Yup::new(&server).await;
            yup.token().await.expect("a token");
            yup
        });
        move || {
            let token = at_once(yup.0.token(&SCOPES)).expect("a token");
            header(token.token().expect("a token"))
        }
    });
}

#[derive(Clone)]
struct Diverted(SocketAddr);

impl Service<Uri> for Diverted {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
