//! Keys and signatures (RS256 for current tokens, HS256 for legacy ones), and random text.

use std::{fmt, sync::LazyLock};

use aws_lc_rs::{
    digest, hmac, rand,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Value, json};

/// Shared by all sandboxes of a process, because making an RSA key takes a noticeable part of a second.
static RSA_KEY: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);

/// The keys of one sandbox.
pub(crate) struct Keys {
    rsa: &'static RsaKey,
    hmac: hmac::Key,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { rsa: &RSA_KEY, hmac: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()) }
    }

    /// A JWT signed with the RSA key.
    pub(crate) fn sign_rs256(&self, claims: &impl Serialize) -> String {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.rsa.id});
        signed(&header, claims, |message| self.rsa.sign(message))
    }

    /// A JWT signed with the secret key of the sandbox.
    pub(crate) fn sign_hs256(&self, claims: &impl Serialize) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        signed(&header, claims, |message| hmac::sign(&self.hmac, message).as_ref().to_vec())
    }

    /// The algorithm and the claims of a JWT that these keys signed. None for anything else.
    pub(crate) fn verify(&self, token: &str) -> Option<(Algorithm, Value)> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let header: Value = decoded(header)?;
        let algorithm = match header["alg"].as_str()? {
            "RS256" => self.rsa.verifies(message.as_bytes(), &signature).then_some(Algorithm::Rs256)?,
            "HS256" => hmac::verify(&self.hmac, message.as_bytes(), &signature).is_ok().then_some(Algorithm::Hs256)?,
            _ => return None,
        };
        Some((algorithm, decoded(claims)?))
    }

    /// The public key as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> Value {
        json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.rsa.id,
            "n": URL_SAFE_NO_PAD.encode(&self.rsa.public.n),
            "e": URL_SAFE_NO_PAD.encode(&self.rsa.public.e),
        }]})
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("kid", &self.rsa.id).finish_non_exhaustive()
    }
}

/// How a verified token was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Hs256,
}

/// `N` random bytes, fit for cryptography.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// `length` random letters and digits.
pub(crate) fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).expect("the system has randomness");
    bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct RsaKey {
    pair: KeyPair,
    public: RsaPublicKeyComponents<Vec<u8>>,
    id: String,
}

impl RsaKey {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a 2048-bit key can be made");
        let public = RsaPublicKeyComponents::from(pair.public_key());
        let id = hex(&digest::digest(&digest::SHA256, &public.n).as_ref()[..11]);
        Self { pair, public, id }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut signature)
            .expect("a 2048-bit key can sign");
        signature
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }
}

fn signed(header: &Value, claims: &impl Serialize, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let claims = serde_json::to_vec(claims).expect("claims are plain data");
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn decoded(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
