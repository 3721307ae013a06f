//! In place of the keychain, when the command was built without the feature `keychain`.

use zeroize::Zeroizing;

use crate::failure::Failure;

/// # Errors
/// Always.
pub(crate) fn read(_: &str) -> Result<Zeroizing<String>, Failure> {
    Err(absent())
}

/// # Errors
/// Always.
pub(crate) fn write(_: &str, _: &str) -> Result<(), Failure> {
    Err(absent())
}

/// # Errors
/// Always.
pub(crate) fn delete(_: &str) -> Result<(), Failure> {
    Err(absent())
}

fn absent() -> Failure {
    Failure::configuration(
        "there is no usable keychain: this alvys-auth was built without the feature keychain",
        "give the secret with --secret-file, --secret-command or ALVYS_CLIENT_SECRET, or keep it in a private file with \
         `profile add --insecure-secret-file`",
    )
}
