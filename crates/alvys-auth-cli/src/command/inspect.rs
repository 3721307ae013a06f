//! `alvys-auth inspect`: the claims of a token, and whether its signature is valid.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::failure::{Class, Failure};
use crate::jwt::{Jwt, Key, text};
use crate::keys;
use crate::messages::{self, one_line};
use crate::output;
use crate::settings::SettingsArgs;
use crate::time::{in_words, rfc3339};
use crate::tokens::{self, Wanted};

/// The longest token that is read from stdin, in bytes.
const LONGEST: usize = 64 * 1024;

/// Show the claims of a token: its organization, its scopes and when it expires.
///
/// The signature is checked with the public keys of the configured token endpoint's server, when that server issued the token
/// and can be reached. The first line says whether the signature was checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The token, or - for stdin, which is safer: other users can see arguments. By default the token that `token` prints.
    #[arg(value_name = "TOKEN|-")]
    token: Option<String>,

    /// Print JSON with all claims.
    #[arg(long)]
    json: bool,

    /// Fail when the signature cannot be checked.
    #[arg(long)]
    verify: bool,

    /// Check the signature with the public keys in this file or at this URL; fail when that is not possible.
    #[arg(long, value_name = "FILE|URL", conflicts_with = "verify")]
    jwks: Option<String>,

    /// Do not check the signature, and do not fetch keys.
    #[arg(long, conflicts_with_all = ["verify", "jwks"])]
    no_verify: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(mut arguments: Args) -> Result<(), Failure> {
    let given = arguments.token.take().map(Zeroizing::new);
    let seen = given.as_ref().is_some_and(|token| token.as_str() != "-");
    let token = token(given, &arguments.settings)?;
    let token = Jwt::read(&token).ok_or_else(|| {
        Failure::new(
            Class::Nonsense,
            "this is not a JSON Web Token, so nothing can be read from it",
            "give the whole token and nothing else; a token is opaque when it was requested without the right audience",
        )
    })?;
    let signature = signature(&token, &arguments)?;
    let facts = Facts::of(&token.claims);
    output::payload(&if arguments.json {
        object(&token, &facts, signature)
    } else {
        lines(&token, &facts, signature)
    })?;
    if seen {
        messages::complain(
            "alvys-auth: other users of this machine can see arguments; give the token on stdin: `… | alvys-auth inspect -`",
        );
    }
    Ok(())
}

fn token(given: Option<Zeroizing<String>>, settings: &SettingsArgs) -> Result<Zeroizing<String>, Failure> {
    let token = match given {
        None => {
            let source = tokens::source(&settings.read()?)?;
            return Ok(Zeroizing::new(tokens::token(&source, Wanted::default())?.access_token().to_owned()));
        }
        Some(dash) if *dash == "-" => from_stdin(settings)?,
        Some(token) => token,
    };
    let bare = token.trim();
    let bare = bare.get(..7).filter(|head| head.eq_ignore_ascii_case("bearer ")).map_or(bare, |_| &bare[7..]);
    Ok(Zeroizing::new(bare.trim().to_owned()))
}

fn from_stdin(settings: &SettingsArgs) -> Result<Zeroizing<String>, Failure> {
    if settings.secret.secret_stdin {
        return Err(Failure::usage("both the token and the secret would be read from stdin", "remove --secret-stdin"));
    }
    if io::stdin().is_terminal() {
        return Err(Failure::usage("stdin is a terminal, which would show the token", "pipe the token in"));
    }
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 1));
    let read = io::stdin().take(LONGEST as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::configuration(format!("cannot read stdin: {error}"), "pipe the token in, as text"))?;
    Ok(text)
}

/// The result of the check of the signature. A wrong signature is a failure instead.
enum Signature {
    /// It is valid by the key named here.
    Verified(String),
    /// It was not checked, for this reason.
    Unverified(String),
}

fn signature(token: &Jwt<'_>, arguments: &Args) -> Result<Signature, Failure> {
    if arguments.no_verify {
        return Ok(Signature::Unverified("the signature was not checked".to_owned()));
    }
    let (place, signers) = match signers(token, arguments) {
        Ok(found) => found,
        Err(failure) if arguments.verify || arguments.jwks.is_some() => return Err(failure),
        Err(failure) => return Ok(Signature::Unverified(failure.what)),
    };
    let kid = token.verify(&signers)?;
    Ok(Signature::Verified(if kid.is_empty() { place } else { format!("key {kid} of {place}") }))
}

/// The keys that may have signed the token, and where they are from.
fn signers(token: &Jwt<'_>, arguments: &Args) -> Result<(String, Vec<Key>), Failure> {
    token.verifiable()?;
    let layers = arguments.settings.layers()?;
    let network = layers.network()?;
    let (place, keys) = match &arguments.jwks {
        Some(place) => (place.clone(), keys::given(place, &network)?),
        None => {
            let place = keys::of_issuer(token, &layers.setup()?.flow)?;
            let keys = keys::fetched(&place, &network)?;
            (place, keys)
        }
    };
    Ok((place, token.signers(&keys)?))
}

/// The claims that people ask about, for a token of either flow.
pub(crate) struct Facts<'a> {
    pub(crate) issuer: Option<&'a str>,
    pub(crate) audience: Option<String>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) client_name: Option<&'a str>,
    pub(crate) organization_id: Option<&'a str>,
    pub(crate) organization_name: Option<&'a str>,
    pub(crate) issued_at: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) scopes: Vec<&'a str>,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(claims: &'a Map<String, Value>) -> Self {
        let text = |name| text(claims, name).filter(|text| !text.is_empty());
        let time = |name| {
            let seconds = claims.get(name)?.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
            UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds))
        };
        let subject = text("sub").map(|subject| subject.strip_suffix("@clients").unwrap_or(subject));
        Self {
            issuer: text("iss"),
            audience: claims.get("aud").and_then(listed),
            client_id: text("azp").or_else(|| text("client_id")).or(subject),
            client_name: text("client_name"),
            organization_id: text("org_id"),
            organization_name: text("org_name").or_else(|| text("tenant_id")),
            issued_at: time("iat"),
            expires_at: time("exp"),
            scopes: text("scope").map(|scope| scope.split_whitespace().collect()).unwrap_or_default(),
        }
    }

    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|end| end <= SystemTime::now())
    }
}

/// A text, or the texts of a list.
fn listed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        _ => None,
    }
}

fn lines(token: &Jwt<'_>, facts: &Facts<'_>, signature: Signature) -> String {
    let first = match signature {
        Signature::Verified(by) => format!("Verified: the signature is valid, checked with {by}."),
        Signature::Unverified(why) => format!("Not verified: {why}."),
    };
    let mut lines = format!("{}\n\n", one_line(&first));
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{name:<13} {}", one_line(&value));
        }
    };
    let beside = |name: Option<&str>, id: Option<&str>| match (name, id) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (name, id) => name.or(id).map(str::to_owned),
    };
    line("organization", beside(facts.organization_name, facts.organization_id));
    line("application", beside(facts.client_name, facts.client_id));
    line("issuer", facts.issuer.map(str::to_owned));
    line("audience", facts.audience.clone());
    line("signed with", Some(token.algorithm().to_owned()));
    line("issued", facts.issued_at.map(moment));
    line("expires", facts.expires_at.map(moment));
    line("scopes", Some(if facts.scopes.is_empty() { "none listed".to_owned() } else { facts.scopes.join(" ") }));
    lines
}

fn object(token: &Jwt<'_>, facts: &Facts<'_>, signature: Signature) -> String {
    let (verified_with, unverified_because) = match signature {
        Signature::Verified(by) => (Some(by), None),
        Signature::Unverified(why) => (None, Some(why)),
    };
    let seconds = facts.expires_at.map(|end| match end.duration_since(SystemTime::now()) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    });
    let object = json!({
        "verified": verified_with.is_some(),
        "verified_with": verified_with,
        "unverified_because": unverified_because,
        "organization_id": facts.organization_id,
        "organization_name": facts.organization_name,
        "client_id": facts.client_id,
        "client_name": facts.client_name,
        "issued_at": facts.issued_at.map(rfc3339),
        "expires_at": facts.expires_at.map(rfc3339),
        "expires_in": seconds,
        "expired": facts.is_expired(),
        "scopes": facts.scopes,
        "header": token.header,
        "claims": token.claims,
    });
    messages::json_line(&object)
}

/// `2026-01-31T08:00:00Z, in 59 min 3 s`
fn moment(time: SystemTime) -> String {
    let words = match time.duration_since(SystemTime::now()) {
        Ok(left) => format!("in {}", in_words(left)),
        Err(past) => format!("{} ago", in_words(past.duration())),
    };
    format!("{}, {words}", rfc3339(time))
}
