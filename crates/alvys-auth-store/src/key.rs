//! The name of a shared token, and the key that seals what is stored under it.

use std::fmt::{self, Write as _};

use alvys_auth_core::share::{Answer, Id, Operation, SharedToken, Subject};
use alvys_auth_core::{Error, TokenRequest, TokenResponse};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

use crate::{SealedAnswer, SealedOperation};

const SALT: &[u8] = b"alvys-auth shared token, version 1";

/// The name of an entry: 32 hexadecimal digits that stand for the token request without its secret, a hyphen, and 4 digits
/// that stand for the secret.
///
/// So the processes that use the old and the new secret of a rotation do not overwrite each other's tokens. Whoever sees only
/// names learns 16 bits about a secret, which is next to nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a name that a store shows.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (request, secret) = name.split_once('-')?;
        let hexadecimal = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let whole = request.len() == 32 && secret.len() == 4 && hexadecimal(request) && hexadecimal(secret);
        whole.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a token request at a store: the [`Name`] of its entry, and a key for sealing that is derived from the
/// client secret.
///
/// Entries are encrypted with AES-256-GCM. The whole [identity](TokenRequest::identity) of the request is authenticated with
/// each entry, and so are the kind of the entry and the id of its token. An entry that was moved to another name, or
/// exchanged, does not open.
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_core::share::{Cell, Id, Operation};
/// use alvys_auth_core::{Credentials, Flow, Timestamp, TokenRequest, TokenResponse};
/// use alvys_auth_store::Key;
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let key = Key::of(&request)?;
/// let lifetime = Duration::from_secs(3600);
/// let token = TokenResponse::new("an.access.token", lifetime, "load:read")?;
/// let [owner, generation] = [Id::from_bytes([1; 16]), Id::from_bytes([2; 16])];
/// let publish = Operation::Publish { owner, replaced: None, generation, token, lifetime };
///
/// let sealed = key.seal(publish)?;
/// assert!(!format!("{sealed:?}").contains("an.access.token"));
/// let answer = key.open(Cell::default().run(sealed, Timestamp::from_millis(0)));
/// let shared = answer.token.and_then(|found| found.token).expect("a token");
/// assert!(shared.scopes().contains("load:read"));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
pub struct Key {
    name: Name,
    identity: String,
    sealing: LessSafeKey,
}

impl Key {
    /// The key of the token that `request` gets.
    ///
    /// # Errors
    /// When the system has no randomness, which it always has.
    pub fn of(request: &TokenRequest) -> Result<Self, Error> {
        Self::about(&request.clone().into())
    }

    /// The key of the entry about `subject`.
    ///
    /// # Errors
    /// When the system has no randomness, which it always has.
    pub fn about(subject: &Subject) -> Result<Self, Error> {
        let identity = subject.identity();
        let secret = Salt::new(HKDF_SHA256, SALT).extract(subject.request().client_secret().as_bytes());
        let mut tag = [0; 2];
        expand(&secret, b"name", &identity, &mut tag).ok_or_else(broken)?;
        let mut key = Zeroizing::new([0; 32]);
        expand(&secret, b"seal", &identity, key.as_mut_slice()).ok_or_else(broken)?;
        let sealing = UnboundKey::new(&AES_256_GCM, key.as_slice()).map(LessSafeKey::new).map_err(|_| broken())?;
        let hash = digest(&SHA256, identity.as_bytes());
        let mut name = String::with_capacity(32 + 1 + 4);
        let mut write =
            |bytes: &[u8]| bytes.iter().try_for_each(|byte| write!(name, "{byte:02x}")).map_err(|_| broken());
        write(hash.as_ref().get(..16).unwrap_or_default())?;
        write(&tag)?;
        name.insert(32, '-');
        Ok(Self { name: Name(name), identity, sealing })
    }

    /// The name of the entry.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Seals the operation for the store.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, operation: Operation<TokenResponse, Error>) -> Result<SealedOperation, Error> {
        Ok(match operation {
            Operation::Look => Operation::Look,
            Operation::Claim { owner, unwanted, lease } => Operation::Claim { owner, unwanted, lease },
            Operation::Reject { generation, grace } => Operation::Reject { generation, grace },
            Operation::Publish { owner, replaced, generation, token, lifetime } => {
                let token = self.sealed(&Bound::Token(generation), &Zeroizing::new(token.to_entry()))?;
                Operation::Publish { owner, replaced, generation, token, lifetime }
            }
            Operation::Fail { owner, failure, pause } => {
                let failure = self.sealed(&Bound::Failure, &failure.to_entry())?;
                Operation::Fail { owner, failure, pause }
            }
            _ => return Err(broken()),
        })
    }

    /// Opens the answer of the store. An entry that does not open was sealed with another secret, or is damaged. It
    /// counts as absent.
    #[must_use]
    pub fn open(&self, answer: SealedAnswer) -> Answer<TokenResponse, Error> {
        let Answer { outcome, token, busy_for, pause } = answer;
        let token = token.map(|SharedToken { generation, age, left, token }| {
            let opened = token.and_then(|token| self.opened(&Bound::Token(generation), &token));
            let token = opened.and_then(|text| TokenResponse::from_entry(&text, age.saturating_add(left)));
            SharedToken { generation, age, left, token }
        });
        let pause = pause.map(|(failure, left)| {
            let opened = failure.and_then(|failure| self.opened(&Bound::Failure, &failure));
            (opened.and_then(|text| Error::from_entry(&text, left)), left)
        });
        Answer { outcome, token, busy_for, pause }
    }

    fn sealed(&self, bound: &Bound, text: &str) -> Result<String, Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| broken())?;
        // The buffer has room for the tag, because a buffer that grows leaves copies of the text in memory.
        let mut sealed = Zeroizing::new(Vec::with_capacity(text.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(text.as_bytes());
        let aad = Aad::from(self.bound(bound));
        self.sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *sealed)
            .map_err(|_| broken())?;
        Ok(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn opened(&self, bound: &Bound, sealed: &str) -> Option<Zeroizing<String>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self.sealing.open_in_place(nonce, Aad::from(self.bound(bound)), &mut text).ok()?;
        Some(Zeroizing::new(std::str::from_utf8(opened).ok()?.to_owned()))
    }

    fn bound(&self, bound: &Bound) -> String {
        match bound {
            Bound::Token(generation) => format!("token {generation} {}", self.identity),
            Bound::Failure => format!("failure {}", self.identity),
        }
    }
}

/// The data that an entry is authenticated with, apart from the identity of the request.
enum Bound {
    Token(Id),
    Failure,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(secret: &Prk, purpose: &[u8], identity: &str, out: &mut [u8]) -> Option<()> {
    secret.expand(&[purpose, b" ", identity.as_bytes()], Length(out.len())).ok()?.fill(out).ok()
}

fn broken() -> Error {
    Error::configuration(
        "the shared token cannot be sealed: the system gives no random numbers",
        "check the system, or share no tokens",
    )
}
