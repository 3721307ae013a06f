//! azure_identity: client credentials in a form. It insists on https, so a policy of its pipeline leads every request to the
//! loopback server.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{ClientOptions, Context, Request};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};

use super::common::{case, header};
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::poll::at_once;
use crate::probe::{Probe, Work};
use crate::subject::{Inside, Subject};

const SCOPES: [&str; 1] = ["https://api.alvys.com/public/.default"];

/// A credential of the loopback server.
#[derive(Debug, Clone)]
pub struct Azure(Arc<ClientSecretCredential>);

impl Subject for Azure {
    const NAME: &'static str = "azure_identity";
    /// It renews in the last five minutes.
    const INSIDE: Inside = Inside { lifetime: 200, after: Duration::ZERO };

    async fn new(server: &Loopback) -> Self {
        let client_options = ClientOptions {
            per_try_policies: vec![Arc::new(Diverted(server.address().port()))],
            ..ClientOptions::default()
        };
        let credential = ClientSecretCredential::new(
            "va336",
            input::CLIENT_ID.to_owned(),
            Secret::new(input::CLIENT_SECRET),
            Some(ClientSecretCredentialOptions { client_options }),
        );
        Self(credential.expect("a credential"))
    }

    async fn token(&self) -> Result<(), String> {
        let token = self.0.get_token(&SCOPES, None).await;
        token.map(drop).map_err(|error| error.to_string())
    }
}

pub(super) fn offer_cached(probe: &mut impl Probe) {
    probe.offer(case(Work::Cached, Azure::NAME), || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let server = Loopback::start(Reply::token(input::LIFETIME));
        let azure = runtime.block_on(async {
            let azure = Azure::new(&server).await;
            azure.token().await.expect("a token");
            azure
        });
        move || {
            let token = at_once(azure.0.get_token(&SCOPES, None)).expect("a token");
            header(token.token.secret())
        }
    });
}

#[derive(Debug)]
struct Diverted(u16);

#[async_trait::async_trait]
impl Policy for Diverted {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let url = request.url_mut();
        url.set_scheme("http").expect("a scheme");
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.0)).expect("a port");
        let (first, rest) = next.split_first().expect("the transport comes last");
        first.send(context, request, rest).await
    }
}
