//! The keychain of macOS, and the credentials of Windows.

use keyring::v1::{Entry, Error};
use zeroize::Zeroizing;

use super::{Refusal, SERVICE};

pub(super) fn read(profile: &str) -> Result<Zeroizing<String>, Refusal> {
    Ok(Zeroizing::new(Entry::new(SERVICE, profile)?.get_password()?))
}

pub(super) fn write(profile: &str, secret: &str) -> Result<(), Refusal> {
    Ok(Entry::new(SERVICE, profile)?.set_password(secret)?)
}

pub(super) fn delete(profile: &str) -> Result<(), Refusal> {
    Ok(Entry::new(SERVICE, profile)?.delete_credential()?)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NoEntry => Self::Nothing,
            Error::NoStorageAccess(_) => Self::Locked,
            _ => Self::Unusable,
        }
    }
}
