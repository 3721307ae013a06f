//! The Secret Service of Linux desktops, such as those of GNOME and KDE.
//!
//! The crate `keyring` does the same, but brings a second async runtime for it.

use std::collections::HashMap;

use secret_service::blocking::{Item, SecretService};
use secret_service::{EncryptionType, Error};
use zeroize::Zeroizing;

use super::{Refusal, SERVICE};

/// The type of what an item holds.
const CONTENT: &str = "application/octet-stream";

pub(super) fn read(profile: &str) -> Result<Zeroizing<String>, Refusal> {
    let service = SecretService::connect(EncryptionType::Dh)?;
    let items = unlocked(&service, profile)?;
    let secret = Zeroizing::new(items.first().ok_or(Refusal::Nothing)?.get_secret()?);
    let secret = std::str::from_utf8(&secret).map_err(|_| Refusal::Unusable)?;
    Ok(Zeroizing::new(secret.to_owned()))
}

pub(super) fn write(profile: &str, secret: &str) -> Result<(), Refusal> {
    let service = SecretService::connect(EncryptionType::Dh)?;
    if let Some(item) = unlocked(&service, profile)?.first() {
        return Ok(item.set_secret(secret.as_bytes(), CONTENT)?);
    }
    let collection = service.get_default_collection()?;
    collection.unlock()?;
    let label = format!("{SERVICE}: {profile}");
    collection.create_item(&label, attributes(profile), secret.as_bytes(), true, CONTENT)?;
    Ok(())
}

pub(super) fn delete(profile: &str) -> Result<(), Refusal> {
    let service = SecretService::connect(EncryptionType::Dh)?;
    let items = unlocked(&service, profile)?;
    Ok(items.first().ok_or(Refusal::Nothing)?.delete()?)
}

/// The items of a profile; a person may be asked to unlock them.
fn unlocked<'a>(service: &'a SecretService<'a>, profile: &str) -> Result<Vec<Item<'a>>, Refusal> {
    let found = service.search_items(attributes(profile))?;
    let mut items = found.unlocked;
    if !found.locked.is_empty() {
        service.unlock_all(&found.locked.iter().collect::<Vec<_>>())?;
        items.extend(found.locked);
    }
    Ok(items)
}

/// What finds an item again; the crate `keyring` gives the same attributes.
fn attributes(profile: &str) -> HashMap<&str, &str> {
    HashMap::from([("service", SERVICE), ("username", profile)])
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Locked | Error::NoResult | Error::Prompt | Error::PromptDisconnected => Self::Locked,
            _ => Self::Unusable,
        }
    }
}
