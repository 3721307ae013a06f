//! The claims of a token: found wherever they stand, and nowhere in what is no JWT.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::{accepted, answer_with_token};

mod support;

#[test]
fn a_claim_may_stand_anywhere_and_be_of_any_type() {
    for filler in [0, 1, 2, 3, 100, 101, 102, 5000] {
        let others = format!(
            r#""iss":"{}","esc":"\"exp\":9,\u00e9\\","n":-1.5e3,"t":true,"z":null,"l":[{{"exp":1}},"iat"],"o":{{"iat":5}}"#,
            "x".repeat(filler)
        );
        for claims in [
            format!(r#"{{"iat":100,"exp":700,{others}}}"#),
            format!(r#"{{{others},"exp":700,"iat":100}}"#),
            format!(r#"{{"exp":"700",{others},"iat":100.0}}"#),
            format!("\r\n{{\t\"exp\" : 700 , {others} , \"iat\": 100 }} "),
        ] {
            for payload in [URL_SAFE_NO_PAD.encode(&claims), URL_SAFE.encode(&claims)] {
                let grant = accepted(&answer_with_token(&json!(format!("h.{payload}.s"))));
                assert_eq!(grant.lifetime(), Some(Duration::from_secs(600)), "{claims}");
                assert_eq!(grant.unverified_claims().and_then(|claims| claims.expires_at), Some(700), "{claims}");
                assert_eq!(grant.warning(), None, "{claims}");
            }
        }
    }
}

#[test]
fn a_payload_with_a_wrong_character_anywhere_makes_the_token_opaque() {
    let payload = URL_SAFE_NO_PAD.encode(json!({"exp": 700, "iat": 100, "iss": "x".repeat(300)}).to_string());
    for at in 0..payload.len() {
        for wrong in ["!", "+", "/", "="] {
            let mut payload = payload.clone();
            payload.replace_range(at..=at, wrong);
            let grant = accepted(&json!({"access_token": format!("h.{payload}.s")}).to_string());
            assert_eq!(grant.lifetime(), None, "{wrong} at {at}");
            assert!(grant.warning().is_some(), "{wrong} at {at}");
        }
    }
}

#[test]
fn only_a_token_of_three_parts_has_claims() {
    let payload = URL_SAFE_NO_PAD.encode(json!({"exp": 700, "iat": 100}).to_string());
    let lifetime = |token: String| accepted(&json!({"access_token": token}).to_string()).lifetime();
    assert_eq!(lifetime(format!("h.{payload}.s")), Some(Duration::from_secs(600)));
    assert_eq!(lifetime(format!(".{payload}.")), Some(Duration::from_secs(600)));
    for token in
        [format!("h.{payload}"), format!("h.{payload}.s.t"), format!("h.i.{payload}.s"), format!("{payload}.h.s")]
    {
        assert_eq!(lifetime(token.clone()), None, "{token}");
    }
}
