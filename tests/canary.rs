//! Distinctive secrets and tokens go through a full run with failures, and show up nowhere.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Credentials, Flow, Policy};
use alvys_auth_driver::Time;
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use alvys_auth_tests::transcript::Transcript;
use alvys_auth_tests::{Async, Blocking, Settings, Source, call_api, eventually};

const SECRET: &str = "canary+secret/with&reserved=\"characters%";

/// Faults of every kind, some of which hand our own secret back to us.
fn faults() -> Vec<Fault> {
    let form = "canary%2Bsecret%2Fwith%26reserved%3D%22characters%25";
    let json = SECRET.replace('"', "\\\"");
    let echo = format!(r#"{{"error":"access_denied","error_description":"you sent {json} and {form}"}}"#);
    let title = format!(r#"{{"Title":"{json}","Status":400,"Errors":{{"client_secret":["{json} is wrong"]}}}}"#);
    let code = format!(r#"{{"error":"{json}"}}"#);
    let half_a_token = r#"{"access_token":"eyJhbGciOiJub25lIn0.canary-token.x","expires_in":"#;
    vec![
        Fault::reply(401, echo),
        Fault::reply(400, title),
        Fault::reply(400, code),
        Fault::reply(200, half_a_token),
        Fault::reply(200, format!("{half_a_token}-1}}")),
        Fault::reply(403, format!("<html>{SECRET}</html>")),
        Fault::status(401).header("x-auth0-requestid", SECRET),
        Fault::status(500),
        Fault::quota_spent(Duration::from_secs(60)),
        Fault::redirect(307, "https://elsewhere.example/token"),
        Fault::reset(),
        Fault::truncate(),
        Fault::hang(),
        Fault::disguised_rate_limit(),
    ]
}

fn full_run<S: Source + Debug>(transcript: &Transcript, legacy: bool) -> Vec<String> {
    let mut tokens = Vec::new();
    let sandbox = Sandbox::start().expect("a sandbox");
    sandbox.add(Application::new("canary", SECRET, "va336"));
    let credentials = Credentials::new("canary", SECRET).expect("acceptable credentials");
    transcript.add(&credentials);
    let settings = Settings {
        flow: match legacy {
            false => Flow::current().endpoint(sandbox.token_url()),
            true => Flow::legacy("va336").endpoint(sandbox.legacy_token_url()),
        },
        credentials,
        policy: Policy::new().rejection_grace(Duration::ZERO).request_timeout(Duration::from_millis(200)),
        patience: Duration::from_millis(500),
        time: Time::boot(),
        store: None,
    };
    transcript.add(&settings);
    let source = S::build(settings.clone()).expect("acceptable settings");
    for _ in 0..2 {
        let token = source.token().expect("a token");
        tokens.push(token.access_token().to_owned());
        transcript.add((&token, token.scopes(), token.header(), &source, source.status()));
        assert_eq!(call_api(&sandbox, &token), 200);
        assert!(source.reject(&token));
    }
    for fault in faults() {
        transcript.add(&fault);
        let source = S::build(settings.clone()).expect("acceptable settings");
        sandbox.inject(Route::AnyToken, fault);
        transcript.add_error(&source.token().expect_err("a failure"));
        eventually("the failure is known", || source.status().last_error.is_some());
        transcript.add_error(&source.status().last_error.expect("the failure"));
        transcript.add((&source, source.status()));
        sandbox.clear_faults();
    }
    for secret in ["", " canary", "<canary>", "canary\n"] {
        transcript.add_error(&Credentials::new("canary", secret).expect_err("unacceptable"));
    }
    transcript.add((&sandbox, sandbox.requests(), sandbox.application()));
    tokens
}

#[test]
fn no_secret_and_no_token_is_printed_or_logged_in_a_full_run_with_failures() {
    let transcript = &Transcript::record();
    let runs = [full_run::<Async>, full_run::<Blocking>].into_iter().flat_map(|run| [(run, false), (run, true)]);
    let tokens: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = runs.map(|(run, legacy)| scope.spawn(move || run(transcript, legacy))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a full run")).collect()
    });

    let text = transcript.text();
    for expected in ["obtained an access token", "paused", "failed", "rejected", "[redacted]", "access_denied"] {
        assert!(text.contains(expected), "the transcript lacks {expected:?}: it does not show a full run");
    }
    assert!(tokens.len() >= 8);
    let parts = tokens.iter().flat_map(|token| token.split('.').filter(|part| part.len() > 40).map(str::to_owned));
    let json = SECRET.replace('"', "\\\"");
    let forms = ["canary+secret", "canary%2Bsecret", "characters%", "canary-token", SECRET, &json].map(str::to_owned);
    for canary in forms.into_iter().chain(parts) {
        let found = text.find(&canary).map(|at| &text[at.saturating_sub(300)..(at + 60).min(text.len())]);
        assert_eq!(found, None, "{canary:?} was shown");
    }
}
