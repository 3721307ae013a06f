//! `alvys-auth cache`: what this host has of shared tokens.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use alvys_auth_core::share::Operation;
use alvys_auth_store::{BlockingStore, FileStore, Name, SealedAnswer};
use clap::Subcommand;
use serde_json::json;

use crate::environment::variable;
use crate::failure::Failure;
use crate::output;
use crate::profiles;
use crate::store::{StoreArgs, Url};
use crate::time::{in_words, rfc3339};

/// List or remove the tokens that the processes of this host share.
///
/// Beside a store in the network, these are those that the host has got while that was away.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory below which the files are (ALVYS_CACHE_DIR).
    #[arg(long, value_name = "PATH", global = true)]
    cache_dir: Option<PathBuf>,

    /// The store, if its files are elsewhere, as file:/PATH (ALVYS_STORE).
    #[arg(long, value_name = "URL", global = true)]
    store: Option<Url>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the name and the rest of the lifetime of each entry. Nobody can see more without the client secret.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove all entries, those of earlier versions too. Running programs keep the tokens that they hold.
    Clear,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let store = StoreArgs { store: arguments.store.clone(), cache_dir: arguments.cache_dir.clone(), no_cache: false };
    let profile = variable("ALVYS_PROFILE").map(|name| name.to_string_lossy().into_owned());
    let directory = store.choose(profiles::find(profile.as_deref())?.as_ref()).host_directory()?;
    // What is not there is not made.
    let files = if directory.exists() { Some(FileStore::new(directory)?) } else { None };
    match arguments.action {
        Action::List { json } => {
            let entries = files.as_ref().map(entries).transpose()?.unwrap_or_default();
            output::payload(&if json { objects(&entries) } else { table(&entries) })
        }
        Action::Clear => {
            let tokens = files.map_or(Ok(0), |files| files.clear())?;
            output::payload(&format!("removed {tokens} {}\n", if tokens == 1 { "token" } else { "tokens" }))
        }
    }
}

fn entries(files: &FileStore) -> Result<Vec<(Name, SealedAnswer)>, Failure> {
    let look = |name: Name| {
        let seen = files.run(&name, Operation::Look)?;
        Ok((name, seen))
    };
    files.names()?.into_iter().map(look).collect()
}

fn table(entries: &[(Name, SealedAnswer)]) -> String {
    let mut table = String::new();
    for (name, SealedAnswer { token, busy_for, pause, .. }) in entries {
        let token = token.as_ref().map(|token| format!("a token that is valid for {}", in_words(token.left)));
        let lease = (!busy_for.is_zero()).then(|| "a process asks for the next one".to_owned());
        let pause = pause.as_ref().map(|(_, left)| format!("a wait of {}", in_words(*left)));
        let parts: Vec<String> = [token, lease, pause].into_iter().flatten().collect();
        let parts = if parts.is_empty() { "nothing that counts".to_owned() } else { parts.join("; ") };
        // Writing to a string does not fail.
        let _ = writeln!(table, "{name}  {parts}");
    }
    table
}

fn objects(entries: &[(Name, SealedAnswer)]) -> String {
    let at = |left: Duration| rfc3339(SystemTime::now() + left);
    let objects = entries.iter().map(|(name, SealedAnswer { token, busy_for, pause, .. })| {
        json!({
            "name": name.as_str(),
            "expires_at": token.as_ref().map(|token| at(token.left)),
            "age": token.as_ref().map(|token| token.age.as_secs()),
            "asked_for": !busy_for.is_zero(),
            "paused_until": pause.as_ref().map(|(_, left)| at(*left)),
        })
    });
    format!("{}\n", objects.collect::<serde_json::Value>())
}
