//! The operating system's keychain: one item per profile.

use keyring::v1::{Entry, Error};
use zeroize::Zeroizing;

use crate::failure::Failure;

const SERVICE: &str = "alvys-auth";

/// The secret of a profile.
///
/// # Errors
/// When there is no keychain, when it is locked, or when it holds nothing for this profile.
pub(crate) fn read(profile: &str) -> Result<Zeroizing<String>, Failure> {
    let secret = entry(profile)?.get_password().map_err(|error| failed(profile, &error))?;
    Ok(Zeroizing::new(secret))
}

/// Keeps the secret of a profile, in place of any other.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn write(profile: &str, secret: &str) -> Result<(), Failure> {
    entry(profile)?.set_password(secret).map_err(|error| failed(profile, &error))
}

/// Forgets the secret of a profile; none being there is no failure.
///
/// # Errors
/// When there is no keychain, or when it is locked.
pub(crate) fn delete(profile: &str) -> Result<(), Failure> {
    match entry(profile)?.delete_credential() {
        Err(Error::NoEntry) | Ok(()) => Ok(()),
        Err(error) => Err(failed(profile, &error)),
    }
}

fn entry(profile: &str) -> Result<Entry, Failure> {
    Entry::new(SERVICE, profile).map_err(|error| failed(profile, &error))
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
