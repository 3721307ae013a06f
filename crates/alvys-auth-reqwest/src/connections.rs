//! The HTTP clients behind a `Client`: one for calls that are answered soon, and one for calls that take longer.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_driver::Refusals;
use http::Uri;
use reqwest::Request;

use crate::Error;
use crate::runtimes::PerRuntime;
use crate::settings::Http;
use crate::transport::explain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the head of an answer, including the time to send the request, and for each further piece.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The same time limit for a request that takes long to send.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// A body with more bytes may take long to send.
const LONG_BODY: usize = 256 * 1024;

/// The HTTP clients that send the calls of a `Client`. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Connections {
    /// A finished client of the caller's own, for every call.
    Shared(reqwest::Client),
    Own(Arc<Own>),
}

pub(crate) struct Own {
    http: Http,
    /// The remembered refusals of proxies.
    refusals: Refusals,
    /// For calls that are answered soon.
    quick: PerRuntime,
    /// For calls that take longer; none when `quick` is for both.
    patient: Option<PerRuntime>,
    /// For calls that must not use a kept connection.
    anew: PerRuntime,
}

impl Connections {
    /// Makes the clients for calls of this API, from the caller's settings or the default ones. `finish` adds the
    /// settings that override all others.
    pub(crate) fn new(
        http: Option<Http>,
        api: &Uri,
        finish: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Copy + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let ours = Http::default();
        let within = |limit| ours.clone().and(move |http| http.connect_timeout(CONNECT_TIMEOUT).read_timeout(limit));
        let made = |http: Http, kept: usize| {
            let api = api.clone();
            PerRuntime::new(move || finish(http.builder_for(&api)).pool_max_idle_per_host(kept))
        };
        let anew = made(http.clone().unwrap_or_else(|| within(UPLOAD_TIMEOUT)), 0);
        let patient = http.is_none().then(|| made(within(UPLOAD_TIMEOUT), usize::MAX));
        let http = http.unwrap_or_else(|| within(READ_TIMEOUT));
        http.check(api)?;
        let quick = made(http.clone(), usize::MAX);
        // A mistake in the settings is reported now, and not by the first call.
        quick.client()?;
        Ok(Self::Own(Arc::new(Own { http, refusals: Refusals::default(), quick, patient, anew })))
    }

    /// Whether a request to `uri` may be sent: no refusal of its proxy is remembered.
    pub(crate) fn check(&self, uri: &Uri, now: Timestamp) -> Result<(), Error> {
        match self {
            Self::Shared(_) => Ok(()),
            Self::Own(own) => own.refusals.check(uri, now),
        }
    }

    /// Explains the error of a request to `uri`. A refusal of the proxy is remembered.
    pub(crate) fn explain(&self, uri: &Uri, error: reqwest::Error, now: Timestamp) -> Error {
        const PEER: &str = "the API";
        let Self::Own(own) = self else { return explain(PEER, error) };
        let error = own.http.explain(PEER, error);
        // Remembered only if `uri` itself has a proxy, because a redirect may have led to another URL.
        if own.http.proxy(uri).is_some() {
            own.refusals.failed(uri, &error, now);
        }
        error
    }

    /// The client that sends this request from the current runtime. reqwest counts its read timeout from the start of a
    /// request, and would take a long upload for a silent server. A request with a time limit of its own is limited by
    /// that.
    pub(crate) fn sending(&self, request: &Request, anew: bool) -> Result<reqwest::Client, Error> {
        let own = match self {
            Self::Shared(shared) => return Ok(shared.clone()),
            Self::Own(own) => own,
        };
        let long = |body: &reqwest::Body| body.as_bytes().is_none_or(|bytes| bytes.len() > LONG_BODY);
        let takes_long = request.timeout().is_some() || request.body().is_some_and(long);
        let patient = own.patient.as_ref().filter(|_| takes_long);
        if anew { own.anew.client() } else { patient.unwrap_or(&own.quick).client() }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Body;
    use tokio::runtime::Builder;

    use super::*;

    fn api() -> Uri {
        Uri::from_static("http://127.0.0.1/api")
    }

    /// The time limit under which a request would be sent, as the client itself shows it.
    fn limit(
        connections: &Connections,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> String {
        let request = change(reqwest::Client::new().post("http://127.0.0.1/")).build().expect("a request");
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        let shown = format!("{:?}", connections.sending(&request, false).expect("a client"));
        let (_, limit) = shown.split_once("read_timeout: ").expect("a time limit");
        limit.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
    }

    #[test]
    fn uploads_and_calls_with_a_time_limit_of_their_own_may_take_longer() {
        let ours = Connections::new(None, &api(), |http| http).expect("clients");
        assert_eq!(limit(&ours, |request| request), "30s");
        assert_eq!(limit(&ours, |request| request.body("short")), "30s");
        assert_eq!(limit(&ours, |request| request.body(vec![0; 256 * 1024])), "30s");
        assert_eq!(limit(&ours, |request| request.body(vec![0; 256 * 1024 + 1])), "600s");
        assert_eq!(limit(&ours, |request| request.body(Body::wrap(Body::from("streamed")))), "600s");
        assert_eq!(limit(&ours, |request| request.timeout(Duration::from_secs(1))), "600s");
    }

    #[test]
    fn settings_of_the_callers_own_hold_for_every_call() {
        let http = || reqwest::Client::builder().read_timeout(Duration::from_secs(7));
        let settings = Connections::new(Some(http.into()), &api(), |http| http).expect("clients");
        let finished = Connections::Shared(http().build().expect("a client"));
        for theirs in [settings, finished] {
            assert_eq!(limit(&theirs, |request| request), "7s");
            assert_eq!(limit(&theirs, |request| request.body(Body::wrap(Body::from("streamed")))), "7s");
        }
    }
}
