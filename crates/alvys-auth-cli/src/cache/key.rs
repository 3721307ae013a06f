//! The name and the encryption key of a cached token. Both are derived from the client secret.

use std::fmt;

use alvys_auth_core::{Credentials, Encoding, Flow, TokenRequest};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::Failure;

const SALT: &[u8] = b"alvys-auth token cache, version 1";

/// The key of one token. Without the client secret, nobody can tell the name of its file or read it.
pub(crate) struct Key {
    name: String,
    sealing: LessSafeKey,
    about: About,
}

/// The token request of a token, without the secret.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) client_id: String,
    /// The token URL without its query, which may contain a key.
    pub(crate) token_url: String,
    pub(crate) tenant: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) scope: Option<String>,
}

/// The body of the token request as JSON.
#[derive(Deserialize)]
struct Body {
    client_id: String,
    client_secret: Zeroizing<String>,
    audience: Option<String>,
    scope: Option<String>,
}

impl Key {
    /// The key of the token for this flow and these credentials.
    ///
    /// # Errors
    /// When flow and credentials are not valid.
    pub(crate) fn of(flow: &Flow, credentials: &Credentials) -> Result<Self, Failure> {
        let failed =
            || Failure::configuration("the key for the cache cannot be made", "use --no-cache, and report this error");
        // Only the request contains all values, defaults included.
        let request = TokenRequest::new(flow.clone().encoding(Encoding::Json), credentials.clone())?.to_http();
        let (parts, body) = request.into_parts();
        let body = Zeroizing::new(body);
        let body: Body = serde_json::from_slice(&body).map_err(|_| failed())?;
        let uri = &parts.uri;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let about = About {
            client_id: body.client_id,
            token_url: format!("{}://{authority}{}", uri.scheme_str().unwrap_or_default(), uri.path()),
            tenant: flow.tenant().map(str::to_owned),
            audience: body.audience,
            scope: body.scope,
        };
        let whole = uri.to_string();
        let flow = if flow.is_legacy() { "legacy" } else { "current" };
        let About { client_id, tenant, audience, scope, .. } = &about;
        let optional = [tenant, audience, scope].map(|value| value.as_deref().unwrap_or_default());
        let fields: Vec<&str> = [whole.as_str(), flow, client_id].into_iter().chain(optional).collect();
        // In JSON, two different lists of fields are never the same text.
        let fields = serde_json::to_string(&fields).map_err(|_| failed())?;

        let prk = Salt::new(HKDF_SHA256, SALT).extract(body.client_secret.as_bytes());
        let mut name = [0; 16];
        expand(&prk, b"name", &fields, &mut name).ok_or_else(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        expand(&prk, b"seal", &fields, key.as_mut_slice()).ok_or_else(failed)?;
        let sealing = UnboundKey::new(&AES_256_GCM, key.as_slice()).map(LessSafeKey::new).map_err(|_| failed())?;
        let name = name.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name, sealing, about })
    }

    /// The name of the token's file, without the extension.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// Encrypts `text` and binds it to `bound`. The result is the nonce and the encrypted text.
    pub(crate) fn seal(&self, bound: &[u8], mut text: Zeroizing<Vec<u8>>) -> Option<Vec<u8>> {
        // Room for the tag too, so that the text is encrypted in place.
        text.reserve(AES_256_GCM.tag_len());
        // From the system, because the library's own generator takes tens of milliseconds to start.
        let mut sealed = vec![0; NONCE_LEN];
        getrandom::fill(&mut sealed).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed).ok()?;
        self.sealing.seal_in_place_append_tag(nonce, Aad::from(bound), &mut *text).ok()?;
        sealed.extend_from_slice(&text);
        Some(sealed)
    }

    /// Decrypts the text. None when it was not encrypted with this key and bound to `bound`.
    pub(crate) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.sealing.open_in_place(nonce, Aad::from(bound), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("about", &self.about).finish_non_exhaustive()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Whether `stem` is a name of ours without its extension: 16 bytes in hexadecimal digits.
pub(super) fn is_name(stem: &str) -> bool {
    stem.len() == 32 && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn expand(prk: &Prk, purpose: &[u8], fields: &str, out: &mut [u8]) -> Option<()> {
    prk.expand(&[purpose, b" ", fields.as_bytes()], Length(out.len())).ok()?.fill(out).ok()
}
