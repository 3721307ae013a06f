//! Reads public keys from a file, from a URL, or from the issuer.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use alvys_auth_core::{Api, Credentials, Flow, TokenRequest};
use http::Uri;

use crate::agent;
use crate::failure::{Class, Failure};
use crate::jwt::{Jwt, KeySet, text};
use crate::network::Network;

/// The longest key set that is read, in bytes.
const LONGEST: u64 = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the keys in a file or at a URL.
///
/// # Errors
/// When they cannot be read, or are not a JSON Web Key Set.
pub(crate) fn given(place: &str, network: &Network) -> Result<KeySet, Failure> {
    if place.contains("://") {
        return fetched(place, network);
    }
    let mut json = Vec::new();
    let read = File::open(place).and_then(|file| file.take(LONGEST).read_to_end(&mut json));
    read.map_err(|error| {
        Failure::configuration(
            format!("cannot read the keys in {place}: {error}"),
            "give --jwks a file that this user may read",
        )
    })?;
    KeySet::read(&json).ok_or_else(|| Failure::configuration(format!("{place} is not a JSON Web Key Set"), NO_KEYS))
}

/// The URL of the keys of the token's issuer. The issuer must be the server of this flow's token endpoint, because a token
/// may name any issuer.
///
/// # Errors
/// When the token names another issuer.
pub(crate) fn of_issuer(token: &Jwt<'_>, flow: &Flow) -> Result<String, Failure> {
    let issuer = text(&token.claims, "iss").and_then(|issuer| issuer.parse::<Uri>().ok());
    let endpoint = endpoint(flow)?;
    let same = issuer.is_some_and(|issuer| {
        issuer.scheme() == endpoint.scheme()
            && issuer.authority().zip(endpoint.authority()).is_some_and(|(one, other)| one == other)
    });
    if !same {
        return Err(Failure::new(
            Class::Nonsense,
            "the token is from another issuer than the configured token endpoint",
            "set --env or --token-url to those of the token, or give the issuer's keys with --jwks",
        ));
    }
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    Ok(format!("{}://{authority}/.well-known/jwks.json", endpoint.scheme_str().unwrap_or_default()))
}

/// The URL of this flow's token endpoint.
///
/// # Errors
/// When the flow is not valid.
pub(crate) fn endpoint(flow: &Flow) -> Result<Uri, Failure> {
    Ok(TokenRequest::new(flow.clone(), Credentials::new("anybody", "nothing")?)?.to_http().uri().clone())
}

/// The keys at a URL.
///
/// # Errors
/// When they cannot be fetched, or are not a JSON Web Key Set.
pub(crate) fn fetched(url: &str, network: &Network) -> Result<KeySet, Failure> {
    // Keys prove nothing when anybody can pretend to be their server, so only https and this machine are allowed.
    let untrusted = || {
        Failure::configuration(
            "the URL of the keys cannot be trusted",
            "give a full https URL without a query; plain http is allowed only to this machine",
        )
    };
    Api::at(url).map(drop).map_err(|_| untrusted())?;
    let agent = network.blocking(&url.parse().map_err(|_| untrusted())?)?.agent(agent::config());
    let request = agent.get(url).config().http_status_as_error(false).max_redirects(0).timeout_global(Some(TIMEOUT));
    let mut answer = request.build().call().map_err(|error| {
        Failure::new(
            Class::Unreachable,
            format!("the public keys cannot be fetched: {}", agent::told(&error)),
            "check the network between this machine and the issuer, or give the keys with --jwks FILE",
        )
    })?;
    let mut json = Vec::new();
    let read = answer.body_mut().as_reader().take(LONGEST).read_to_end(&mut json);
    let keys = read.ok().filter(|_| answer.status().is_success()).and_then(|_| KeySet::read(&json));
    keys.ok_or_else(|| {
        let what = format!("the URL of the keys gave no JSON Web Key Set (status {})", answer.status().as_u16());
        Failure::new(Class::Nonsense, what, NO_KEYS)
    })
}

const NO_KEYS: &str = "give the issuer's key set, such as https://auth.alvys.com/.well-known/jwks.json";
