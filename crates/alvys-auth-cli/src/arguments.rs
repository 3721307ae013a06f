//! The command line, and the messages about mistakes in it.

use std::env;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Error, Parser};

use crate::command::Command;
use crate::failure::Failure;
use crate::output;

const AFTER_HELP: &str = "\
A setting comes from its flag, or from the environment (ALVYS_CLIENT_ID, ALVYS_CLIENT_SECRET, …), or from a profile.
No flag takes a secret: use --secret-stdin, --secret-file, --secret-command, the environment or a profile.

Exit codes: 0 success; 2 wrong usage; 69 server not reachable; 75 try again later; 76 unexpected answer;
77 refused (credentials, scope or permission); 78 wrong configuration.";

/// Alvys access tokens for shells, cron jobs and programs in any language.
#[derive(Debug, Parser)]
#[command(name = "alvys-auth", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Show each decision on stderr. -vv also shows requests and responses, without secrets.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    /// Write a failure to stderr as one line of JSON.
    #[arg(long, global = true)]
    pub(crate) json_errors: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads the command line of this process. After help, version or an error was printed, the result is the exit code.
pub(crate) fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match output::payload(&error.render().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(false),
        },
        _ => {
            let json = env::args_os().take_while(|argument| argument != "--").any(|one| one == "--json-errors");
            complaint(&error).report(json)
        }
    })
}

/// The error in two lines instead of clap's several. It does not repeat the values, which may be secrets in the wrong place.
fn complaint(error: &Error) -> Failure {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.as_str()),
        Some(ContextValue::Strings(names)) => names.first().map(String::as_str),
        _ => None,
    };
    let argument = named(ContextKind::InvalidArg).unwrap_or_default();
    let help = "see `alvys-auth --help`, or `--help` after a command";
    let (what, todo) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let secret = ["secret", "password", "token"].iter().any(|word| argument.contains(word));
            let todo = match named(ContextKind::SuggestedArg) {
                _ if secret => {
                    "no flag takes a secret: use --secret-stdin, --secret-file or --secret-command".to_owned()
                }
                Some(suggested) => format!("did you mean {suggested}? {help}"),
                None => help.to_owned(),
            };
            (format!("there is no flag {argument} here"), todo)
        }
        ErrorKind::UnknownArgument => ("there is one argument too many".to_owned(), help.to_owned()),
        ErrorKind::InvalidSubcommand => ("there is no such command".to_owned(), help.to_owned()),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("no command was given".to_owned(), help.to_owned())
        }
        ErrorKind::MissingRequiredArgument => (format!("{argument} is missing"), help.to_owned()),
        ErrorKind::ArgumentConflict => {
            let other = named(ContextKind::PriorArg).unwrap_or("another one");
            (format!("{argument} cannot be used together with {other}"), "remove one of them".to_owned())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let valid = match error.get(ContextKind::ValidValue) {
                _ if named(ContextKind::InvalidValue).is_some_and(str::is_empty) => Some("give it a value".to_owned()),
                Some(ContextValue::Strings(values)) if !values.is_empty() => {
                    Some(format!("give one of {}", values.join(", ")))
                }
                _ => std::error::Error::source(error).map(ToString::to_string),
            };
            (format!("{argument} has a value that is not valid"), valid.unwrap_or_else(|| help.to_owned()))
        }
        _ => ("the command line is not valid".to_owned(), help.to_owned()),
    };
    Failure::usage(what, todo)
}
