//! Explains the errors of the store.

use alvys_auth_core::Error;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::address::Address;

/// How many characters of a server's own words are shown.
const LONGEST: usize = 200;

/// Turns the client's error into ours. It may end up in a log.
pub(crate) fn explained(address: &Address, error: &RedisError) -> Error {
    let said = said(address, error);
    let configuration =
        |what: &str, hint: &'static str| Error::configuration(format!("the store {address} {what}"), hint);
    // For a cluster, the client gives the error of one node as text.
    match error.kind() {
        _ if said.contains("authentication failed") => configuration(
            "refuses the user or the password",
            "correct them in the store's URL, with percent-encoding for special characters",
        ),
        _ if said.contains("NOAUTH") => {
            configuration("asks for a password", "write redis://user:password@host into its URL")
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => forbidden(address, &said),
        // What a script may not do, in the words of Redis and of Valkey.
        ErrorKind::Server(ServerErrorKind::ResponseError)
            if said.contains("user executing the script can't") || said.contains("ACL failure in script") =>
        {
            forbidden(address, &said)
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            configuration("is a replica that takes no writes", "name the primary, or use redis+sentinel:// to find it")
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot) => {
            configuration("is a node of a cluster", "write redis+cluster:// in place of redis://")
        }
        ErrorKind::Server(ServerErrorKind::ResponseError) if said.contains("cluster support disabled") => {
            configuration("is not a cluster", "write redis:// in place of redis+cluster://")
        }
        ErrorKind::InvalidClientConfig if said.contains("sentinel") => {
            configuration("is not a sentinel", "write redis:// in place of redis+sentinel://, or name the sentinels")
        }
        _ if said.contains("certificate") => configuration(
            &format!("has a certificate that is not trusted: {said}"),
            "name the file of its authority with the setting ca of the store's URL, and the host as in the certificate",
        ),
        ErrorKind::Io if error.is_timeout() => late(address),
        ErrorKind::Io => Error::transport(format!("there is no connection to the store {address}"), said),
        ErrorKind::MasterNameNotFoundBySentinel => {
            Error::transport(format!("no sentinel of the store {address} knows a primary that is up"), said)
        }
        _ => match error.code() {
            Some("OOM") => configuration(
                "is out of memory",
                "raise maxmemory, or let the server evict keys with the policy volatile-lru",
            ),
            _ => Error::transport(format!("the store {address} cannot be used now"), said),
        },
    }
}

fn forbidden(address: &Address, said: &str) -> Error {
    Error::configuration(
        format!("the store {address} forbids an operation: {said}"),
        "give the user the rights that the documentation of alvys-auth-redis lists",
    )
}

/// Why the client does not take what the URL says: it has looked into the certificates.
pub(crate) fn unusable(address: &Address, error: &RedisError) -> Error {
    Error::configuration(
        format!("the certificates of the store {address} cannot be used: {}", said(address, error)),
        "correct the files that the settings ca, cert and key of the store's URL name",
    )
}

pub(crate) fn late(address: &Address) -> Error {
    Error::timed_out(format!("the store {address} has not answered in time"))
}

pub(crate) fn nonsense(address: &Address) -> Error {
    Error::transport(format!("the store {address} has not answered as Redis does"), "the answer is not the script's")
}

pub(crate) fn broken(address: &Address) -> Error {
    Error::transport(format!("the store {address} cannot be used any more"), "its thread has ended")
}

/// The server's words, without anything that should not be in a log.
fn said(address: &Address, error: &RedisError) -> String {
    let text = address.without_passwords(&error.to_string());
    text.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}
