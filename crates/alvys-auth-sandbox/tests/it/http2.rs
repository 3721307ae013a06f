//! HTTP/2 without TLS beside HTTP/1.1.

use alvys_auth_sandbox::{Fault, Route, Sandbox};
use http::Version;
use serde_json::json;

use crate::support::{form, get, token};

fn client() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn both_versions_are_spoken_on_one_port() {
    run(async {
        let sandbox = Sandbox::start().unwrap();
        let application = sandbox.application();
        let body = form(&crate::support::fields(&application));
        let answer = client()
            .post(sandbox.token_url())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
        assert_eq!(get(&sandbox.me_url(), &token(&sandbox)).status, 200);
        let versions: Vec<Version> = sandbox.requests().iter().map(|request| request.version()).collect();
        assert_eq!(versions, [Version::HTTP_2, Version::HTTP_11, Version::HTTP_11]);
        assert_eq!(sandbox.requests()[0].path(), "/oauth/token");
    });
}

#[test]
fn events_and_large_bodies_pass_over_http_2() {
    run(async {
        let sandbox = Sandbox::start().unwrap();
        let (client, token) = (client(), token(&sandbox));
        let url = format!("{}/documents", sandbox.api_url());
        let upload = client.post(&url).bearer_auth(&token).body(vec![7; 3 * 1024 * 1024]).send().await.unwrap();
        assert_eq!(upload.status(), 201);
        assert!(upload.text().await.unwrap().contains("\"Length\":3145728"));
        let document = client.get(format!("{url}/document-1?bytes=3000000")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(document.bytes().await.unwrap().len(), 3_000_000);
        let mut events = client
            .post(sandbox.mcp_url())
            .bearer_auth(&token)
            .header("content-type", "application/json")
            .body(json!({"events": 2, "interval_ms": 100}).to_string())
            .send()
            .await
            .unwrap();
        for event in ["data: {\"event\":1,\"of\":2}\n\n", "data: {\"event\":2,\"of\":2}\n\n"] {
            assert_eq!(events.chunk().await.unwrap().unwrap(), event);
        }
        // The end of the stream may come as a frame of its own.
        assert!(events.chunk().await.unwrap().unwrap_or_default().is_empty());
    });
}

#[test]
fn a_reset_ends_an_http_2_connection_and_the_next_one_works() {
    run(async {
        let sandbox = Sandbox::start().unwrap();
        let url = format!("{}/.well-known/jwks.json", sandbox.url());
        sandbox.inject(Route::Keys, Fault::reset().once());
        let broken = client().get(&url).send().await.unwrap_err();
        assert!(broken.is_request(), "{broken:?}");
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
        assert_eq!(sandbox.requests().len(), 2);
    });
}
