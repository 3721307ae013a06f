//! Decodes a JSON Web Token (RFC 7519) and checks its signature with public keys.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::{Class, Failure};

/// A decoded JSON Web Token. Nothing in it is verified yet.
pub(crate) struct Jwt<'a> {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

/// The public keys of an issuer (RFC 7517).
#[derive(Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Value>,
}

/// One key for RS256.
#[derive(Deserialize)]
pub(crate) struct Key {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    n: String,
    e: String,
}

impl<'a> Jwt<'a> {
    /// Decodes `token`. None when it is not a JWT.
    pub(crate) fn read(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// The algorithm of the signature, as the token names it.
    pub(crate) fn algorithm(&self) -> &str {
        text(&self.header, "alg").unwrap_or("none")
    }

    /// The keys of `keys` that may have signed this token.
    ///
    /// # Errors
    /// When none of them can have signed it.
    pub(crate) fn signers(&self, keys: &KeySet) -> Result<Vec<Key>, Failure> {
        let kid = text(&self.header, "kid");
        let all = keys.keys.iter().filter_map(Key::for_rs256);
        let named: Vec<Key> = all.filter(|key| kid.is_none() || key.kid.as_deref() == kid).collect();
        if named.is_empty() {
            return Err(Failure::new(
                Class::Nonsense,
                "none of the public keys is the one that the token names",
                "check that the keys belong to the token's issuer and are not older than the token",
            ));
        }
        Ok(named)
    }

    /// Whether public keys can verify the signature.
    ///
    /// # Errors
    /// When they cannot, with what to do about it.
    pub(crate) fn verifiable(&self) -> Result<(), Failure> {
        if self.algorithm() == "RS256" {
            return Ok(());
        }
        Err(Failure::new(
            Class::Nonsense,
            "the token is not signed with RS256, so public keys cannot verify it",
            "remove --verify and --jwks: only Alvys can verify tokens of the legacy flow",
        ))
    }

    /// Checks the signature. Returns the id of the key that made it.
    ///
    /// # Errors
    /// When none of `signers` made it.
    pub(crate) fn verify(&self, signers: &[Key]) -> Result<String, Failure> {
        let fitting = signers.iter().find(|key| key.verifies(self.signed.as_bytes(), &self.signature));
        fitting.map(|key| key.kid.clone().unwrap_or_default()).ok_or_else(|| {
            Failure::new(
                Class::Nonsense,
                "the signature of the token is wrong",
                "do not use the token: it was changed or cut short, or another issuer made it; --no-verify shows its claims",
            )
        })
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set. None when `json` is something else.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

impl Key {
    fn for_rs256(key: &Value) -> Option<Self> {
        let key = Self::deserialize(key).ok()?;
        let signs = key.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        (key.kty == "RSA" && signs && key.alg.as_deref().is_none_or(|alg| alg == "RS256")).then_some(key)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let decoded = |number: &str| URL_SAFE_NO_PAD.decode(number).ok();
        let Some((n, e)) = decoded(&self.n).zip(decoded(&self.e)) else { return false };
        RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }
}

/// The text under `name`.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
}
