//! What an error keeps of the server's own words: little, in one line, and nothing that must not be seen.

use alvys_auth_core::{Credentials, Error, ErrorKind, Flow, TokenRequest, TokenResponse, echoes, is_invisible};
use base64::prelude::*;

use crate::support::{answer, jwt, read, with};

mod support;

/// What is told of a refusal in which the server says `said`, to a client whose secret is `secret`.
fn told(secret: &str, said: &str) -> Error {
    let credentials = Credentials::new("my-client", secret).expect("legal");
    let request = TokenRequest::new(Flow::current(), credentials).expect("legal");
    let body = serde_json::json!({"error": "invalid_request", "error_description": said}).to_string();
    let response = answer(400, body);
    TokenResponse::from_http(&request, &response).expect_err("a refusal")
}

#[test]
fn what_the_server_said_is_kept_short() {
    let line = told("s3cret", &"🚚".repeat(5000)).to_string();
    assert!(line.contains(&format!("{}…", "🚚".repeat(200))), "{line}");
    assert!(!line.contains(&"🚚".repeat(201)), "{line}");
    let line = told("s3cret", &"four ".repeat(40)).to_string();
    assert!(line.contains(&format!("\"{}\"", "four ".repeat(40).trim())), "{line}");
}

#[test]
fn what_may_be_a_token_is_struck_from_what_the_server_said() {
    for token in
        ["eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln", "bXktY2xpZW50OnRyMHViNGRvcg+tr0ub4dor/tr0ub4dor", &"0".repeat(41)]
    {
        let line = told("s3cret", &format!("bad token '{token}' for client {}", "c".repeat(32))).to_string();
        assert!(!line.contains(token) && line.contains(&"c".repeat(32)), "{line}");
    }
}

#[test]
fn what_the_server_said_is_one_line_of_printable_text() {
    let line =
        told("s3cret", "one\r\ntwo\n\n three\u{1b}[31m\0four\u{85}five\u{2028}six\u{7f}\tseven \u{9b}2J").to_string();
    assert!(line.contains("\"one two three [31m four five six seven 2J\""), "{line}");
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

#[test]
fn our_secret_is_struck_from_what_the_server_said() {
    let secret = "tr0ub4dor&3+\"\\ ünïcode";
    let form = "tr0ub4dor%263%2B%22%5C+%C3%BCn%C3%AFcode";
    let json = r#"tr0ub4dor&3+\"\\ ünïcode"#;
    let url = "TR0UB4DOR%263%2b%22%5c%20%c3%bcn%c3%afcode";
    for spelling in [secret, form, json, url] {
        let error = told(secret, &format!("bad client_secret={spelling} for my-client"));
        for shown in [error.to_string(), format!("{error:?}"), format!("{error:#?}")] {
            assert!(shown.contains("withheld, because it repeats the secret"), "{shown}");
            assert!(!shown.contains("tr0ub4dor") && !shown.contains("ünïcode"), "{shown}");
        }
    }
}

#[test]
fn an_echo_of_our_secret_is_struck_in_whatever_form_it_comes() {
    let secret = "Zq7+w&K9\"vB2<mN4/xR8";
    let html =
        |text: &str| text.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('+', "&#x2B;");
    let url = |text: &str| {
        text.replace('%', "%25").replace('+', "%2B").replace('&', "%26").replace('"', "%22").replace('/', "%2f")
    };
    let json = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"").replace('&', "\\u0026").replace('/', "\\/");
    let all: String = secret.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    let backwards: String = secret.chars().rev().collect();
    for echo in [
        secret.to_lowercase(),
        secret[..14].to_owned(),
        secret[6..].to_owned(),
        format!("{} … {}", &secret[..12], "the rest is gone"),
        secret.chars().map(|c| format!("{c}-")).collect(),
        secret.chars().map(|c| format!("{c}\u{ad}\n")).collect(),
        html(secret),
        html(&html(secret)),
        url(secret),
        url(&url(secret)),
        url(&url(&url(secret))),
        json(secret),
        json(&json(secret)),
        url(&json(secret)),
        all,
        backwards.clone(),
        html(&backwards),
    ] {
        let shown = told(secret, &format!("bad secret <{echo}>")).to_string();
        assert!(shown.contains("withheld, because it repeats the secret"), "{echo}: {shown}");
    }
    let standard = "eDogWnE3K3cmSzkidkIyPG1ONC94Ujg=";
    let encoded = |before: &str, after: &str| BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(encoded("x: ", ""), standard);
    for before in ["", "i", "id", "id:", "client"] {
        for after in ["", ".", ".."] {
            let echo = encoded(before, after);
            assert!(echoes(&format!("no: {echo}"), secret), "{echo}");
            assert!(echoes(&url(&echo), secret) && echoes(&json(&echo), secret), "{echo}");
            assert!(echoes(&echo.replace('+', "-").replace('/', "_"), secret), "{echo}");
            assert!(echoes(&echo[8..22], secret), "{echo}");
        }
    }
    for echo in [hex.clone(), hex.to_uppercase(), hex[10..20].to_owned(), format!("0x{}", &hex[..10])] {
        assert!(echoes(&echo, secret), "{echo}");
    }
    // No ten characters in a row are the same in both alphabets of base64.
    assert!(echoes("no: Pz4/Pj8+Pz4/Pj8+", "?>?>?>?>?>?>") && echoes("no: Pz4_Pj8-Pz4_Pj8-", "?>?>?>?>?>?>"));
    let colons: String = secret.bytes().map(|byte| format!("{byte:02X}:")).collect();
    assert!(echoes(&colons, secret), "{colons}");
    assert!(!echoes(&hex[..9], secret) && !echoes(&standard[4..13], secret));
    assert!(!echoes(&standard.to_lowercase(), secret), "another text");
    for other in ["Zq7+w&K9\"v", "bad client_secret", "", "%", "&", "\\", "&#xfffffff;", "\\u12", "&;"] {
        assert!(!echoes(other, secret), "{other}");
    }
    assert!(echoes("no: ?!§", "?!§") && !echoes("no: ?!", "?!§"), "a short one is compared whole");
    assert!(!echoes("anything", ""));
}

#[test]
fn nothing_that_hides_in_a_text_is_shown() {
    let hidden =
        ['\u{61c}', '\u{ad}', '\u{e0041}', '\u{e007f}', '\u{200b}', '\u{2066}', '\u{fe0f}', '\u{180e}', '\u{7}'];
    let line = told("s3cret", &format!("o{}k", String::from_iter(hidden))).to_string();
    assert!(hidden.iter().all(|c| is_invisible(*c) && !line.contains(*c)), "{line:?}");
    assert!(line.contains("\"o k\""), "{line:?}");
    assert!("aß漢🚚\u{301}".chars().all(|c| !is_invisible(c)));
}

#[test]
fn our_secret_is_struck_wherever_the_server_puts_it() {
    let credentials = Credentials::new("my-client", "tr0ub4dor").unwrap();
    let request = TokenRequest::new(Flow::current(), credentials).unwrap();
    for body in [
        r#"{"error":"tr0ub4dor"}"#,
        r#"{"error":"x","error_description":"tr0ub4dor"}"#,
        r#"{"error":"x","error_uri":"https://tr0ub4dor.example/TR0UB4DOR"}"#,
        r#"{"Title":"tr0ub4dor"}"#,
        r#"{"detail":"tr0ub4dor"}"#,
        r#"{"message":"tr0ub4dor"}"#,
        r#"{"errors":{"tr0ub4dor":["tr0ub4dor"]}}"#,
        "tr0ub4dor",
        "<html>tr0ub4dor",
    ] {
        for status in [200, 400, 500] {
            let response = with(answer(status, body), "x-request-id", "tr0ub4dor");
            let error = TokenResponse::from_http(&request, &response).unwrap_err();
            let facts = (error.oauth_code(), error.oauth_description(), error.error_uri(), error.request_id());
            assert!(!format!("{error} {error:?} {facts:?}").to_lowercase().contains("tr0ub4dor"));
        }
    }
}

#[test]
fn a_secret_is_struck_before_the_text_is_cut() {
    let line = told("tr0ub4dor-tr0ub4dor", &format!("{} tr0ub4dor-tr0ub4dor", "a".repeat(190))).to_string();
    assert!(!line.contains("tr0ub"), "{line}");
}

#[test]
fn what_looks_like_a_token_is_struck() {
    let token = jwt(&serde_json::json!({"sub": "my-client@clients"}));
    let line = told("s3cret", &format!("token {token} or \"Bearer {token}\" is bad")).to_string();
    assert!(!line.contains("eyJ") && line.contains("token [token] or"), "{line}");
    let line = told("s3cret", "eyJ is how a token begins").to_string();
    assert!(line.contains("eyJ is how a token begins"), "{line}");
}

#[test]
fn a_body_of_no_known_shape_is_not_repeated() {
    for body in ["plain text that somebody wrote", r#"{"other":"plain text"}"#, r#"["plain text"]"#, r#""plain text""#]
    {
        let error = read(&answer(400, body)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("plain text"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
}

#[test]
fn a_driver_error_names_its_step_and_keeps_its_source_apart() {
    let error = Error::transport("the connection failed", std::io::Error::other("connection refused"));
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(error.is_retryable());
    assert!(!error.to_string().contains("refused"), "{error}");
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.to_string(), "connection refused");

    let error = Error::timed_out("no access token arrived in time");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.is_retryable() && std::error::Error::source(&error).is_none());
}
