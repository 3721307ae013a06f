//! `alvys-auth scopes`: what the token may do, for scripts to ask.

use std::time::Duration;

use alvys_auth_core::{Credentials, Flow, Lifecycle, Policy, Step, Token, TokenRequest, TokenResponse};
use alvys_auth_driver::Time;

use crate::cache::Held;
use crate::failure::{Class, Failure};
use crate::output;
use crate::session::{Session, Wanted};
use crate::settings::SettingsArgs;

/// Print the scopes of the token, a line each, or check that it has some.
///
/// A token keeps the scopes it was issued with: after a change in Alvys, `alvys-auth token --force` gets one with the new
/// ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print nothing, and fail with 77 unless the token has these scopes, between commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    require: Vec<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let settings = arguments.settings.read()?;
    let (flow, credentials) = (settings.setup.flow.clone(), settings.credentials.clone());
    let held = Session::open(settings)?.token(Wanted::default())?;
    let token = token(flow, credentials, &held)?;
    let scopes = token.scopes();
    if !scopes.is_known() {
        return Err(Failure::new(
            Class::Nonsense,
            "nothing is known of the scopes of this token",
            "check the audience: a token without a list of scopes is none of the Alvys API",
        ));
    }
    if arguments.require.is_empty() {
        return output::payload(&scopes.iter().map(|scope| format!("{scope}\n")).collect::<String>());
    }
    let missing = missing(&token, &arguments.require);
    if missing.is_empty() {
        return Ok(());
    }
    let todo = if scopes.is_read_only() {
        "tokens of the legacy flow may only read: move to an application of the current flow"
    } else {
        "have an Alvys administrator grant the application what is missing, then get a new token with `token --force`"
    };
    Err(Failure::new(Class::Refused, format!("the access token lacks {}", missing.join(", ")), todo))
}

/// Those of `required` that the token lacks, as far as is known.
pub(crate) fn missing<'a>(token: &Token, required: &'a [String]) -> Vec<&'a str> {
    let scopes = token.scopes();
    required.iter().map(String::as_str).filter(|scope| scopes.is_known() && !scopes.contains(scope)).collect()
}

/// The kept token as the core sees it, to which the flow tells what it may do.
///
/// # Errors
/// When it is none any more.
pub(crate) fn token(flow: Flow, credentials: Credentials, held: &Held) -> Result<Token, Failure> {
    let left = held.left().max(Duration::from_secs(1));
    let grant = TokenResponse::new(&held.access_token, left, held.scope.as_deref().unwrap_or_default())?;
    let mut lifecycle = Lifecycle::new(TokenRequest::new(flow, credentials)?, Policy::new(), 0);
    lifecycle.adopt(grant, Time::boot().now());
    match lifecycle.poll(Time::boot().now()) {
        Step::Use(token) => Ok(token),
        _ => Err(Failure::new(Class::TryLater, "the token ended this moment", "try again")),
    }
}

/// One scope of a list. An empty one comes from a variable that is not set, and would ask for nothing.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("name scopes such as load:read,trip:read, and no empty one".to_owned()),
        scope => Ok(scope.to_owned()),
    }
}
