//! What the error of a refused call says: the missing scope of a 403, the likely cause of a 401, the server's own words.

use alvys_auth_core::{Api, CallOptions, Error, ErrorKind, Scope, Token};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use crate::support::{answer, call, call_of, failed, jwt, legacy_token, token, with};

mod support;

const AUDIENCE: &str = "https://api.alvys.com/public/";

fn challenged(status: u16, challenge: &str) -> Response<Vec<u8>> {
    with(answer(status, ""), "www-authenticate", challenge)
}

fn detail(status: u16, words: &str) -> Response<Vec<u8>> {
    answer(status, json!({"title": "Refused", "detail": words}).to_string())
}

/// The error of a 403; no token is given up for it.
#[track_caller]
fn forbidden(method: &str, path: &str, token: &Token, answer: &Response<Vec<u8>>) -> Error {
    let mut call = call(method, path, CallOptions::new());
    failed(call.judge(answer, token, |_| panic!("a 403 never renews")))
}

/// The scopes that a 403 with this challenge finds missing in a token with `load:read`.
fn missing(challenge: &str) -> String {
    let error = forbidden("POST", "parrots", &token("abc", "load:read"), &challenged(403, challenge));
    error.missing_scopes().iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

/// The hint of a 401 that another token does not mend.
#[track_caller]
fn hint(api: &Api, token: &Token, answer: &Response<Vec<u8>>) -> String {
    let error = failed(call_of(api, "GET", "loads", CallOptions::new()).judge(answer, token, |_| false));
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    error.hint().to_owned()
}

fn claiming(claims: &Value) -> Token {
    token(&jwt(claims), "load:read")
}

fn good() -> Token {
    claiming(&json!({"iss": "https://auth.alvys.com/", "aud": AUDIENCE, "org_name": "va336"}))
}

#[test]
fn a_403_names_the_missing_scope_when_the_server_tells_it() {
    let reader = token("abc", "load:read");
    let told = [
        challenged(403, r#"Bearer error="insufficient_scope", scope="load:read load:create""#),
        detail(403, "The scope 'load:create' is required."),
        detail(403, "Requires LOAD:CREATE. Granted: load:read"),
        answer(403, json!({"Errors": {"scope": ["load:create"]}}).to_string()),
        challenged(403, r#"Bearer error_description="this takes load:create""#),
    ];
    for answer in told {
        let error = forbidden("POST", "parrots", &reader, &answer);
        assert_eq!(error.kind(), ErrorKind::MissingScope, "{answer:?}");
        assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE], "{answer:?}");
        let text = error.to_string();
        assert!(text.starts_with("the access token lacks load:create (status 403"), "{text}");
        assert!(
            text.contains("; an Alvys administrator must grant load:create to the application; only tokens issued"),
            "{text}"
        );
        assert!(!error.is_retryable());
    }
    let error = forbidden("GET", "loads", &token("opaque", ""), &challenged(403, r#"Bearer scope="parrot:feed""#));
    assert_eq!(error.missing_scopes(), [Scope::from("parrot:feed")], "scopes unknown here pass through");
}

#[test]
fn a_403_names_the_scope_of_the_table_when_the_server_tells_nothing() {
    for answer in
        [answer(403, ""), detail(403, "Forbidden"), challenged(403, "Bearer"), challenged(403, "Bearer scope=\"\"")]
    {
        let error = forbidden("PATCH", "trips/4711", &token("abc", "load:read"), &answer);
        assert_eq!(error.missing_scopes(), [Scope::TRIP_UPDATE]);
        assert!(error.hint().starts_with("most likely an Alvys administrator"), "{error}");
    }
}

#[test]
fn a_403_that_no_scope_explains_is_a_plain_refusal() {
    let reader = token("abc", "load:read");
    for (token, path, answer, hint) in [
        (&reader, "loads", detail(403, "Forbidden"), "does not allow this call"),
        (&reader, "parrots", answer(403, ""), "does not allow this call"),
        (&token("opaque", ""), "loads", answer(403, ""), "does not allow this call"),
        (&legacy_token(&json!({})), "loads", answer(403, ""), "does not allow this call"),
        (&reader, "loads", detail(403, "needs load:read"), "has the scope that the API names"),
        // What the server names comes before the table.
        (&reader, "trips", challenged(403, "Bearer scope=load:read"), "has the scope that the API names"),
    ] {
        let error = forbidden("GET", path, token, &answer);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, false), "{path}");
        assert!(error.hint().contains(hint), "{error}");
        assert!(error.missing_scopes().is_empty());
    }
}

#[test]
fn a_403_to_a_legacy_token_is_about_its_flow() {
    let legacy = legacy_token(&json!({}));
    for (method, answer, scope) in [
        ("POST", answer(403, ""), Scope::LOAD_CREATE),
        ("GET", challenged(403, r#"Bearer scope="load:update""#), Scope::LOAD_UPDATE),
        ("POST", detail(403, "needs load:delete"), Scope::LOAD_DELETE),
    ] {
        let error = forbidden(method, "loads", &legacy, &answer);
        assert_eq!((error.kind(), error.missing_scopes()), (ErrorKind::MissingScope, [scope].as_slice()));
        assert!(error.hint().contains("legacy flow may only read"), "{error}");
    }
}

#[test]
fn each_missing_scope_is_named_once() {
    assert_eq!(missing(r#"Bearer scope="load:create load:create trip:read""#), "load:create trip:read");
    let words = detail(403, "load:create is missing, ask for load:create");
    assert_eq!(forbidden("GET", "x", &token("abc", "load:read"), &words).missing_scopes(), [Scope::LOAD_CREATE]);
}

#[test]
fn a_challenge_is_read_in_every_legal_spelling() {
    for challenge in [
        r#"Bearer scope="load:create""#,
        "Bearer scope=load:create",
        "bEARER   SCOPE = \"load:create\" ",
        r#"Bearer realm="a, b=c", error="insufficient_scope",scope="load:create""#,
        r#"Bearer error_description="say \"please, scope=trip:read\", then", scope="load:create""#,
        r#"Bearer error_description="a backslash \\", scope="load:create""#,
        r#"Basic realm="x", Bearer scope="load:create""#,
        r#"Basic realm="x", scope="trip:read", Bearer realm="y", scope="load:create", Basic scope="trip:read""#,
        r#"Negotiate YWJj==, Bearer scope="load:create""#,
        r#"Negotiate, Bearer scope="load:create""#,
        r#"Bearer ,scope="load:create"#,
        r#"Basic, , Bearer, , scope="load:create""#,
        "Bearer realm=x,\tscope=\"load:create\"",
        r#"Bearer scope="load\:create""#,
    ] {
        assert_eq!(missing(challenge), "load:create", "{challenge}");
    }
    let answer = with(challenged(403, "Basic realm=\"x\""), "www-authenticate", "Bearer scope=load:create");
    assert_eq!(forbidden("GET", "x", &token("abc", "load:read"), &answer).missing_scopes(), [Scope::LOAD_CREATE]);
    for challenge in [
        r#"Basic scope="load:create""#,
        r#"Bearerish scope="load:create""#,
        r#"Bearer xscope="load:create""#,
        r#"Bearer realm="x, scope=load:create""#,
        r#"Bearer error="a", Basic realm="b", scope="load:create""#,
        r#"Bearer error="a", Negotiate, scope="load:create""#,
        "Bearer",
        "",
    ] {
        assert_eq!(missing(challenge), "", "{challenge}");
    }
}

#[test]
fn a_scope_that_is_no_scope_is_not_named() {
    for scope in [r#"load\"create"#, r"load\\create", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0", &"x".repeat(300)] {
        assert_eq!(missing(&format!("Bearer scope=\"{scope}\"")), "", "{scope}");
        let error = forbidden(
            "GET",
            "parrots",
            &token("abc", "load:read"),
            &challenged(403, &format!("Bearer scope=\"{scope}\"")),
        );
        assert!(error.hint().contains("does not allow this call"), "nothing is known to be carried: {error}");
    }
}

#[test]
fn the_server_is_quoted_with_code_id_and_words() {
    let mut answer = challenged(401, r#"Bearer error="invalid_token", error_description="The token expired""#);
    answer.headers_mut().insert("x-request-id", HeaderValue::from_static("req-1"));
    let error = failed(call("GET", "loads", CallOptions::new()).judge(&answer, &good(), |_| false));
    assert_eq!((error.oauth_code(), error.request_id()), (Some("invalid_token"), Some("req-1")));
    assert!(
        error.to_string().contains(r#"(status 401, invalid_token, "The token expired", request id req-1)"#),
        "{error}"
    );

    *answer.body_mut() = json!({"error": "other", "detail": "In the\nbody"}).to_string().into_bytes();
    let error = failed(call("GET", "loads", CallOptions::new()).judge(&answer, &good(), |_| false));
    assert!(error.to_string().contains(r#"(status 401, invalid_token, "In the body", request id req-1)"#), "{error}");

    let problem = json!({"error": "in_the_body"}).to_string();
    for challenge in ["Bearer", r#"Bearer error="no word""#, r#"Bearer error="""#] {
        let answer = with(support::answer(403, problem.clone()), "www-authenticate", challenge);
        assert_eq!(forbidden("GET", "x", &good(), &answer).oauth_code(), Some("in_the_body"), "{challenge}");
    }
    let marked = answer_with_mark();
    assert_eq!(forbidden("GET", "x", &good(), &marked).missing_scopes(), [Scope::LOAD_CREATE]);
}

/// A byte order mark in front of the JSON.
fn answer_with_mark() -> Response<Vec<u8>> {
    answer(403, "\u{feff}{\"detail\":\"load:create\"}")
}

#[test]
fn a_401_blames_the_audience_when_the_token_is_for_another() {
    let other = hint(&Api::production(), &claiming(&json!({"aud": "https://api.alvys.com/public"})), &answer(401, ""));
    assert_eq!(
        other,
        format!("likely the audience: the token is for https://api.alvys.com/public; set the audience to {AUDIENCE}")
    );
    let opaque = hint(&Api::production(), &token("opaque", ""), &answer(401, ""));
    assert!(opaque.starts_with("likely the audience: the token is opaque") && opaque.contains(AUDIENCE), "{opaque}");
    let unnamed = claiming(&json!({"sub": "x"}));
    let asked = hint(&Api::production(), &unnamed, &detail(401, "Bad Audience"));
    assert_eq!(asked, format!("likely the audience: set it to {AUDIENCE} with the slash at the end"));
}

#[test]
fn a_401_does_not_advise_the_audience_that_the_token_already_has() {
    for complaint in
        [detail(401, "Invalid audience"), challenged(401, r#"Bearer error_description="the audience is invalid""#)]
    {
        let told = hint(&Api::production(), &good(), &complaint);
        assert_eq!(
            told,
            "likely the base URL of the API: check it, because the token has the audience of the public API"
        );
        let legacy = legacy_token(&json!({"aud": "https://integrations.alvys.com/"}));
        let told = hint(&Api::production(), &legacy, &complaint);
        assert!(told.starts_with("likely the tenant") && told.contains("legacy flow"), "{told}");
    }
}

#[test]
fn a_401_does_not_blame_the_audience_of_a_token_that_names_several() {
    let both = claiming(&json!({"aud": ["https://elsewhere.example/", AUDIENCE]}));
    let told = hint(&Api::production(), &both, &answer(401, ""));
    assert!(told.starts_with("likely the credentials"), "{told}");
}

#[test]
fn a_401_blames_the_environment_when_token_and_api_are_of_different_ones() {
    let test = claiming(&json!({"iss": "https://qaauth.alvys.net/", "aud": AUDIENCE, "org_name": "va336"}));
    for (api, token, mixed) in [
        (Api::production(), &test, true),
        (Api::qa(), &good(), true),
        (Api::at("https://QAAPI.alvys.NET/api/p/v1").unwrap(), &good(), true),
        (Api::production(), &good(), false),
        (Api::qa(), &test, false),
        (Api::at("https://QAAPI.alvys.NET/api/p/v1").unwrap(), &test, false),
        (Api::production(), &claiming(&json!({"iss": "https://issuer.example/", "aud": AUDIENCE})), false),
        (Api::production(), &claiming(&json!({"aud": AUDIENCE})), false),
    ] {
        for answer in [answer(401, ""), detail(401, "the audience or the tenant is invalid")] {
            let told = hint(&api, token, &answer);
            assert_eq!(told.contains("likely the environment"), mixed, "{api:?}: {told}");
        }
    }
}

#[test]
fn a_host_that_is_not_of_alvys_tells_no_environment() {
    let test = claiming(&json!({"iss": "https://qaauth.alvys.net/", "aud": AUDIENCE}));
    for base in ["http://localhost:4000", "https://gateway.example.com/alvys/v1"] {
        let told = hint(&Api::at(base).unwrap(), &test, &answer(401, ""));
        assert!(
            told.starts_with("likely the credentials: check in Alvys that the application is still active"),
            "{told}"
        );
    }
}

#[test]
fn a_401_blames_the_tenant_or_the_credentials_otherwise() {
    let production = Api::production();
    for word in ["Unknown Tenant", "wrong organization", "wrong organisation", "no such company"] {
        let told = hint(&production, &good(), &detail(401, word));
        assert!(told.starts_with("likely the tenant") && told.ends_with("(the token says va336)"), "{told}");
    }
    let told = hint(&production, &good(), &detail(401, "Unauthorized"));
    assert!(told.starts_with("likely the credentials") && told.ends_with("(the token says va336)"), "{told}");
    let by_id = claiming(&json!({"aud": AUDIENCE, "org_id": "org_1"}));
    assert!(hint(&production, &by_id, &answer(401, "")).ends_with("(the token says org_1)"));
    assert!(hint(&production, &claiming(&json!({"aud": AUDIENCE})), &answer(401, "")).ends_with("expired"));
    let told = hint(&production, &legacy_token(&json!({"tenant_id": "va336"})), &answer(401, ""));
    assert!(told.starts_with("likely the tenant") && told.contains("legacy flow"), "{told}");
}

#[test]
fn a_refusal_for_now_says_what_happened() {
    let limited = failed(call("POST", "loads", CallOptions::new()).judge(&answer(429, ""), &good(), |_| true));
    assert!(
        limited.to_string().starts_with("the API asks for fewer requests (status 429, retry after 60 s)"),
        "{limited}"
    );
    let down = failed(call("POST", "loads", CallOptions::new()).judge(&answer(503, ""), &good(), |_| true));
    assert!(down.to_string().starts_with("the API, or this endpoint of it, is unavailable (status 503)"), "{down}");
}
