//! `alvys-auth token`: prints a usable token.

use std::env;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cache::Held;
use crate::failure::Failure;
use crate::output;
use crate::session::{Session, Wanted};
use crate::settings::SettingsArgs;
use crate::time::{self, rfc3339, unix_seconds};

/// Print a usable access token.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,

    #[command(flatten)]
    wanted: WantedArgs,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// What kind of token is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct WantedArgs {
    /// How long the token must still be usable, such as 5m; by default a fifth of its lifetime, 5m at the most.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    min_ttl: Option<Duration>,

    /// Ask for a new token even if a usable one is kept.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The bare token and a newline.
    Raw,
    /// An object with the token, its type, when it expires and what it may do.
    Json,
    /// A header line, as `curl -H @-` reads it.
    Header,
    /// Assignments for a shell to evaluate.
    Env,
    /// Lines of a `.env` file.
    Dotenv,
    /// What `kubectl` wants from a credential plugin.
    ExecCredential,
}

impl WantedArgs {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { min_ttl: self.min_ttl, force: self.force, ..Wanted::default() }
    }
}

/// The name of the token, and of its end in RFC 3339, in the environment of programs.
pub(crate) const TOKEN: &str = "ALVYS_ACCESS_TOKEN";
pub(crate) const EXPIRES_AT: &str = "ALVYS_ACCESS_TOKEN_EXPIRES_AT";

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let held = Session::open(arguments.settings.read()?)?.token(arguments.wanted.wanted())?;
    output::payload(&Zeroizing::new(printed(&held, arguments.format)))
}

fn printed(held: &Held, format: Format) -> String {
    let token = held.access_token.as_str();
    let expires_at = rfc3339(held.expires_at);
    match format {
        Format::Raw => format!("{token}\n"),
        Format::Header => format!("Authorization: Bearer {token}\n"),
        Format::Env => format!("export {TOKEN}={}\nexport {EXPIRES_AT}={}\n", quoted(token), quoted(&expires_at)),
        Format::Dotenv => format!("{TOKEN}={}\n{EXPIRES_AT}={}\n", dotenv(token), dotenv(&expires_at)),
        Format::Json => line(&json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_at": expires_at,
            "expires_at_unix": unix_seconds(held.expires_at),
            "expires_in": held.left().as_secs(),
            "scope": held.scope,
        })),
        Format::ExecCredential => line(&json!({
            "apiVersion": exec_api_version(),
            "kind": "ExecCredential",
            "status": { "expirationTimestamp": expires_at, "token": token },
        })),
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// In single quotes, as every POSIX shell reads it literally.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Bare where all readers agree on what that means, else in single quotes, which most take literally.
fn dotenv(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/=:".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains('\'') {
        return format!("'{value}'");
    }
    let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$").replace('`', r"\`");
    format!("\"{escaped}\"")
}

/// The version that kubectl asks for, when it is one of those that this speaks.
fn exec_api_version() -> &'static str {
    const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
    let asked = env::var("KUBERNETES_EXEC_INFO").ok().and_then(|info| serde_json::from_str::<Value>(&info).ok());
    let asked = asked.as_ref().and_then(|info| info.get("apiVersion")?.as_str());
    VERSIONS.into_iter().find(|version| asked == Some(version)).unwrap_or(VERSIONS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_what_a_shell_would_expand() {
        assert_eq!(quoted("a'b$c"), r"'a'\''b$c'");
        assert_eq!(dotenv("eyJ.a-b_c~+/="), "eyJ.a-b_c~+/=");
        assert_eq!(dotenv("a$b#c"), "'a$b#c'");
        assert_eq!(dotenv(r#"a'b"c$d\e"#), r#""a'b\"c\$d\\e""#);
    }
}
