//! The HTTP clients behind a client: one for calls that are answered soon, and one for those that take their time.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use reqwest::Request;

use crate::Error;
use crate::runtimes::PerRuntime;
use crate::settings::Http;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the head of an answer, the sending of the request included, and for each further piece.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where the request takes long to be sent.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// From this many bytes on a body may take long to be sent.
const LONG_BODY: usize = 256 * 1024;

/// Connections with one time limit, or with two. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    /// A finished client of the caller's own, for every call.
    shared: Option<reqwest::Client>,
    /// For what is answered soon, for what takes its time, and for what must not go out on a kept connection. Without the
    /// second one the first one is for both.
    own: Arc<[Option<PerRuntime>; 3]>,
}

impl Connections {
    /// The caller's settings or the default ones, to which `finish` adds what holds over any settings, for calls of this API.
    pub(crate) fn new(
        http: Option<Http>,
        api: &Uri,
        finish: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Copy + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let ours = Http::default();
        let within = |limit| ours.clone().and(move |http| http.connect_timeout(CONNECT_TIMEOUT).read_timeout(limit));
        let patient = http.is_none().then(|| within(UPLOAD_TIMEOUT));
        let anew = http.clone().unwrap_or_else(|| within(UPLOAD_TIMEOUT));
        let anew = PerRuntime::new(move || finish(anew.builder()).pool_max_idle_per_host(0));
        let patient = patient.map(|http| PerRuntime::new(move || finish(http.builder())));
        let http = http.unwrap_or_else(|| within(READ_TIMEOUT));
        http.check(api)?;
        let quick = PerRuntime::new(move || finish(http.builder()));
        // What is wrong with the settings is told now, and not by the first call.
        quick.client()?;
        Ok(Self { shared: None, own: Arc::new([Some(quick), patient, Some(anew)]) })
    }

    /// A finished client of the caller's own, for every call.
    pub(crate) fn of(http: reqwest::Client) -> Self {
        Self { shared: Some(http), own: Arc::default() }
    }

    /// What sends this one from the runtime that this is called in. reqwest counts its read timeout from the start of a
    /// request, and so takes a long upload for a silent server. A request with a time limit of its own is bounded by that.
    pub(crate) fn sending(&self, request: &Request, anew: bool) -> Result<reqwest::Client, Error> {
        let long = |body: &reqwest::Body| body.as_bytes().is_none_or(|bytes| bytes.len() > LONG_BODY);
        let takes_long = request.timeout().is_some() || request.body().is_some_and(long);
        let [quick, patient, new] = self.own.each_ref().map(Option::as_ref);
        let own = match takes_long {
            _ if anew => new,
            true => patient.or(quick),
            false => quick,
        };
        match (&self.shared, own) {
            (None, Some(own)) => own.client(),
            (shared, _) => Ok(shared.clone().unwrap_or_default()),
        }
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
        let finished = Connections::of(http().build().expect("a client"));
        for theirs in [settings, finished] {
            assert_eq!(limit(&theirs, |request| request), "7s");
            assert_eq!(limit(&theirs, |request| request.body(Body::wrap(Body::from("streamed")))), "7s");
        }
    }
}
