//! Reads the client secret from stdin, a file, a command, the environment or a profile. No flag takes it.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alvys_auth_config::{CommandProvider, EnvironmentProvider, Variables};
use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark};
use tracing::debug;
use zeroize::{Zeroize, Zeroizing};

use crate::environment::variable;
use crate::failure::Failure;
use crate::keychain;
use crate::profiles::{Named, SecretPlace};

/// Any source of credentials.
pub(crate) type Provider = Arc<dyn CredentialsProvider>;

/// The longest secret that is read from stdin, in bytes.
const LIMIT: usize = 64 * 1024;

const SECRET: &str = "ALVYS_CLIENT_SECRET";
const SECRET_FILE: &str = "ALVYS_CLIENT_SECRET_FILE";

/// The environment variables that contain a secret or the path of one.
pub(crate) const SECRET_VARIABLES: [&str; 3] = [SECRET, SECRET_FILE, "Alvys__ClientSecret"];

/// The environment variable that contains the key of the sidecar.
pub(crate) const PROXY_KEY: &str = "ALVYS_PROXY_KEY";

/// The flags that say where the secret is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
#[group(multiple = false)]
pub(crate) struct SecretArgs {
    /// Read the client secret from stdin.
    #[arg(long)]
    pub(crate) secret_stdin: bool,

    /// Read the client secret from a file that contains nothing else (ALVYS_CLIENT_SECRET_FILE).
    #[arg(long, value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,

    /// Read the client secret from the output of a command. It is split into words like a shell does, but no shell runs it.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) secret_command: Option<String>,
}

impl SecretArgs {
    /// Whether a flag says where the secret is.
    pub(crate) fn is_given(&self) -> bool {
        self.secret_stdin || self.secret_file.is_some() || self.secret_command.is_some()
    }
}

/// A provider of the credentials: the client id in `variables`, and the secret from the first place that has one. It reads
/// them again when they change, except for stdin and the keychain.
///
/// # Errors
/// When the client id or the secret is missing, wrong, or cannot be read, as far as that is known before the secret is read.
pub(crate) fn provider(
    flags: &SecretArgs,
    profile: Option<&Named>,
    variables: impl Fn() -> Variables,
) -> Result<Provider, Failure> {
    if flags.secret_stdin {
        debug!(target: "alvys_auth", "the secret comes from stdin");
        return Ok(of(value(from_stdin()?).over(variables())));
    }
    if let Some(path) = &flags.secret_file {
        debug!(target: "alvys_auth", "the secret comes from --secret-file");
        return Ok(file(path, "--secret-file".to_owned(), variables()));
    }
    if let Some(line) = &flags.secret_command {
        debug!(target: "alvys_auth", "the secret comes from --secret-command");
        return command(&words(line)?, variables());
    }
    let environment = SECRET_VARIABLES.into_iter().find(|name| variable(name).is_some());
    if let Some(name) = environment {
        debug!(target: "alvys_auth", "the secret comes from {name}");
        return Ok(of(variables()));
    }
    let Some(named) = profile else { return Ok(of(variables())) };
    let Named { name, profile } = named;
    if profile.secret_place().is_none() {
        return Ok(of(variables()));
    }
    // The secret of a profile must not be sent with the client id of another application.
    let client_id = client_id(variables())?;
    if profile.client_id.as_ref().is_some_and(|own| *own != client_id) {
        return Err(Failure::configuration(
            format!(
                "the client id comes from a flag or the environment, but the secret of profile {name} belongs to another one"
            ),
            "unset ALVYS_CLIENT_ID, or also give the secret of that client id",
        ));
    }
    of_profile(named, variables())
}

/// A provider of the secret of a profile, with the client id in `variables`.
///
/// # Errors
/// When the profile has none, or its keychain cannot be read.
pub(crate) fn of_profile(Named { name, profile }: &Named, variables: Variables) -> Result<Provider, Failure> {
    let Some(place) = profile.secret_place() else {
        return Err(Failure::configuration(
            format!("profile {name} has no secret"),
            "add one with `alvys-auth profile add NAME --replace`",
        ));
    };
    debug!(target: "alvys_auth", "the secret comes from profile {name}: {}", place.in_words());
    match place {
        SecretPlace::Keychain => Ok(of(value(keychain::read(name)?).over(variables))),
        SecretPlace::File(path) => Ok(file(path, format!("secret_file of profile {name}"), variables)),
        SecretPlace::Command(line) => command(line, variables),
    }
}

/// Splits a command line into words like a shell does. Nothing is expanded.
///
/// # Errors
/// When it is empty or its quotes are not closed.
pub(crate) fn words(line: &str) -> Result<Vec<String>, Failure> {
    shlex::split(line).filter(|words| !words.is_empty()).ok_or_else(|| {
        Failure::usage("--secret-command is empty or has quotes that are not closed", "write it as for a shell")
    })
}

/// The secret on stdin, without line breaks at its end.
///
/// # Errors
/// When stdin is a terminal, which would show the secret, or when the secret is too long or not UTF-8.
pub(crate) fn from_stdin() -> Result<Zeroizing<String>, Failure> {
    let refused = |what: &str| Failure::configuration(what, "write the secret to stdin and nothing else");
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage(
            "--secret-stdin needs a pipe, but stdin is a terminal, which would show the secret",
            "pipe the secret in, for example from a password manager: `pass show alvys | alvys-auth …`",
        ));
    }
    // Allocated in full at once, because a buffer that grows leaves copies of the secret in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    let read = stdin.lock().take(LIMIT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused(&format!("cannot read stdin: {error}")))?;
    if bytes.len() > LIMIT {
        return Err(refused("stdin has more than 64 KiB"));
    }
    let text = String::from_utf8(mem::take(&mut bytes)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        refused("the secret on stdin is not UTF-8")
    })?;
    let secret = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(refused("there is no secret on stdin"));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

fn of(variables: Variables) -> Provider {
    Arc::new(EnvironmentProvider::of(variables))
}

fn command(command: &[String], variables: Variables) -> Result<Provider, Failure> {
    let client_id = client_id(variables)?;
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::configuration("the command for the secret is empty", "set it to a program to run"))?;
    Ok(Arc::new(CommandProvider::new(program, arguments).client_id(client_id)))
}

/// The client id. A made-up secret is read with it, because credentials can only be read together.
fn client_id(variables: Variables) -> Result<String, Failure> {
    let stand_in = Variables::from_iter([(SECRET, "stand-in")]);
    Ok(EnvironmentProvider::of(stand_in.over(variables)).current()?.client_id().to_owned())
}

fn value(secret: Zeroizing<String>) -> Variables {
    Variables::new(move |name| (name == SECRET).then(|| OsString::from(secret.as_str())))
}

/// A provider of the secret in a file. Errors call the file `place`.
fn file(path: &Path, place: String, variables: Variables) -> Provider {
    let path = path.to_owned();
    let file = Variables::new(move |name| (name == SECRET_FILE).then(|| path.clone().into_os_string()));
    Arc::new(ByPlace { place, provider: EnvironmentProvider::of(file.over(variables)) })
}

/// Reads a file as if the variable contained its path, and names `place` in errors instead of the variable.
struct ByPlace {
    place: String,
    provider: EnvironmentProvider,
}

impl CredentialsProvider for ByPlace {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        self.provider.credentials(known).map_err(|error| {
            let what = error.what().replacen(SECRET_FILE, &self.place, 1);
            Error::configuration(what, error.hint().to_owned())
        })
    }
}
