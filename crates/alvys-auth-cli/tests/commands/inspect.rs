//! What a token says, who vouches for it, and what it may do.

use std::time::Duration;

use alvys_auth_sandbox::{Application, Fault, Route};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{World, ran, ran_with};

/// A token of our own making, signed by nobody.
fn forged(header: &str, claims: &str) -> String {
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn the_claims_are_shown_and_marked_unverified() {
    let world = World::new();
    let text = world.run(&["inspect", "--no-verify"]).text().to_owned();
    let id = world.sandbox.application().client_id().to_owned();
    assert!(text.starts_with("Not verified: the signature was not checked.\n"), "{text}");
    assert_eq!(world.calls("/.well-known/jwks.json"), 0);
    for words in
        ["va336 (org_", &id, "https://api.alvys.com/public/", "RS256", "ago\n", ", in 59 min", "load:read trip"]
    {
        assert!(text.contains(words) || words == "load:read trip", "{words}: {text}");
    }
    assert!(!text.contains(&world.token()));
    let json = world.run(&["inspect", "--no-verify", "--json"]).json();
    assert_eq!((&json["verified"], &json["verified_with"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(json["unverified_because"], "the signature was not checked");
    assert_eq!((&json["organization_name"], &json["expired"]), (&"va336".into(), &false.into()));
    assert_eq!((json["client_id"].as_str(), json["claims"]["azp"].as_str()), (Some(id.as_str()), Some(id.as_str())));
    assert!(json["scopes"].as_array().unwrap().contains(&"load:read".into()));
    assert!((3500..=3600).contains(&json["expires_in"].as_i64().unwrap()));
    assert!(json["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(world.sandbox.tokens_issued(), 1, "the token that `token` prints");
}

#[test]
fn a_signature_is_checked_with_the_issuers_keys_a_file_or_a_url() {
    let world = World::new();
    let url = format!("{}/.well-known/jwks.json", world.sandbox.url());
    let keys = world.run(&["request", "GET", &url]).stdout;
    let file = world.file("keys.json", keys);
    let ways =
        [&["inspect"][..], &["inspect", "--verify"], &["inspect", "--jwks", &file], &["inspect", "--jwks", &url]];
    for arguments in ways {
        let ran = world.run(arguments);
        assert!(
            ran.text().starts_with("Verified: the signature is valid, checked with key "),
            "{arguments:?}: {ran:?}"
        );
    }
    let json = world.run(&["inspect", "--json"]).json();
    assert_eq!((&json["verified"], &json["unverified_because"]), (&true.into(), &serde_json::Value::Null));
    assert!(json["verified_with"].as_str().unwrap().contains(&url));
}

#[test]
fn keys_that_cannot_be_had_leave_a_token_unverified_and_say_why() {
    let world = World::new();
    for (fault, why) in [
        (Fault::reset(), "the public keys cannot be fetched"),
        (Fault::challenge(200), "no JSON Web Key Set"),
        (Fault::redirect(302, "http://127.0.0.1:1/keys"), "(status 302)"),
        (Fault::reply(200, r#"{"keys":[]}"#), "none of the public keys"),
    ] {
        world.sandbox.inject(Route::Keys, fault.once());
        let ran = world.run(&["inspect"]);
        let first = ran.text().lines().next().unwrap();
        assert!(first.starts_with("Not verified: ") && first.contains(why), "{why}: {ran:?}");
        assert!(ran.text().contains("organization  va336"), "{ran:?}");
    }
    for both in [["--no-verify", "--verify"], ["--no-verify", "--jwks=x"]] {
        world.run(&["inspect", both[0], both[1]]).failed(2);
    }
}

#[test]
fn a_wrong_signature_is_told_and_nothing_is_shown() {
    let world = World::new();
    let token = world.token();
    let (header, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.rsplit_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(
        URL_SAFE_NO_PAD.decode(claims).map(|json| String::from_utf8(json).unwrap()).unwrap().replace("va336", "va337"),
    );
    let inspect = |token: &str, arguments: &[&str]| {
        ran_with(&mut world.command(&[&["inspect", "-"], arguments].concat()), token.as_bytes())
    };
    let tampered = format!("{header}.{other}.{signature}");
    for arguments in [&[][..], &["--verify"]] {
        assert!(inspect(&tampered, arguments).failed(76).contains("signature of the token is wrong"));
    }
    let shown = inspect(&tampered, &["--no-verify"]);
    assert!(shown.text().starts_with("Not verified") && shown.text().contains("va337"), "{shown:?}");
    assert!(inspect(&format!("Bearer {token}\n"), &["--verify"]).text().starts_with("Verified"));

    // Who signs with the public key, or not at all, is not believed.
    for alg in ["none", "HS256", "RS512"] {
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let token = forged(&format!(r#"{{"alg":"{alg}"}}"#), &claims);
        let ran = inspect(&token, &["--verify"]);
        assert!(ran.failed(76).contains("not signed with RS256"), "{ran:?}");
        let ran = inspect(&token, &[]);
        assert!(ran.text().starts_with("Not verified: the token is not signed with RS256"), "{ran:?}");
    }
}

#[test]
fn keys_that_are_none_of_this_token_do_not_verify_it() {
    let world = World::new();
    let key = |extra: &str| format!(r#"{{"keys":[{{"kty":"RSA","n":"AQAB","e":"AQAB"{extra}}}]}}"#);
    let url = format!("{}/.well-known/jwks.json", world.sandbox.url());
    let real = String::from_utf8(world.run(&["request", "GET", &url]).stdout).unwrap();
    let cases = [
        (real.replace(r#""use":"sig""#, r#""use":"enc""#), 76, "none of the public keys"),
        (real.replace("RS256", "RS512"), 76, "none of the public keys"),
        (real.replace("RSA", "EC"), 76, "none of the public keys"),
        (r#"{"keys":[]}"#.to_owned(), 76, "none of the public keys"),
        (key(r#","kid":"another""#), 76, "none of the public keys"),
        ("<html>".to_owned(), 78, "not a JSON Web Key Set"),
    ];
    for (keys, code, said) in cases {
        let file = world.file("keys.json", &keys);
        let ran = world.run(&["inspect", "--jwks", &file]);
        assert!(ran.failed(code).contains(said), "{keys}: {ran:?}");
    }
    assert!(world.run(&["inspect", "--jwks", "/nowhere.json"]).failed(78).contains("cannot read"));
    assert!(world.run(&["inspect", "--jwks", "http://keys.example.com/jwks"]).failed(78).contains("trusted"));
    world.sandbox.inject(Route::Keys, Fault::challenge(200).once());
    assert!(world.run(&["inspect", "--verify"]).failed(76).contains("no JSON Web Key Set"));
    world.sandbox.inject(Route::Keys, Fault::redirect(302, "http://127.0.0.1:1/keys").once());
    assert!(world.run(&["inspect", "--verify"]).failed(76).contains("302"), "not followed");
    world.sandbox.inject(Route::Keys, Fault::reset().once());
    assert!(world.run(&["inspect", "--verify"]).failed(69).contains("cannot be fetched"));
    assert_eq!(world.run(&["inspect", "--verify", "--jwks", "x"]).failed(2).lines().count(), 2);
}

#[test]
fn keys_are_not_fetched_from_wherever_a_token_says() {
    let world = World::new();
    let elsewhere = World::new();
    let ran = ran_with(&mut world.command(&["inspect", "-", "--verify"]), elsewhere.token().as_bytes());
    assert!(ran.failed(76).contains("another issuer"), "{ran:?}");
    let ran = ran_with(&mut world.command(&["inspect", "-"]), elsewhere.token().as_bytes());
    assert!(ran.text().starts_with("Not verified: the token is from another issuer"), "{ran:?}");
    assert_eq!(elsewhere.calls("/.well-known/jwks.json"), 0);
}

#[test]
fn a_token_of_the_legacy_flow_is_shown_but_not_verified() {
    let world = World::new();
    assert!(ran(&mut world.legacy(&["inspect"])).text().contains("HS256"));
    assert!(ran(&mut world.legacy(&["inspect", "--verify"])).failed(76).contains("not signed with RS256"));
}

#[test]
fn a_token_in_the_arguments_is_taken_with_a_warning() {
    let world = World::new();
    let token = world.token();
    let ran = ran(&mut world.bare(&["inspect", &token]));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("other users") && !ran.stderr.contains(&token), "{ran:?}");
    assert_eq!(world.sandbox.token_requests(), 1);
}

#[test]
fn what_is_no_token_is_told_without_repeating_it() {
    let world = World::new();
    for text in ["opaque-s3cret", "a.b", "e30.e30", "..", "e30.W10.c2ln", ""] {
        let ran = ran_with(&mut world.bare(&["inspect", "-"]), text.as_bytes());
        assert!(ran.failed(76).contains("not a JSON Web Token") && !ran.stderr.contains("s3cret"), "{ran:?}");
    }
    let given = ran(&mut world.bare(&["inspect", "opaque-s3cret", "--json-errors"]));
    let said: serde_json::Value = serde_json::from_str(given.failed(76)).expect("nothing beside the JSON");
    assert_eq!(said["error"]["code"], 76);
    assert!(world.run(&["inspect", "-", "--secret-stdin"]).failed(2).contains("both"));
    ran_with(&mut world.bare(&["inspect", "-"]), &vec![b'a'; 200_000]).failed(76);
}

#[test]
fn an_expired_token_says_so_and_a_hostile_one_moves_no_terminal() {
    let world = World::new();
    let claims = r#"{"org_name":"\u001b[2Jva336\n\u202eroot","exp":1,"iat":-5,"aud":["a","b"],"scope":"x\u0007y"}"#;
    let token = forged(r#"{"alg":"RS256"}"#, claims);
    let ran = ran_with(&mut world.bare(&["inspect", "-"]), token.as_bytes());
    let text = ran.text();
    assert!(text.contains("1970-01-01T00:00:01Z") && text.contains(" ago"), "{text}");
    assert!(text.contains("[2Jva336 root") && text.contains("a b"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    let json = ran_with(&mut world.bare(&["inspect", "-", "--json"]), token.as_bytes());
    assert_eq!(json.json()["expired"], true);
    assert!(json.json()["expires_in"].as_i64().unwrap() < -1_000_000);
    assert!(json.text().chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{json:?}");
}

#[test]
fn scopes_are_listed_and_required() {
    let world = World::new();
    let listed = world.run(&["scopes"]).text().to_owned();
    assert_eq!(listed.lines().count(), world.sandbox.application().scopes().len());
    assert!(listed.lines().any(|scope| scope == "load:read"));
    assert_eq!(world.run(&["scopes", "--require", "load:read, trip:update"]).text(), "");
    for unset in ["", " ", "load:read,"] {
        assert!(world.run(&["scopes", "--require", unset]).failed(2).contains("--require"));
        assert!(world.run(&["request", "GET", "loads", "--require", unset]).failed(2).contains("--require"));
        world.run(&["doctor", "--require", unset]).failed(2);
    }
    let said = world.run(&["scopes", "--require", "load:read,user:delete,parrot:feed"]).failed(77).to_owned();
    assert!(said.contains("lacks user:delete, parrot:feed\n"), "{said}");
    assert_eq!(world.sandbox.tokens_issued(), 1);
}

#[test]
fn scopes_of_the_legacy_flow_are_to_read() {
    let world = World::new();
    assert_eq!(ran(&mut world.legacy(&["scopes", "--require", "load:read"])).text(), "");
    assert!(ran(&mut world.legacy(&["scopes", "--require", "load:create"])).failed(77).contains("may only read"));
}

#[test]
fn scopes_that_nobody_tells_are_not_taken_for_granted() {
    let world = World::new();
    world.sandbox.add(Application::new("bare", "s3cret", "va336").with_scopes(Vec::<String>::new()));
    world.sandbox.set_lifetime(Duration::from_secs(60));
    let mut command = world.command(&["scopes", "--require", "load:read"]);
    command.env("ALVYS_CLIENT_ID", "bare").env("ALVYS_CLIENT_SECRET", "s3cret");
    assert!(ran(&mut command).failed(76).contains("nothing is known"));
}
