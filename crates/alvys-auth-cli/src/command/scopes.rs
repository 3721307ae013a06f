//! `alvys-auth scopes`: the scopes of the token, for scripts.

use alvys_auth_core::Token;

use crate::failure::{Class, Failure};
use crate::output;
use crate::settings::SettingsArgs;
use crate::tokens::{self, Wanted};

/// Print the scopes of the token, one per line, or check that it has certain scopes.
///
/// A token keeps the scopes that it was issued with. After a change in Alvys, get a new token with `alvys-auth token
/// --force`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print nothing, and fail with exit code 77 unless the token has these scopes, separated by commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    require: Vec<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let source = tokens::source(&arguments.settings.read()?)?;
    let token = tokens::token(&source, Wanted::default())?;
    let scopes = token.scopes();
    if !scopes.is_known() {
        return Err(Failure::new(
            Class::Nonsense,
            "nothing is known about the scopes of this token",
            "check ALVYS_AUDIENCE: a token for the Alvys API has a list of scopes",
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
        "tokens of the legacy flow may only read: create an application of the current flow, see `alvys-auth migrate`"
    } else {
        "ask an Alvys administrator to grant the missing scopes to the application, then get a new token with `token --force`"
    };
    Err(Failure::new(Class::Refused, format!("the access token lacks {}", missing.join(", ")), todo))
}

/// The scopes of `required` that the token lacks. Empty when its scopes are not known.
pub(crate) fn missing<'a>(token: &Token, required: &'a [String]) -> Vec<&'a str> {
    let scopes = token.scopes();
    required.iter().map(String::as_str).filter(|scope| scopes.is_known() && !scopes.contains(scope)).collect()
}

/// One scope of a list. An empty one is refused: it comes from a variable that is not set, and would require nothing.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("give scopes such as load:read,trip:read; none of them may be empty".to_owned()),
        scope => Ok(scope.to_owned()),
    }
}
