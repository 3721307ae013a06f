//! google-cloud-auth: its flow that comes nearest is the one for a user's refresh token. It renews in a task of its own.

use std::time::Duration;

use google_cloud_auth::credentials::{CacheableResource, Credentials, user_account};
use http::{Extensions, HeaderMap};
use serde_json::json;

use super::common::case;
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::poll::at_once;
use crate::probe::{Probe, Work};
use crate::subject::{Inside, Subject};

/// Credentials of the loopback server.
#[derive(Debug, Clone)]
pub struct Google(Credentials);

impl Subject for Google {
    const NAME: &'static str = "google-cloud-auth";
    /// It renews in the last four minutes, every ten seconds.
    const INSIDE: Inside = Inside { lifetime: 200, after: Duration::from_millis(9_800) };

    async fn new(server: &Loopback) -> Self {
        let user = json!({
            "type": "authorized_user",
            "client_id": input::CLIENT_ID,
            "client_secret": input::CLIENT_SECRET,
            "refresh_token": input::AUDIENCE,
        });
        let credentials = user_account::Builder::new(user).with_token_uri(server.url()).build();
        Self(credentials.expect("credentials"))
    }

    async fn token(&self) -> Result<(), String> {
        let headers = self.0.headers(Extensions::new()).await;
        headers.map(drop).map_err(|error| error.to_string())
    }
}

pub(super) fn offer_cached(probe: &mut impl Probe) {
    probe.offer(case(Work::Cached, Google::NAME), || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let server = Loopback::start(Reply::token(input::LIFETIME));
        let google = runtime.block_on(async {
            let google = Google::new(&server).await;
            google.token().await.expect("a token");
            google
        });
        move || -> HeaderMap {
            match at_once(google.0.headers(Extensions::new())) {
                Ok(CacheableResource::New { data, .. }) => data,
                _ => panic!("a token is held"),
            }
        }
    });
}
