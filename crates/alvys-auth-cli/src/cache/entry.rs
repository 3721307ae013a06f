//! One file of the cache: a line that describes the token, and after it the token, encrypted and bound to that line.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use alvys_auth_driver::Time;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::Key;
use crate::time::{at_unix_millis, unix_millis};

const VERSION: u32 = 1;

/// How far the wall clock may move against the clock since boot, in milliseconds. Small corrections are normal.
const DRIFT: u64 = 2_000;

/// A kept token, with times of the wall clock.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) access_token: Zeroizing<String>,
    /// The token's scopes, separated by spaces. None when nobody listed them.
    pub(crate) scope: Option<String>,
    pub(crate) obtained_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}

impl Held {
    /// The rest of its lifetime.
    pub(crate) fn left(&self) -> Duration {
        self.expires_at.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// Its whole lifetime.
    pub(crate) fn lifetime(&self) -> Duration {
        self.expires_at.duration_since(self.obtained_at).unwrap_or_default()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("expires_at", &self.expires_at).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The first line of a file. It can be read without the secret, but only the secret proves it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    version: u32,
    pub(crate) client_id: String,
    pub(crate) token_url: String,
    pub(crate) tenant: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) scope: Option<String>,
    /// Milliseconds since 1970.
    obtained_at: u64,
    expires_at: u64,
    /// When the token was obtained, by the clock since boot, and the id of that boot.
    clock: u64,
    boot: Option<String>,
}

impl Description {
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        at_unix_millis(self.expires_at)
    }
}

#[derive(Serialize, Deserialize)]
struct Secret {
    access_token: Zeroizing<String>,
    scope: Option<String>,
}

/// The contents of the file of a token.
pub(super) fn seal(key: &Key, held: &Held) -> Option<Vec<u8>> {
    let about = key.about().clone();
    let age = SystemTime::now().duration_since(held.obtained_at).unwrap_or_default();
    let description = Description {
        version: VERSION,
        client_id: about.client_id,
        token_url: about.token_url,
        tenant: about.tenant,
        audience: about.audience,
        scope: about.scope,
        obtained_at: unix_millis(held.obtained_at),
        expires_at: unix_millis(held.expires_at),
        clock: Time::boot().now().saturating_sub(age).as_millis(),
        boot: boot(),
    };
    let secret = Secret { access_token: held.access_token.clone(), scope: held.scope.clone() };
    let length = secret.access_token.len() + secret.scope.as_ref().map_or(0, String::len);
    // Allocated in full at once, because a buffer that grows leaves copies in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * length + 256));
    serde_json::to_writer(&mut *text, &secret).ok()?;

    let mut contents = serde_json::to_vec(&description).ok()?;
    let sealed = key.seal(&contents, text)?;
    contents.push(b'\n');
    contents.extend_from_slice(&sealed);
    Some(contents)
}

/// The token in a file. If anything is wrong with the file, the error says what.
pub(super) fn open(key: &Key, contents: &[u8], wall: SystemTime) -> Result<Held, &'static str> {
    let (line, sealed) = halves(contents).ok_or("it is corrupt")?;
    let text = key.open(line, sealed).ok_or("it is corrupt, or sealed with another secret")?;
    // The line is proven now: it was written with the secret.
    let description: Description = serde_json::from_slice(line).map_err(|_| "it is of another version")?;
    if description.version != VERSION {
        return Err("it is of another version");
    }
    let Secret { access_token, scope } = serde_json::from_slice(&text).map_err(|_| "it is of another version")?;
    let wall = unix_millis(wall);
    if description.obtained_at > wall {
        return Err("it comes from the future: the clock was set back");
    }
    let age = Time::boot().now().as_millis().checked_sub(description.clock);
    let same_boot = description.boot.is_some() && description.boot == boot();
    if same_boot && age.is_none_or(|age| age.abs_diff(wall - description.obtained_at) > DRIFT) {
        return Err("the clock was set since it was written");
    }
    let (obtained_at, expires_at) = at_unix_millis(description.obtained_at)
        .zip(at_unix_millis(description.expires_at))
        .ok_or("its times are not valid")?;
    Ok(Held { access_token, scope, obtained_at, expires_at })
}

/// The description in the first line of a file.
pub(super) fn describe(contents: &[u8]) -> Option<Description> {
    serde_json::from_slice(halves(contents)?.0).ok()
}

fn halves(contents: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = contents.iter().position(|byte| *byte == b'\n')?;
    Some((contents.get(..end)?, contents.get(end + 1..)?))
}

/// The id of this boot of this machine, if the system has one. Times of the clock since boot are only valid within it.
fn boot() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use alvys_auth_core::{Credentials, Flow};

    use super::*;

    fn key(secret: &str) -> Key {
        Key::of(&Flow::current(), &Credentials::new("my-client", secret).unwrap()).unwrap()
    }

    fn held() -> Held {
        let obtained_at = SystemTime::now();
        Held {
            access_token: Zeroizing::new("an.access.token".to_owned()),
            scope: Some("load:read".to_owned()),
            obtained_at,
            expires_at: obtained_at + Duration::from_secs(3600),
        }
    }

    #[test]
    fn what_was_sealed_is_read_again() {
        let (key, held) = (key("s3cret"), held());
        let read = open(&key, &seal(&key, &held).unwrap(), SystemTime::now()).unwrap();
        assert_eq!((&read.access_token, &read.scope), (&held.access_token, &held.scope));
        assert_eq!(unix_millis(read.expires_at), unix_millis(held.expires_at));
    }

    #[test]
    fn another_secret_opens_nothing_and_looks_elsewhere() {
        let contents = seal(&key("s3cret"), &held()).unwrap();
        assert!(open(&key("another"), &contents, SystemTime::now()).is_err());
        assert_ne!(key("s3cret").name(), key("another").name());
    }

    #[test]
    fn no_two_files_have_the_same_nonce() {
        let (key, held) = (key("s3cret"), held());
        let nonce = || {
            let contents = seal(&key, &held).unwrap();
            halves(&contents).unwrap().1[..12].to_vec()
        };
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn a_file_from_the_future_is_ignored() {
        let key = key("s3cret");
        let contents = seal(&key, &held()).unwrap();
        let wall = SystemTime::now() - Duration::from_secs(1);
        assert!(open(&key, &contents, wall).unwrap_err().contains("future"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_is_ignored_once_the_clock_was_set() {
        let key = key("s3cret");
        let contents = seal(&key, &held()).unwrap();
        let wall = SystemTime::now() + Duration::from_secs(600);
        assert!(open(&key, &contents, wall).unwrap_err().contains("clock was set"));
        // Obtained ten minutes ago, and the clock went back by five since.
        let mut older = held();
        older.obtained_at -= Duration::from_secs(600);
        let contents = seal(&key, &older).unwrap();
        assert!(open(&key, &contents, SystemTime::now()).is_ok());
        let wall = SystemTime::now() - Duration::from_secs(300);
        assert!(open(&key, &contents, wall).unwrap_err().contains("clock was set"));
    }

    #[test]
    fn nothing_debugs_the_token() {
        assert!(!format!("{:?} {:?}", held(), key("s3cret")).contains("an.access.token"));
    }
}
