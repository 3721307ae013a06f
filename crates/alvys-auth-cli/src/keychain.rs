//! The operating system's keychain: one item per profile.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyring::v1::{Entry, Error};
use zeroize::Zeroizing;

use crate::failure::Failure;

const SERVICE: &str = "alvys-auth";

/// How long a person has to unlock it; where there is none, nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The secret of a profile.
///
/// # Errors
/// When there is no keychain, when it is locked, or when it holds nothing for this profile.
pub(crate) fn read(profile: &str) -> Result<Zeroizing<String>, Failure> {
    with(profile, |entry| entry.get_password().map(Zeroizing::new))
}

/// Keeps the secret of a profile, in place of any other.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn write(profile: &str, secret: &str) -> Result<(), Failure> {
    let secret = Zeroizing::new(secret.to_owned());
    with(profile, move |entry| entry.set_password(&secret))
}

/// Forgets the secret of a profile; none being there is no failure.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn delete(profile: &str) -> Result<(), Failure> {
    with(profile, |entry| match entry.delete_credential() {
        Err(Error::NoEntry) => Ok(()),
        other => other,
    })
}

/// Uses the item of a profile on a thread of its own, because a keychain that waits for a password may wait for ever.
fn with<T: Send + 'static>(
    profile: &str,
    work: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::channel();
    let name = profile.to_owned();
    let work = move || {
        let result = Entry::new(SERVICE, &name).and_then(|entry| work(&entry));
        // Nobody listens any more when time has run out.
        let _ = sender.send(result.map_err(|error| failed(&name, &error)));
    };
    let unanswered = || {
        Failure::configuration(
            "the keychain did not answer",
            "unlock it, or give the secret by --secret-file, --secret-command or the environment",
        )
    };
    thread::Builder::new().name("keychain".to_owned()).spawn(work).map_err(|_| unanswered())?;
    receiver.recv_timeout(PATIENCE).map_err(|_| unanswered())?
}

/// The library's own words may hold what the keychain holds.
fn failed(profile: &str, error: &Error) -> Failure {
    match error {
        Error::NoEntry => Failure::configuration(
            format!("the keychain holds no secret for profile {profile}"),
            "add it with `alvys-auth profile add NAME --replace --secret-stdin`",
        ),
        Error::NoStorageAccess(_) => Failure::configuration(
            "the keychain is locked or may not be used",
            "unlock it, or give the secret by --secret-file, --secret-command or the environment",
        ),
        _ => Failure::configuration(
            "there is no usable keychain here",
            "give the secret by --secret-file, --secret-command or the environment, or keep it in a private file with \
             `profile add --insecure-secret-file`",
        ),
    }
}
