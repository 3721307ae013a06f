//! A secret and a token that must never be seen: no `Debug` and no `Display` of any type in any state shows them.

use std::error::Error as _;
use std::fmt::Debug;
use std::time::Duration;

use alvys_auth_core::{
    CallOptions, Change, Credentials, Encoding, Error, Flow, Lifecycle, Policy, Step, TokenRequest, TokenResponse,
    Verdict,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Response;
use serde_json::json;

use crate::support::{
    self as given, Steps, answer, at, call, complete, granted, jwt, legacy_token, unreachable_server, with,
};

mod support;

const SECRET: &str = "C4n4ry+S3cr3t/\"value\"";
const ROTATED: &str = "C4n4ry-R0t4t3d-value";

fn token() -> String {
    let claims = json!({"org_name": "va336", "scope": "load:read", "iat": 0, "exp": 3600});
    jwt(&claims).replace("c2lnbmF0dXJl", "C4n4ry-T0k3n-signature")
}

/// Every spelling that could betray what must not be seen.
fn canaries() -> Vec<String> {
    let texts = [SECRET.to_owned(), ROTATED.to_owned(), token(), "C4n4ry".to_owned()];
    let mut canaries: Vec<String> = Vec::new();
    for text in &texts {
        let bytes: Vec<String> = text.bytes().take(6).map(|byte| byte.to_string()).collect();
        canaries.extend([
            text.clone(),
            text.escape_debug().to_string(),
            form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            bytes.join(", "),
            bytes.join(",\n    "),
            STANDARD.encode(text)[..8].to_owned(),
            URL_SAFE_NO_PAD.encode(text)[..8].to_owned(),
        ]);
    }
    canaries
}

#[track_caller]
fn assert_hidden(shown: &str) {
    for canary in canaries() {
        assert!(!shown.contains(&canary), "{canary:?} is shown in {shown}");
    }
}

#[track_caller]
fn assert_silent(value: &dyn Debug) {
    assert_hidden(&format!("{value:?}"));
    assert_hidden(&format!("{value:#?}"));
}

#[track_caller]
fn assert_silent_error(error: &Error) {
    assert_silent(error);
    assert_hidden(&error.to_string());
    assert_hidden(&format!("{error:#}"));
    assert_hidden(error.hint());
    assert_hidden(error.oauth_code().unwrap_or_default());
    assert_hidden(error.oauth_description().unwrap_or_default());
    assert_hidden(error.error_uri().unwrap_or_default());
    assert_hidden(&format!("{:?}", error.support_headers().collect::<Vec<_>>()));
    let mut source = error.source();
    while let Some(error) = source {
        assert_silent(&error);
        assert_hidden(&error.to_string());
        source = error.source();
    }
}

fn credentials(secret: &str) -> Credentials {
    Credentials::new("my-client", secret).expect("legal credentials")
}

fn requests() -> Vec<TokenRequest> {
    [Flow::current(), Flow::legacy("va336").tenant_in_body()]
        .into_iter()
        .flat_map(|flow| [flow.clone().encoding(Encoding::Json), flow.encoding(Encoding::Form)])
        .map(|flow| TokenRequest::new(flow, credentials(SECRET)).expect("a legal request"))
        .collect()
}

#[track_caller]
fn assert_silent_lifecycle(lifecycle: &Lifecycle) {
    assert_silent(lifecycle);
    assert_silent(lifecycle.request());
    assert_silent(lifecycle.policy());
    assert_silent(&lifecycle.snapshot());
    assert_silent(&lifecycle.snapshot().usable(at(0)));
    let status = lifecycle.snapshot().status(at(0));
    assert_silent(&status);
    if let Some(error) = &status.last_error {
        assert_silent_error(error);
    }
}

#[track_caller]
fn assert_silent_step(step: &Step) {
    assert_silent(step);
    match step {
        Step::Use(token) => {
            assert_silent(token);
            assert_silent(token.header());
            assert_hidden(&token.scopes().to_string());
            assert_silent(&token.unverified_claims().as_ref().map(|claims| &claims.organization_name));
            assert_silent(&token.unverified_claims());
        }
        Step::Fetch(attempt) => assert_silent(attempt),
        Step::Wait(wait) => {
            assert_silent(wait);
            assert_silent_error(&wait.clone().give_up().expect_err("no token"));
        }
        Step::Fail(error) => assert_silent_error(error),
    }
}

#[test]
fn the_canary_would_be_noticed() {
    let requests = requests();
    let rendered: Vec<_> = requests.iter().map(|request| format!("{:?}", request.to_http())).collect();
    for shown in rendered.into_iter().chain([token(), SECRET.to_owned(), format!("{:#?}", SECRET.as_bytes())]) {
        assert!(canaries().iter().any(|canary| shown.contains(canary)), "{shown}");
    }
}

#[test]
fn credentials_and_requests_are_silent() {
    assert_silent(&credentials(SECRET));
    for request in requests() {
        assert_silent(&request);
        assert_silent(request.flow());
        assert_silent(&request.credentials());
    }
    for bad in [format!("{SECRET}\n"), format!(" {SECRET}"), format!("<{SECRET}>"), format!("YOUR_{SECRET}>")] {
        match Credentials::new("my-client", bad.as_str()) {
            Ok(credentials) => assert_silent(&credentials),
            Err(error) => assert_silent_error(&error),
        }
        if let Err(error) = Credentials::new("", bad) {
            assert_silent_error(&error);
        }
    }
}

/// Answers that repeat what they were sent, in every place that is read.
fn indiscreet_answers() -> Vec<Response<Vec<u8>>> {
    let form: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let escaped = json!(SECRET).to_string();
    let mut answers = Vec::new();
    for echo in [SECRET.to_owned(), form, escaped, token(), format!("Bearer {}", token())] {
        for status in [200, 302, 400, 401, 403, 404, 415, 429, 500, 503] {
            answers.extend([
                answer(status, echo.clone()),
                answer(status, format!("<html>{echo}</html>")),
                answer(status, json!({"error": echo}).to_string()),
                answer(status, json!({"error": "access_denied", "error_description": echo}).to_string()),
                answer(status, json!({"error": "x", "error_uri": format!("https://alvys.com/{echo}")}).to_string()),
                answer(status, json!({"Title": echo, "Errors": {"client_secret": [echo]}}).to_string()),
                answer(status, json!({"detail": format!("sent \u{1b}{echo}\n")}).to_string()),
                answer(status, json!({"message": "x", "errors": {(echo.as_str()): [echo]}}).to_string()),
                answer(status, json!({"access_token": token(), "expires_in": 0, "error": "x"}).to_string()),
                answer(status, json!({"access_token": format!("{} ", token())}).to_string()),
                answer(status, format!(r#"{{"access_token":"{}"#, token())),
            ]);
            if let Ok(value) = echo.parse::<http::HeaderValue>() {
                let mut response = answer(status, "");
                response.headers_mut().insert("x-auth0-requestid", value.clone());
                response.headers_mut().insert("retry-after", value);
                answers.push(response);
            }
        }
    }
    answers
}

#[test]
fn an_indiscreet_server_gives_nothing_away() {
    for request in requests() {
        for response in indiscreet_answers() {
            match TokenResponse::from_http(&request, &response) {
                Ok(grant) => assert_silent(&grant),
                Err(error) => assert_silent_error(&error),
            }
        }
    }
}

#[test]
fn a_grant_is_silent_however_it_was_made() {
    let request = &requests()[0];
    let grant = TokenResponse::from_http(request, &granted(&token(), 3600)).unwrap();
    assert_silent(&grant);
    assert_silent(&grant.scopes());
    assert_silent(&grant.unverified_claims());
    assert_silent(&TokenResponse::new(&token(), Duration::from_secs(60), "load:read").unwrap());
    for (bad, lifetime) in [(format!("{} ", token()), 60), (token().repeat(500), 60), (token(), 0)] {
        assert_silent_error(&TokenResponse::new(&bad, Duration::from_secs(lifetime), "").unwrap_err());
    }
    let guarded = Flow::current().expect_organization("ab123");
    let guarded = TokenRequest::new(guarded, credentials(SECRET)).unwrap();
    assert_silent_error(&TokenResponse::from_http(&guarded, &granted(&token(), 3600)).unwrap_err());
}

#[test]
fn a_lifecycle_is_silent_in_every_state() {
    let ends: [fn(alvys_auth_core::Attempt) -> alvys_auth_core::Attempt; 7] = [
        |attempt| attempt.answered(&granted(&token(), 3600)),
        |attempt| attempt.answered(&granted(&token(), 1)),
        |attempt| attempt.answered(&answer(401, json!({"error": SECRET, "error_description": token()}).to_string())),
        |attempt| attempt.answered(&with(answer(429, json!({"message": SECRET}).to_string()), "retry-after", "60")),
        |attempt| attempt.failed(unreachable_server()),
        |attempt| attempt.failed(Error::timed_out("too slow")),
        |attempt| attempt.abandoned(),
    ];
    for request in requests() {
        for end in ends {
            let mut lifecycle = Lifecycle::new(request.clone(), Policy::new(), 7);
            assert_silent_lifecycle(&lifecycle);
            for now in [at(0), at(2), at(3500), at(9000)] {
                let step = lifecycle.poll(now);
                assert_silent_step(&step);
                assert_silent_step(&lifecycle.poll(now));
                assert_silent_lifecycle(&lifecycle);
                if let Step::Fetch(attempt) = step {
                    let outcome = end(attempt);
                    assert_silent(&outcome);
                    let done = complete(&mut lifecycle, outcome, now);
                    assert_silent(&done);
                    if let Change::Paused { error, .. } = &done {
                        assert_silent_error(error);
                    }
                }
                assert_silent_step(&lifecycle.poll(now));
                assert_silent_lifecycle(&lifecycle);
            }
            lifecycle.invalidate();
            assert_silent_lifecycle(&lifecycle);
            lifecycle.adopt(TokenResponse::new(&token(), Duration::from_secs(7200), "").unwrap(), at(9000));
            assert_silent_lifecycle(&lifecycle);
            lifecycle.set_credentials(credentials(ROTATED)).unwrap();
            assert_silent_lifecycle(&lifecycle);
            if let Step::Use(token) = lifecycle.poll(at(9020)) {
                lifecycle.reject(&token, at(9020));
            }
            assert_silent_lifecycle(&lifecycle);
        }
    }
}

/// Answers to a call that repeat the token in every place that is read.
fn indiscreet_refusals(echo: &str) -> Vec<Response<Vec<u8>>> {
    let escaped: String = echo.chars().flat_map(|c| ['\\', c]).collect();
    let mut answers = Vec::new();
    for status in [200, 401, 403, 429, 500, 503] {
        answers.extend([
            answer(status, echo),
            answer(status, format!("<html>{echo}")),
            answer(status, json!({"error": echo, "detail": echo}).to_string()),
            answer(status, json!({"error_uri": format!("https://alvys.com/?token={echo}")}).to_string()),
            answer(status, json!({"errorCode": echo, "Errors": {(echo): [echo]}}).to_string()),
            answer(status, json!({"detail": format!("scope load:create for tenant {echo}")}).to_string()),
        ]);
        let quoted =
            |text: &str| ["error", "scope", "error_description"].map(|name| format!("Bearer {name}=\"{text}\""));
        let quotes =
            [quoted(echo), quoted(&escaped), quoted(&format!("x:{echo}")), quoted(&format!("load:create {echo}"))];
        let bare = [
            format!("Bearer scope={echo}"),
            format!("Bearer {echo}"),
            format!("Bearer error_uri=\"https://alvys.com/{echo}\""),
        ];
        for challenge in quotes.into_iter().flatten().chain(bare) {
            answers.push(with(answer(status, ""), "www-authenticate", &challenge));
        }
        for name in
            ["x-request-id", "x-auth0-requestid", "cf-ray", "x-azure-ref", "retry-after", "content-type", "date"]
        {
            answers.push(with(answer(status, ""), name, echo));
        }
    }
    answers
}

#[test]
fn an_indiscreet_api_gives_nothing_of_the_token_away() {
    let claims = json!({"org_name": token(), "aud": token(), "iss": token()});
    for token in [
        given::token(&token(), "load:read"),
        given::token("C4n4ry-0p4que", ""),
        legacy_token(&json!({"tenant_id": "va336"})),
        given::token(&jwt(&claims), "load:read"),
        given::token(&jwt(&json!({"org_name": token()})), "load:read"),
    ] {
        // What is never to be seen is the text of this very token.
        let hidden = |shown: &str| {
            assert!(!shown.contains(token.access_token()), "{shown}");
            assert_hidden(shown);
        };
        for answer in indiscreet_refusals(token.access_token()) {
            for method in ["GET", "POST"] {
                let mut call = call(method, "loads/4711", CallOptions::new().require(["load:read"]));
                let verdict = call.judge(&answer, &token, |_| false);
                hidden(&format!("{call:?} {call:#?} {verdict:?} {verdict:#?} {:?}", call.endpoint()));
                if let Verdict::Fail(error) = verdict {
                    assert_silent_error(&error);
                    hidden(&format!("{error} {:?}", error.missing_scopes()));
                }
            }
        }
        let mut lacking = call("POST", "loads", CallOptions::new().require(["load:create"]));
        let mut headers = http::HeaderMap::new();
        match lacking.authorized(&token, &mut headers) {
            Ok(()) => hidden(&format!("{headers:?}")),
            Err(error) => assert_silent_error(&error),
        }
    }
}
