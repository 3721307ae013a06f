//! `alvys-auth cache`: the tokens that are kept between two runs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Subcommand;
use serde_json::json;

use crate::cache::{self, Description};
use crate::failure::Failure;
use crate::messages::one_line;
use crate::output;
use crate::time::{in_words, rfc3339};

/// List or remove the tokens that are kept between two runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the tokens (ALVYS_CACHE_DIR).
    #[arg(long, value_name = "PATH", global = true)]
    cache_dir: Option<PathBuf>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the client id and the lifetime of each kept token; never the token.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove all kept tokens.
    Clear,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let directory = cache::directory(arguments.cache_dir.clone()).ok_or_else(|| {
        Failure::configuration("there is no home directory, so nothing is kept", "set HOME or ALVYS_CACHE_DIR")
    })?;
    match arguments.action {
        Action::List { json } => {
            let kept = cache::list(&directory)?;
            output::payload(&if json { objects(&kept) } else { table(&kept) })
        }
        Action::Clear => {
            let tokens = cache::clear(&directory)?;
            output::payload(&format!("removed {tokens} {}\n", if tokens == 1 { "token" } else { "tokens" }))
        }
    }
}

fn table(kept: &[Description]) -> String {
    let mut table = String::new();
    for one in kept {
        let expires_at = one.expires_at().unwrap_or(SystemTime::UNIX_EPOCH);
        let state = match expires_at.duration_since(SystemTime::now()) {
            Ok(left) => format!("valid for {}", in_words(left)),
            Err(_) => "expired".to_owned(),
        };
        let tenant = one.tenant.as_ref().map(|tenant| format!("  tenant {tenant}")).unwrap_or_default();
        let line = one_line(&format!("{} {}{tenant} {state}", one.client_id, one.token_url));
        // Writing to a string does not fail.
        let _ = writeln!(table, "{line}");
    }
    table
}

fn objects(kept: &[Description]) -> String {
    let objects = kept.iter().map(|one| {
        json!({
            "client_id": one.client_id,
            "token_url": one.token_url,
            "tenant": one.tenant,
            "audience": one.audience,
            "scope": one.scope,
            "expires_at": one.expires_at().map(rfc3339),
        })
    });
    format!("{}\n", objects.collect::<serde_json::Value>())
}
