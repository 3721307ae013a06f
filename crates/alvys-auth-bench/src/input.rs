//! The input of every measurement, as large and as awkward as the real one.

use alvys_auth_core::{Credentials, Flow, TokenRequest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde_json::json;

/// 32 characters, as Alvys hands them out.
pub const CLIENT_ID: &str = "kT7wQm2ZxV9bR4nL8cYpJ5sD1hG6fA3e";
/// 64 characters, some of which a form or a JSON text has to escape.
pub const CLIENT_SECRET: &str = r#"p+8&Zr=4%Nw/7"Kc_Xm-Q2~vT9yBd3Lh6Js\1GfPa5UeHoRiWkCzVtMxDqSnEbYj"#;
/// The audience of the public API.
pub const AUDIENCE: &str = "https://api.alvys.com/public/";
/// The 15 scopes of a typical integration.
pub const SCOPES: &str = "carrier:read customer:read customer:update dispatch:read driver:read fuel:read invoice:read \
                          load:create load:read load:update maintenance:read trailer:read trip:read trip:update truck:read";
/// How long a token lives unless a measurement wants another lifetime, in seconds.
pub const LIFETIME: u64 = 3600;

/// The token endpoint that requests are built for where none is called.
pub const ENDPOINT: &str = "https://auth.alvys.com/oauth/token";
/// When the token says that it was issued, in Unix seconds.
const ISSUED_AT: u64 = 1_767_225_600;
/// How long the signature of a 2,048-bit RSA key is, in bytes.
const SIGNATURE: usize = 256;

/// A token of 1,200 characters with the claims that Alvys puts in. Its signature is of the right length and verifies
/// nothing.
#[must_use]
pub fn access_token() -> String {
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "N0QxRkE5QzY3RTJCNDg1MDk3MkEx" });
    let claims = json!({
        "iss": "https://auth.alvys.com/",
        "sub": format!("{CLIENT_ID}@clients"),
        "aud": AUDIENCE,
        "iat": ISSUED_AT,
        "exp": ISSUED_AT + LIFETIME,
        "scope": SCOPES,
        "gty": "client-credentials",
        "azp": CLIENT_ID,
        "client_name": "Warehouse sync, production, run by the integrations team!",
        "org_id": "org_Vb3cT9wQm2ZxL7Kd",
        "org_name": "va336",
        "jti": "q7Lw2ZkT9bR4nX8cVpJ5sD",
    });
    let signature: Vec<u8> = (0..SIGNATURE).map(|index| (index * 89 + 41) as u8).collect();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()), part(&signature))
}

/// The body of a successful answer, member by member as the token endpoint writes it.
#[must_use]
pub fn answer_body(lifetime: u64) -> String {
    let token = access_token();
    format!(r#"{{"access_token":"{token}","scope":"{SCOPES}","expires_in":{lifetime},"token_type":"Bearer"}}"#)
}

/// A successful answer as an HTTP client hands it over, with the headers the token endpoint sends.
///
/// # Panics
/// Never: all values are constants.
#[must_use]
pub fn answer() -> Response<Vec<u8>> {
    let body = answer_body(LIFETIME).into_bytes();
    Response::builder()
        .header("date", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("cache-control", "no-store")
        .header("pragma", "no-cache")
        .header("x-auth0-requestid", "4b7e1c9a2d5f8036ae41")
        .header("strict-transport-security", "max-age=31536000; includeSubDomains")
        .body(body)
        .expect("constant headers")
}

/// The credentials above.
///
/// # Panics
/// Never: both values are constants.
#[must_use]
pub fn credentials() -> Credentials {
    Credentials::new(CLIENT_ID, CLIENT_SECRET).expect("constant credentials")
}

/// The request of the current flow.
///
/// # Panics
/// Never: all values are constants.
#[must_use]
pub fn request() -> TokenRequest {
    TokenRequest::new(Flow::current(), credentials()).expect("constant values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_as_large_as_it_says() {
        assert_eq!(CLIENT_ID.len(), 32);
        assert_eq!(CLIENT_SECRET.len(), 64);
        assert_eq!(access_token().len(), 1200);
        assert_eq!(SCOPES.split(' ').count(), 15);
    }
}
