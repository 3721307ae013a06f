//! What counts as a token: every spelling of success that servers use, and every token that nobody could use.

use std::time::Duration;

use alvys_auth_core::{Credentials, ErrorKind, Flow, TokenRequest, TokenResponse};
use serde_json::{Value, json};

use crate::support::{accepted, answer, answer_with_token, jwt, read, refusal, request, with};

mod support;

fn lifetime_of(expires_in: &str) -> Option<Duration> {
    accepted(&format!(r#"{{"access_token":"abc","expires_in":{expires_in}}}"#)).lifetime()
}

#[test]
fn a_lifetime_is_read_in_every_spelling() {
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    for (spelling, lifetime) in [
        ("3600", seconds(3600.0)),
        ("3600.0", seconds(3600.0)),
        ("3599.5", seconds(3599.5)),
        ("3.6e3", seconds(3600.0)),
        (r#""3600""#, seconds(3600.0)),
        (r#"" 3600 ""#, seconds(3600.0)),
        (r#""3599.5""#, seconds(3599.5)),
        ("0.001", seconds(0.001)),
        ("null", None),
        ("true", None),
        (r#""soon""#, None),
        (r#""""#, None),
        (r#""NaN""#, None),
        (r#""inf""#, None),
        ("[3600]", None),
        ("{}", None),
        ("1e300", seconds(1e9)),
        ("18446744073709551615", seconds(1e9)),
    ] {
        assert_eq!(lifetime_of(spelling), lifetime, "{spelling}");
    }
    assert_eq!(accepted(r#"{"access_token":"abc"}"#).lifetime(), None);
}

#[test]
fn a_token_that_is_already_expired_is_refused() {
    for spelling in ["0", "-1", "-3600", "0.0", "-0.5", r#""0""#, r#""-1""#, "-1e300", "0.0009"] {
        let error = refusal(format!(r#"{{"access_token":"abc","expires_in":{spelling}}}"#));
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{spelling}");
        assert!(error.to_string().contains("had expired when it was issued"), "{error}");
    }
}

#[test]
fn every_spelling_of_success_is_accepted() {
    for body in [
        r#"{"access_token":"abc","expires_in":3600,"token_type":"Bearer","scope":"load:read"}"#,
        r#"{"access_token":"abc","expires_in":3600,"token_type":"bearer"}"#,
        r#"{"access_token":"abc","expires_in":3600,"token_type":"BEARER"}"#,
        r#"{"access_token":"abc","expires_in":3600,"token_type":null}"#,
        r#"{"access_token":"abc","expires_in":3600,"token_type":"Bearer","scope":null,"refresh_token":null}"#,
        r#"{"error":null,"access_token":"abc","expires_in":3600}"#,
        r#"{"error":"","access_token":"abc","expires_in":3600}"#,
        r#"{"access_token":"abc","expires_in":3600,"unknown":{"a":[1,{"b":[]}],"c":null}}"#,
        r#"{"\u0061ccess_token":"\u0061bc","expires_in":3600}"#,
        "\u{feff}{\"access_token\":\"abc\",\"expires_in\":3600}",
        "\r\n\t {\"access_token\" : \"abc\" , \"expires_in\" : 3600 } \r\n",
    ] {
        let grant = accepted(body);
        assert_eq!(grant.lifetime(), Some(Duration::from_secs(3600)), "{body}");
    }
}

#[test]
fn the_content_type_and_the_shade_of_success_do_not_matter() {
    let body = r#"{"access_token":"abc","expires_in":3600}"#;
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "text/plain",
        "text/html",
        "application/octet-stream",
    ] {
        assert!(read(&with(answer(200, body), "content-type", content_type)).is_ok());
    }
    for status in [200, 201, 203] {
        assert!(read(&answer(status, body)).is_ok());
    }
}

#[test]
fn a_jwt_limits_the_lifetime_and_the_shorter_one_holds() {
    let token = jwt(&json!({"iat": 1_700_000_000, "exp": 1_700_001_800}));
    let lifetime = |expires_in: Value| {
        let body = json!({"access_token": token, "expires_in": expires_in});
        accepted(&body.to_string()).lifetime()
    };
    assert_eq!(lifetime(json!(3600)), Some(Duration::from_secs(1800)));
    assert_eq!(lifetime(json!(600)), Some(Duration::from_secs(600)));
    assert_eq!(lifetime(Value::Null), Some(Duration::from_secs(1800)));
    assert_eq!(lifetime(json!("no number")), Some(Duration::from_secs(1800)));
}

#[test]
fn a_jwt_without_both_times_says_nothing_about_the_lifetime() {
    for claims in [json!({"exp": 1_700_001_800}), json!({"iat": 1_700_000_000}), json!({"exp": null, "iat": 1})] {
        let body = json!({"access_token": jwt(&claims)}).to_string();
        assert_eq!(accepted(&body).lifetime(), None, "{claims}");
    }
    let backwards = jwt(&json!({"iat": 1_700_001_800, "exp": 1_700_000_000}));
    assert!(refusal(answer_with_token(&json!(backwards))).to_string().contains("had expired when it was issued"));
}

#[test]
fn scopes_come_from_the_answer_and_else_from_the_token() {
    let token = jwt(&json!({"scope": "trip:read", "gty": "client-credentials"}));
    let scopes = |scope: Value| {
        let body = json!({"access_token": token, "scope": scope, "expires_in": 60});
        accepted(&body.to_string()).scopes().to_string()
    };
    assert_eq!(scopes(json!("load:read load:update")), "load:read load:update");
    assert_eq!(scopes(Value::Null), "trip:read");

    let opaque = accepted(r#"{"access_token":"abc","expires_in":60}"#);
    assert!(!opaque.scopes().is_known());
    assert_eq!(opaque.scopes().iter().count(), 0);
}

#[test]
fn an_unscoped_legacy_token_may_read_and_nothing_else() {
    let token = jwt(&json!({"sub": "my-client"}));
    let body = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).to_string();
    let grant = TokenResponse::from_http(&request(Flow::legacy("va336")), &answer(200, body)).unwrap();
    assert!(grant.scopes().is_read_only() && grant.scopes().is_known());
    assert!(grant.scopes().contains("load:read"));
    assert!(!grant.scopes().contains("load:create"));
    assert_eq!(grant.warning(), None);
}

#[test]
fn scopes_may_come_as_a_list() {
    let grant = accepted(r#"{"access_token":"abc","scope":["load:read",7,"trip:read"]}"#);
    assert_eq!(grant.scopes().to_string(), "load:read trip:read");
    let token = jwt(&json!({"scope": ["truck:read", "trip:read"]}));
    assert_eq!(accepted(&answer_with_token(&json!(token))).scopes().to_string(), "truck:read trip:read");
}

#[test]
fn what_cannot_be_scopes_is_left_out() {
    for (scope, kept) in [
        ("load:read\n2026 ERROR forged", "unknown"),
        ("load:read \u{1b}[31m", "unknown"),
        ("lädung:read", "unknown"),
        (&"x ".repeat(5000), "unknown"),
        ("load:read s3cret-value", "unknown"),
        ("load:read abc", "unknown"),
        ("s3cret-value", "unknown"),
        ("s3cret-value load:read", "unknown"),
        ("s3crets3cret-value:read", "unknown"),
        ("s3cret-valu", "s3cret-valu"),
        ("bc ab", "bc ab"),
        ("  load:read  ", "load:read"),
    ] {
        let body = json!({"access_token": "abc", "scope": scope}).to_string();
        let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret-value").unwrap());
        let grant = TokenResponse::from_http(&request.unwrap(), &http::Response::new(body)).unwrap();
        assert_eq!(grant.scopes().to_string(), kept, "{scope:?}");
    }
}

#[test]
fn an_opaque_token_is_accepted_with_a_warning() {
    let opaque = accepted(r#"{"access_token":"0paque","expires_in":86400}"#);
    assert!(opaque.warning().unwrap().contains("slash"));
    assert!(opaque.unverified_claims().is_none());

    for shape in ["a.b", "a.b.c.d", "a.!.c", "a.bm9qc29u.c", "..", "a.W10.c"] {
        let grant = accepted(&answer_with_token(&json!(shape)));
        assert!(grant.warning().is_some(), "{shape} is no JWT");
    }
    let grant = accepted(&answer_with_token(&json!(jwt(&json!({})))));
    assert_eq!(grant.warning(), None);
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    let too_long = "a".repeat(16 * 1024 + 1);
    for (token, words) in [
        (json!(""), "empty"),
        (Value::Null, "contains no access token"),
        (json!(42), "contains no access token"),
        (json!(true), "contains no access token"),
        (json!(["abc"]), "contains no access token"),
        (json!({"token": "abc"}), "contains no access token"),
        (json!(too_long), "16 KiB"),
        (json!("a\rb"), "not legal"),
        (json!("a\nb"), "not legal"),
        (json!("a\r\nx-evil: 1"), "not legal"),
        (json!("a\0b"), "not legal"),
        (json!("a b"), "not legal"),
        (json!(" abc"), "not legal"),
        (json!("abc\n"), "not legal"),
        (json!("a\tb"), "not legal"),
        (json!("a\u{7f}b"), "not legal"),
        (json!("tökén"), "not legal"),
        (json!("🚚"), "not legal"),
    ] {
        let error = refusal(answer_with_token(&token));
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains(words), "{error} does not say {words:?}");
    }
    assert!(refusal("{}").to_string().contains("contains no access token"));
    accepted(&answer_with_token(&json!("a".repeat(16 * 1024))));
}

#[test]
fn a_token_from_elsewhere_meets_the_same_conditions() {
    let hour = Duration::from_secs(3600);
    for token in ["", "a b", "a\nb", "tökén", &"a".repeat(16 * 1024 + 1)] {
        assert_eq!(TokenResponse::new(token, hour, "").unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
    assert!(TokenResponse::new("abc", Duration::ZERO, "").is_err());
    assert!(TokenResponse::new("abc", Duration::MAX, "").is_ok());
}

#[test]
fn a_token_from_elsewhere_tells_its_scopes_too() {
    let token = jwt(&json!({"scope": "trip:read"}));
    let scopes = |scope| {
        let grant = TokenResponse::new(&token, Duration::from_secs(3600), scope).unwrap();
        grant.scopes().to_string()
    };
    assert_eq!(scopes("load:read"), "load:read");
    assert_eq!(scopes(""), "trip:read");
}

#[test]
fn a_token_of_another_type_is_refused() {
    for kind in ["mac", "DPoP", "", "Bearer2"] {
        let error = refusal(json!({"access_token": "abc", "token_type": kind}).to_string());
        assert!(error.to_string().contains("bearer"), "{error}");
    }
}

#[test]
fn a_legacy_token_that_names_no_organization_is_of_the_tenant_it_was_asked_for() {
    let read = |expected: &str, token: &str| {
        let request = request(Flow::legacy("va336").expect_organization(expected));
        TokenResponse::from_http(&request, &answer(200, answer_with_token(&json!(token)))).map_err(|error| error.kind())
    };
    for silent in [jwt(&json!({"sub": "x"})), "0paque".to_owned()] {
        assert!(read("VA336", &silent).is_ok());
        assert_eq!(read("ab123", &silent).unwrap_err(), ErrorKind::WrongOrganization);
    }
    let other = jwt(&json!({"org_name": "ab123"}));
    assert_eq!(read("va336", &other).unwrap_err(), ErrorKind::WrongOrganization);
}

#[test]
fn a_token_of_another_organization_is_refused() {
    let read = |expected: &str, token: &str| {
        let request = request(Flow::current().expect_organization(expected));
        TokenResponse::from_http(&request, &answer(200, answer_with_token(&json!(token))))
    };
    let token = jwt(&json!({"org_name": "va336", "org_id": "org_0a1b2c"}));
    for expected in ["va336", "VA336", "org_0a1b2c"] {
        assert!(read(expected, &token).is_ok(), "{expected}");
    }
    assert!(read("va336", &jwt(&json!({"tenant_id": "va336"}))).is_ok());
    for (expected, token) in [
        ("va33", token.clone()),
        ("va3366", token.clone()),
        ("ab123", token),
        ("va336", jwt(&json!({"sub": "va336"}))),
        ("va336", jwt(&json!({"org_name": null}))),
        ("va336", "0paque".to_owned()),
    ] {
        let error = read(expected, &token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongOrganization, "{expected}: {error}");
        assert!(!error.is_retryable() && error.hint().contains("tenant"), "{error}");
    }
}
