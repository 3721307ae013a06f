//! Answers that are no token response: cut short, nested, oversized, compressed, from somebody else, or plain noise.

use std::time::Duration;

use alvys_auth_core::{ErrorKind, Flow, TokenResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{accepted, answer, answer_with_token, cases, jwt, read, refusal, request, with};

mod support;

#[test]
fn what_is_not_one_json_object_is_refused() {
    let unclosed = format!(r#"{{"scope":{}"#, "[".repeat(60_000));
    for body in [
        r#"{"access_token":"abc","expires_in":36"#,
        r#"{"access_token":"ab"#,
        "{",
        "null",
        "42",
        r#""abc""#,
        "[]",
        r#"["abc"]"#,
        r#"["abc","Bearer",3600,"load:read",null]"#,
        "access_token=abc&expires_in=3600",
        "abc",
        r#"{"access_token":"abc"}{"access_token":"def"}"#,
        r#"{"access_token":"abc"} trailing"#,
        r#"{"access_token":"abc","access_token":"def"}"#,
        r#"{"access_token":"abc","expires_in":60,"expires_in":3600}"#,
        &unclosed,
        "\u{feff}\u{feff}{\"access_token\":\"abc\"}",
    ] {
        let start: String = body.chars().take(60).collect();
        let Err(error) = read(&answer(200, body)) else {
            panic!("{start} was accepted");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{start}: {error}");
        assert!(error.status().is_some() && error.is_retryable(), "{start}: {error}");
    }
}

#[test]
fn a_token_may_be_escaped_but_not_hide_what_no_header_can_carry() {
    let grant = accepted(r#"{"access_token":"a\u0062\/c","expires_in":3600}"#);
    let mut lifecycle = support::lifecycle();
    lifecycle.adopt(grant, support::at(0));
    assert_eq!(support::used(&mut lifecycle, support::at(0)).header(), "Bearer ab/c");

    for token in ["a\tb", "a\nb", r"a\tb", r"a\u0000b", r"a\ud83db", r"a\ude9a", r"a\u007f"] {
        let error = refusal(format!(r#"{{"access_token":"{token}","expires_in":3600}}"#));
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{token:?}: {error}");
        assert!(error.to_string().contains("not legal in a header"), "{token:?}: {error}");
    }
    let latin1 = b"{\"access_token\":\"t\xf6k\xe9n\"}".to_vec();
    assert!(refusal(latin1).to_string().contains("not one JSON object"));
}

#[test]
fn a_token_of_another_type_does_not_hide_the_error_beside_it() {
    for token in ["null", "42", "true", r#"["abc"]"#, r#"{"a":"b"}"#] {
        let body = format!(r#"{{"access_token":{token},"error":"access_denied","error_description":"Unauthorized"}}"#);
        assert_eq!(refusal(body).kind(), ErrorKind::Credentials, "{token}");
        let twice = refusal(format!(r#"{{"access_token":{token},"access_token":{token}}}"#));
        assert!(twice.to_string().contains("not one JSON object"), "{token}: {twice}");
    }
}

#[test]
fn a_deeply_nested_member_does_no_harm() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let bomb = format!("{}1{}", open.repeat(9_000), close.repeat(9_000));
        assert!(read(&answer(200, format!(r#"{{"access_token":{bomb}}}"#))).is_err());
        assert!(read(&answer(400, format!(r#"{{"error":"invalid_request","other":{bomb}}}"#))).is_err());
        for member in ["expires_in", "token_type", "scope", "error", "other"] {
            assert_usable(&answer(200, format!(r#"{{"access_token":"abc","{member}":{bomb}}}"#)));
        }
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}1{}}}"#, open.repeat(1_000), close.repeat(1_000)));
        accepted(&answer_with_token(&json!(format!("a.{claims}.c"))));
    }
}

#[test]
fn an_answer_longer_than_64_kib_is_refused() {
    let padded = |length: usize| {
        let frame = r#"{"access_token":"abc","pad":""}"#.len();
        json!({"access_token": "abc", "pad": "x".repeat(length - frame)}).to_string()
    };
    assert_eq!(padded(64 * 1024).len(), 64 * 1024);
    accepted(&padded(64 * 1024));
    assert!(refusal(padded(64 * 1024 + 1)).to_string().contains("64 KiB"));
}

#[test]
fn a_compressed_answer_is_named() {
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabVJLNN-.\x8e".to_vec();
    assert!(refusal(gzip.clone()).hint().contains("compressed"));
    let brotli = with(answer(200, b"\x8b\x01\x80\x03".to_vec()), "content-encoding", "br");
    assert!(read(&brotli).unwrap_err().hint().contains("compressed"));
    let plain = with(answer(200, "nonsense"), "content-encoding", "identity");
    assert!(!read(&plain).unwrap_err().hint().contains("compressed"));
}

#[test]
fn something_else_than_alvys_is_told_apart() {
    let page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>";
    for (status, body, kind, retryable, words) in [
        (200, page, ErrorKind::Intercepted, true, "HTML page"),
        (403, page, ErrorKind::Intercepted, true, "HTML page"),
        (404, page, ErrorKind::Intercepted, false, "HTML page"),
        (429, page, ErrorKind::Intercepted, true, "HTML page"),
        (501, page, ErrorKind::Intercepted, false, "HTML page"),
        (500, page, ErrorKind::Unavailable, true, "HTML page"),
        (502, page, ErrorKind::Unavailable, true, "HTML page"),
        (504, page, ErrorKind::Unavailable, true, "HTML page"),
        (503, page, ErrorKind::Unavailable, true, "HTML page"),
        (200, " \r\n\u{20}<html>", ErrorKind::Intercepted, true, "HTML page"),
        (200, "\u{feff}<html>", ErrorKind::Intercepted, true, "HTML page"),
        (200, "", ErrorKind::Intercepted, false, "proxy"),
        (200, " \r\n", ErrorKind::Intercepted, false, "proxy"),
        (204, "", ErrorKind::Intercepted, false, "proxy"),
        (407, "", ErrorKind::ProxyCredentials, false, "proxy"),
        (407, page, ErrorKind::ProxyCredentials, false, "proxy"),
        (301, "", ErrorKind::Intercepted, false, "redirect"),
        (302, "", ErrorKind::Intercepted, false, "redirect"),
        (307, "", ErrorKind::Intercepted, false, "redirect"),
        (308, page, ErrorKind::Intercepted, false, "HTML page"),
    ] {
        let error = read(&answer(status, body)).unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body:?}: {error}");
        assert_eq!(error.is_retryable(), retryable, "{status} {body:?}: {error}");
        assert!(error.to_string().contains(words), "{status} {body:?}: {error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
    }
}

#[test]
fn an_error_under_a_success_status_is_an_error() {
    let error = refusal(r#"{"error":"access_denied","error_description":"Unauthorized","access_token":"abc"}"#);
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(error.oauth_code(), Some("access_denied"));

    let error = refusal(r#"{"Title":"One or more validation errors occurred.","Status":400}"#);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("validation errors"), "{error}");
    assert!(error.to_string().contains("the status says success but the body reports an error"), "{error}");

    let error = refusal(r#"{"error":"temporarily_unavailable"}"#);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
}

#[test]
fn a_token_under_a_failure_status_is_no_token() {
    for status in [302, 400, 401, 403, 429, 500, 503] {
        let response = answer(status, r#"{"access_token":"abc","expires_in":3600}"#);
        assert!(read(&response).is_err(), "{status}");
    }
}

/// Whatever is accepted can be sent and lives for some time.
fn assert_usable(response: &Response<Vec<u8>>) {
    for flow in [Flow::current(), Flow::legacy("va336"), Flow::current().expect_organization("va336")] {
        match TokenResponse::from_http(&request(flow), response) {
            Ok(grant) => {
                assert!(grant.lifetime().is_none_or(|lifetime| lifetime >= Duration::from_millis(1)));
                let mut lifecycle = support::lifecycle();
                assert!(lifecycle.adopt(grant, support::at(0)));
                let token = support::used(&mut lifecycle, support::at(0));
                let header = token.header();
                assert!(header.is_sensitive());
                let text = header.to_str().expect("printable");
                assert!(text.starts_with("Bearer ") && text.len() > "Bearer ".len());
                assert_eq!(text.strip_prefix("Bearer "), Some(token.access_token()));
                assert!(token.access_token().bytes().all(|byte| byte.is_ascii_graphic()));
            }
            Err(error) => assert!(!error.to_string().contains(['\n', '\r'])),
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9.e-]{0,6}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from(jwt(&json!({"iat": 1, "exp": 61, "org_name": "va336"})))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((member(), inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn member() -> impl Strategy<Value = String> {
    let names = ["access_token", "expires_in", "token_type", "scope", "error", "error_description", "Errors", "x"];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![6 => Just(200), 4 => 200_u16..600]
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(status in status(), body in vec(any::<u8>(), 0..200)) {
        assert_usable(&answer(status, body));
    }

    #[test]
    fn arbitrary_json_never_panics(status in status(), body in json_value()) {
        assert_usable(&answer(status, body.to_string()));
    }

    #[test]
    fn a_member_of_any_type_never_panics(name in member(), value in json_value(), claims in json_value()) {
        let mut body = json!({"access_token": jwt(&claims), "expires_in": 3600, "token_type": "Bearer"});
        body[name] = value;
        assert_usable(&answer(200, body.to_string()));
    }

    #[test]
    fn a_mutated_answer_never_panics(
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
        status in status(),
    ) {
        let token = jwt(&json!({"iat": 1, "exp": 61, "scope": "load:read", "org_name": "va336"}));
        let mut body = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer", "scope": "load:read"})
            .to_string()
            .into_bytes();
        for (place, byte, kind) in edits {
            let place = place.index(body.len());
            match kind {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => {
                    body.remove(place);
                }
            }
        }
        assert_usable(&answer(status, body));
    }
}
