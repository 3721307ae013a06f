//! `alvys-auth token`: prints a usable token.

use std::env;
use std::time::Duration;

use alvys_auth_core::Token;
use clap::ValueEnum;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;
use crate::settings::SettingsArgs;
use crate::time::{self, rfc3339, unix_seconds};
use crate::tokens::{self, Wanted};

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
    /// How long the token must still be valid, such as 20m. Without it, a token is renewed in the last fifth of its lifetime, or
    /// in its last 5 minutes.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    min_ttl: Option<Duration>,

    /// Request a new token even if a usable one is shared.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The token alone, with a line break.
    Raw,
    /// A JSON object with the token, its type, its expiry and its scopes.
    Json,
    /// A header line for `curl -H @-`.
    Header,
    /// `export` lines for a shell.
    Env,
    /// Lines for a `.env` file.
    Dotenv,
    /// The output of a credential plugin for `kubectl`.
    ExecCredential,
}

impl WantedArgs {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { min_ttl: self.min_ttl, force: self.force }
    }
}

/// The environment variables for the token and for the time when it expires (RFC 3339).
pub(crate) const TOKEN: &str = "ALVYS_ACCESS_TOKEN";
pub(crate) const EXPIRES_AT: &str = "ALVYS_ACCESS_TOKEN_EXPIRES_AT";

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let source = tokens::source(&arguments.settings.read()?)?;
    let token = tokens::token(&source, arguments.wanted.wanted())?;
    output::payload(&Zeroizing::new(printed(&token, arguments.format)))
}

fn printed(token: &Token, format: Format) -> String {
    let (scope, left, expires) = (tokens::scope(token), tokens::left(token), tokens::expires_at(token));
    let (token, expires_at) = (token.access_token(), rfc3339(expires));
    match format {
        Format::Raw => format!("{token}\n"),
        Format::Header => format!("Authorization: Bearer {token}\n"),
        Format::Env => format!("export {TOKEN}={}\nexport {EXPIRES_AT}={}\n", quoted(token), quoted(&expires_at)),
        Format::Dotenv => format!("{TOKEN}={}\n{EXPIRES_AT}={}\n", dotenv(token), dotenv(&expires_at)),
        Format::Json => line(&json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_at": expires_at,
            "expires_at_unix": unix_seconds(expires),
            "expires_in": left.as_secs(),
            "scope": scope,
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

/// `value` in single quotes, which every POSIX shell reads literally.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// `value` for a `.env` file: bare when all readers read it the same, otherwise in single quotes, which most read literally.
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

/// The API version that kubectl asks for, if it is supported; otherwise the newest one.
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
