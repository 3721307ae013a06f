//! One file: a line that says what it holds, and behind it the token, sealed and bound to that line.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use alvys_auth_driver::now;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::Key;
use crate::time::{at_unix_millis, unix_millis};

const VERSION: u32 = 1;

/// How far the wall clock may move against the clock that counts from boot, in milliseconds: a little is corrected always.
const DRIFT: u64 = 2_000;

/// A token with its times on the wall clock, as it is kept and handed out.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) access_token: Zeroizing<String>,
    /// What the token may do, between spaces; none where nobody listed it.
    pub(crate) scope: Option<String>,
    pub(crate) obtained_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}

impl Held {
    /// How long it may still be used.
    pub(crate) fn left(&self) -> Duration {
        self.expires_at.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// How long it lives altogether.
    pub(crate) fn lifetime(&self) -> Duration {
        self.expires_at.duration_since(self.obtained_at).unwrap_or_default()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("expires_at", &self.expires_at).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The first line of a file: readable without the secret, and not to be trusted without it.
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
    /// When it was obtained on the clock that counts from boot, and which boot that was.
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

/// The contents of a file.
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
        clock: now().saturating_sub(age).as_millis(),
        boot: boot(),
    };
    let secret = Secret { access_token: held.access_token.clone(), scope: held.scope.clone() };
    let length = secret.access_token.len() + secret.scope.as_ref().map_or(0, String::len);
    // Made in full at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * length + 256));
    serde_json::to_writer(&mut *text, &secret).ok()?;

    let mut contents = serde_json::to_vec(&description).ok()?;
    let sealed = key.seal(&contents, text)?;
    contents.push(b'\n');
    contents.extend_from_slice(&sealed);
    Some(contents)
}

/// The token of a file, unless something about it is not as it should be; then what.
pub(super) fn open(key: &Key, contents: &[u8], wall: SystemTime) -> Result<Held, &'static str> {
    let (line, sealed) = halves(contents).ok_or("it is corrupt")?;
    let text = key.open(line, sealed).ok_or("it is corrupt, or sealed with another secret")?;
    // From here on the line is what was written with the secret.
    let description: Description = serde_json::from_slice(line).map_err(|_| "it is of another version")?;
    if description.version != VERSION {
        return Err("it is of another version");
    }
    let Secret { access_token, scope } = serde_json::from_slice(&text).map_err(|_| "it is of another version")?;
    let wall = unix_millis(wall);
    if description.obtained_at > wall {
        return Err("it comes from the future: the clock was set back");
    }
    let age = now().as_millis().checked_sub(description.clock);
    let same_boot = description.boot.is_some() && description.boot == boot();
    if same_boot && age.is_none_or(|age| age.abs_diff(wall - description.obtained_at) > DRIFT) {
        return Err("the clock was set since it was written");
    }
    let (obtained_at, expires_at) = at_unix_millis(description.obtained_at)
        .zip(at_unix_millis(description.expires_at))
        .ok_or("its times are none")?;
    Ok(Held { access_token, scope, obtained_at, expires_at })
}

/// What a file says of itself.
pub(super) fn describe(contents: &[u8]) -> Option<Description> {
    serde_json::from_slice(halves(contents)?.0).ok()
}

fn halves(contents: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = contents.iter().position(|byte| *byte == b'\n')?;
    Some((contents.get(..end)?, contents.get(end + 1..)?))
}

/// Which boot of which machine this is, where the system tells: the clock that counts from boot means nothing in another.
fn boot() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}
