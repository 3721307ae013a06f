//! What holds for every call, whatever is answered: it ends, waits no longer than it may, and never panics.

use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, ErrorKind, Verdict};
use http::{HeaderMap, HeaderValue, Response, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::support::{Steps, call_of, cases, jwt, legacy_token, token};

mod support;

/// An answer that may well be a refusal, with headers and a body that may well be nonsense.
fn answer() -> impl Strategy<Value = Response<Vec<u8>>> {
    let status = prop_oneof![4 => select(vec![401_u16, 403, 429, 503]), 1 => 100_u16..1000];
    let name = select(vec![
        "retry-after",
        "date",
        "www-authenticate",
        "content-type",
        "x-ratelimit-reset",
        "x-request-id",
        "auth0-client-quota-limit",
    ]);
    let text = prop_oneof![
        "[0-9]{1,3}",
        "-?[0-9.e]{1,20}",
        "(Bearer|Basic|,| |=|\"|\\\\|scope|error|load:create|a){0,12}",
        select(vec!["text/html", "application/json", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT"])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![3 => text.prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..20)];
    let body = prop_oneof![
        Just(Vec::new()),
        vec(any::<u8>(), 0..60),
        "(\\{\"(detail|error|errors|title)\":(\"[a-z: ]{0,20}\"|\\{\"a\":\\[\"x\"\\]\\}|null)\\})"
            .prop_map(String::into_bytes),
        "<html>.{0,9}".prop_map(String::into_bytes),
    ];
    (status, vec((name, value), 0..4), body).prop_map(|(status, headers, body)| {
        let mut response = Response::new(body);
        *response.status_mut() = status.try_into().expect("from 100 to 999");
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    })
}

fn options() -> impl Strategy<Value = CallOptions> {
    any::<(bool, bool)>().prop_map(|(idempotent, single_use)| {
        let options = if idempotent { CallOptions::new().idempotent() } else { CallOptions::new() };
        if single_use { options.single_use_body() } else { options }
    })
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_call_ends_within_its_patience_and_after_one_replay(
        answers in vec(answer(), 1..30),
        patience in 0_u64..300_000,
        method in select(vec!["GET", "POST", "HEAD", "DELETE"]),
        options in options(),
        kind in 0..3,
        mended in any::<bool>(),
    ) {
        let patience = Duration::from_millis(patience);
        let token = match kind {
            0 => token("opaque", ""),
            1 => token(&jwt(&json!({"iss": "https://auth.alvys.com/", "org_name": "va336"})), "load:read"),
            _ => legacy_token(&json!({})),
        };
        let api = Api::production().patience(patience);
        let mut call = call_of(&api, method, "loads/4711", options.clone());
        let (mut waited, mut replays, mut rejections, mut sent) = (Duration::ZERO, 0, 0, 0);
        let single_use = options == options.clone().single_use_body();
        let repeatable = options == options.clone().idempotent() || matches!(method, "GET" | "HEAD");
        for answer in &answers {
            sent += 1;
            let status = answer.status().as_u16();
            match call.judge(answer, &token, |_| { rejections += 1; mended }) {
                Verdict::Repeat { after } => {
                    prop_assert!(!single_use && matches!(status, 401 | 429 | 503));
                    if status == 401 {
                        prop_assert_eq!(after, Duration::ZERO);
                        replays += 1;
                    } else {
                        prop_assert!(repeatable && after >= Duration::from_secs(1));
                    }
                    waited += after;
                }
                Verdict::Fail(error) => {
                    prop_assert_eq!(error.status(), Some(answer.status()));
                    prop_assert!(!error.hint().is_empty() && !error.to_string().contains('\n'));
                    prop_assert_eq!(error.kind() == ErrorKind::MissingScope, !error.missing_scopes().is_empty());
                    break;
                }
            }
        }
        prop_assert!(waited <= patience, "waited {:?}", waited);
        prop_assert!(replays <= usize::from(mended) && rejections <= 2);
        prop_assert!(sent <= 2 + patience.as_secs(), "sent {} times", sent);
    }

    #[test]
    fn every_answer_is_delivered_or_judged(answer in answer(), patience in any::<u64>()) {
        let api = Api::production().patience(Duration::from_millis(patience));
        let mut call = call_of(&api, "GET", "loads", CallOptions::new());
        let here = Uri::from_static("https://integrations.alvys.com/");
        let elsewhere = Uri::from_static("https://files.example.net/");
        if !call.delivers(answer.status(), answer.headers(), &elsewhere) {
            prop_assert!(answer.headers().contains_key("content-type"));
            let verdict = call.judge(&answer, &token("abc", "load:read"), |_| unreachable!("it got no token"));
            // A load balancer tells of an outage in HTML.
            let outage = answer.status().is_server_error() && answer.status() != http::StatusCode::NOT_IMPLEMENTED;
            let kind = if outage { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
            prop_assert!(matches!(verdict, Verdict::Fail(error) if error.kind() == kind));
        }
        if !call.delivers(answer.status(), answer.headers(), &here) {
            let status = answer.status().as_u16();
            let page = answer.headers().contains_key("content-type");
            prop_assert!(page || matches!(status, 401 | 403 | 429 | 503));
            call.judge(&answer, &token("abc", "load:read"), |_| true);
        }
    }

    #[test]
    fn spending_never_goes_beyond_the_patience(patience in any::<u32>(), waits in vec(any::<u32>(), 0..20)) {
        let millis = |number: u32| Duration::from_millis(number.into());
        let mut call = call_of(&Api::production().patience(millis(patience)), "GET", "loads", CallOptions::new());
        let mut spent = Duration::ZERO;
        for wait in waits.into_iter().map(millis) {
            let fits = spent + wait <= millis(patience);
            prop_assert_eq!(call.hold(wait, None).is_ok(), fits);
            spent += if fits { wait } else { Duration::ZERO };
        }
    }
}

#[test]
fn a_boundless_patience_does_not_overflow() {
    let api = Api::production().patience(Duration::MAX);
    let mut call = call_of(&api, "GET", "loads", CallOptions::new());
    let mut busy = Response::new(Vec::new());
    *busy.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    *busy.headers_mut() = HeaderMap::new();
    for _ in 0..100 {
        assert!(matches!(call.judge(&busy, &token("abc", ""), |_| true), Verdict::Repeat { .. }));
    }
}
