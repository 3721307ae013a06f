//! Secrets in the operating system's keychain: one item per profile.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::failure::Failure;

#[cfg(not(any(target_os = "macos", windows)))]
#[path = "keychain/secret_service.rs"]
mod store;
#[cfg(any(target_os = "macos", windows))]
#[path = "keychain/native.rs"]
mod store;

const SERVICE: &str = "alvys-auth";

/// How long to wait for the keychain: a person may have to unlock it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a keychain did not do what it was asked for. The words of the keychain are not kept, because they may contain the
/// secret.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// It has no such item.
    Nothing,
    /// It is locked, or this user may not use it.
    Locked,
    /// There is none that can be used.
    Unusable,
}

/// Reads the secret of a profile.
///
/// # Errors
/// When there is no keychain, when it is locked, or when it has no secret of this profile.
pub(crate) fn read(profile: &str) -> Result<Zeroizing<String>, Failure> {
    with(profile, store::read)
}

/// Stores the secret of a profile, and replaces an older one.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn write(profile: &str, secret: &str) -> Result<(), Failure> {
    let secret = Zeroizing::new(secret.to_owned());
    with(profile, move |profile| store::write(profile, &secret))
}

/// Removes the secret of a profile, if there is one.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn delete(profile: &str) -> Result<(), Failure> {
    with(profile, |profile| match store::delete(profile) {
        Err(Refusal::Nothing) => Ok(()),
        other => other,
    })
}

/// Runs `work` on a thread of its own, because a keychain that waits for a password may wait for ever.
fn with<T: Send + 'static>(
    profile: &str,
    work: impl FnOnce(&str) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::channel();
    let name = profile.to_owned();
    let work = move || {
        let result = work(&name);
        // Fails when the wait below is over.
        let _ = sender.send(result.map_err(|refusal| failed(&name, refusal)));
    };
    let unanswered = || {
        Failure::configuration(
            "the keychain did not answer within 60 s",
            "unlock the keychain, or give the secret with --secret-file, --secret-command or ALVYS_CLIENT_SECRET",
        )
    };
    thread::Builder::new().name("keychain".to_owned()).spawn(work).map_err(|_| unanswered())?;
    receiver.recv_timeout(PATIENCE).map_err(|_| unanswered())?
}

fn failed(profile: &str, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Nothing => Failure::configuration(
            format!("the keychain has no secret for profile {profile}"),
            "add it with `alvys-auth profile add NAME --replace --secret-stdin`",
        ),
        Refusal::Locked => Failure::configuration(
            "the keychain is locked, or this user may not use it",
            "unlock the keychain, or give the secret with --secret-file, --secret-command or ALVYS_CLIENT_SECRET",
        ),
        Refusal::Unusable => Failure::configuration(
            "there is no usable keychain here",
            "give the secret with --secret-file, --secret-command or ALVYS_CLIENT_SECRET, or keep it in a private file with \
             `profile add --insecure-secret-file`",
        ),
    }
}
