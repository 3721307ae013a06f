//! `alvys-auth profile`: adds, lists and removes profiles.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use alvys_auth_store::files;
use clap::Subcommand;
use serde_json::json;
use toml_edit::{DocumentMut, Item, Table, Value, value};

use crate::failure::Failure;
use crate::profiles::{self, Profile, Profiles, SecretPlace};
use crate::secret::{self, SecretArgs};
use crate::settings::TargetArgs;
use crate::store::Url;
use crate::{keychain, messages, output};

/// Keep settings under a name, for example one profile for each tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a profile.
    ///
    /// A secret from stdin is kept in the operating system's keychain. For a file or a command, the profile keeps the path or
    /// the command.
    Add(Box<Add>),
    /// Show all profiles and where their secrets are; never the secrets.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a profile, and the secret that was kept for it.
    Remove {
        /// The name of the profile.
        name: String,
    },
    /// Make a profile the default: it is used when no profile is given.
    Use {
        /// The name of the profile.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The name of the profile: letters, digits, `-` and `_`.
    name: String,

    /// Replace an existing profile of this name.
    #[arg(long)]
    replace: bool,

    /// The application's client id.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    #[command(flatten)]
    secret: SecretArgs,

    /// Keep the secret from stdin unencrypted in a file that only this user may read, instead of the keychain.
    #[arg(long, requires = "secret_stdin")]
    insecure_secret_file: bool,

    #[command(flatten)]
    target: TargetArgs,

    /// Trust the certificates in this PEM file instead of those of the system.
    #[arg(long, value_name = "PATH")]
    ca_bundle: Option<PathBuf>,

    /// Share tokens through this store.
    #[arg(long, value_name = "URL")]
    store: Option<Url>,
}

pub(crate) fn run(arguments: Args) -> Result<(), Failure> {
    match arguments.action {
        Action::Add(arguments) => add(*arguments),
        Action::List { json } => {
            let all = profiles::all()?;
            output::payload(&if json { objects(&all) } else { table(&all) })
        }
        Action::Remove { name } => remove(&name),
        Action::Use { name } => profiles::edit(|document, all| {
            all.profiles.contains_key(&name).then_some(()).ok_or_else(|| profiles::missing(&name))?;
            match document.get_mut("default").and_then(Item::as_value_mut) {
                // Comments beside the value stay.
                Some(old) => {
                    let mut new = Value::from(&name);
                    *new.decor_mut() = old.decor().clone();
                    *old = new;
                }
                None => document["default"] = value(&name),
            }
            Ok(())
        }),
    }
}

fn add(arguments: Add) -> Result<(), Failure> {
    let Add { name, replace, client_id, secret, insecure_secret_file, target, ca_bundle, store } = arguments;
    checked(&name)?;
    store.iter().for_each(Url::warn);
    // Read before the lock is taken, because the writer of the pipe may be slow.
    let given = if secret.secret_stdin { Some(secret::from_stdin()?) } else { None };
    let command = secret.secret_command.as_deref().map(secret::words).transpose()?;
    let mut superfluous = None;
    profiles::edit(|document, all| {
        if all.profiles.contains_key(&name) && !replace {
            return Err(Failure::configuration(
                format!("profile {name} exists already"),
                "choose another name, or add --replace",
            ));
        }
        let mut profile = Profile {
            client_id,
            flow: target.flow,
            tenant: target.tenant,
            env: target.env,
            encoding: target.encoding,
            token_url: target.token_url,
            audience: target.audience,
            scope: target.scope,
            api_base_url: target.api_base_url,
            ca_bundle: ca_bundle.as_deref().map(whole).transpose()?,
            store: store.clone(),
            keychain: None,
            secret_file: secret.secret_file.as_deref().map(whole).transpose()?,
            secret_command: command,
        };
        let own_file = profiles::secret_file(&name)?;
        match &given {
            Some(secret) if insecure_secret_file => {
                let directory = own_file.parent().unwrap_or(&own_file);
                let kept =
                    files::private_directory(directory).and_then(|()| files::replace(&own_file, secret.as_bytes()));
                kept.map_err(|error| unwritable(&own_file, &error))?;
                profile.secret_file = Some(own_file);
            }
            Some(secret) => {
                keychain::write(&name, secret)?;
                profile.keychain = Some(true);
            }
            None => {}
        }
        let same_place = |old: &&Profile| old.keychain == profile.keychain && old.secret_file == profile.secret_file;
        superfluous = all.profiles.get(&name).filter(|old| !same_place(old)).cloned();
        put(document, &name, &profile)
    })?;
    // Removed last: if the edit had failed, the old profile would still need its secret.
    superfluous.map_or(Ok(()), |old| forget(&name, &old))
}

fn remove(name: &str) -> Result<(), Failure> {
    profiles::edit(|document, all| {
        let profile = all.profiles.get(name).ok_or_else(|| profiles::missing(name))?;
        forget(name, profile)?;
        if let Some(profiles) = document.get_mut("profiles").and_then(Item::as_table_like_mut) {
            profiles.remove(name);
        }
        if all.default.as_deref() == Some(name) {
            document.remove("default");
        }
        Ok(())
    })
}

/// Removes the secret that was kept for a profile. A file or a command of the user stays.
fn forget(name: &str, profile: &Profile) -> Result<(), Failure> {
    let own_file = profiles::secret_file(name)?;
    match profile.secret_place() {
        Some(SecretPlace::Keychain) => keychain::delete(name),
        Some(SecretPlace::File(path)) if path == own_file => match fs::remove_file(&own_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&own_file, &error)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn put(document: &mut DocumentMut, name: &str, profile: &Profile) -> Result<(), Failure> {
    let failed =
        || Failure::configuration("the profile cannot be written", "remove control characters from its values");
    let table = toml_edit::ser::to_document(profile).map_err(|_| failed())?.as_table().clone();
    let profiles = document.entry("profiles").or_insert_with(|| {
        let mut profiles = Table::new();
        profiles.set_implicit(true);
        Item::Table(profiles)
    });
    profiles.as_table_like_mut().ok_or_else(failed)?.insert(name, Item::Table(table));
    Ok(())
}

/// Refuses a name that cannot be the name of a file and of an item of the keychain.
fn checked(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::usage("this cannot be the name of a profile", "use up to 64 letters, digits, - and _"))
}

/// The absolute path, because the profile may be used in another directory.
fn whole(path: &Path) -> Result<PathBuf, Failure> {
    absolute(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(format!("cannot use {}: {error}", path.display()), "check that it belongs to this user")
}

fn table(all: &Profiles) -> String {
    let mut table = String::new();
    for (name, profile) in &all.profiles {
        let mark = if all.default.as_ref() == Some(name) { "*" } else { " " };
        let client_id = profile.client_id.as_deref().unwrap_or("-");
        let target = [&profile.flow, &profile.tenant, &profile.env].into_iter().flatten();
        let target: Vec<&str> = target.map(String::as_str).collect();
        let target = if target.is_empty() { "current".to_owned() } else { target.join(" ") };
        let secret = profile.secret_place().map_or_else(|| "none".to_owned(), SecretPlace::in_words);
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "{mark} {name}  {}",
            messages::one_line(&format!("{client_id}  {target}  secret: {secret}"))
        );
    }
    table
}

fn objects(all: &Profiles) -> String {
    let objects = all.profiles.iter().map(|(name, profile)| {
        json!({
            "name": name,
            "default": all.default.as_ref() == Some(name),
            "client_id": profile.client_id,
            "flow": profile.flow.as_deref().unwrap_or("current"),
            "tenant": profile.tenant,
            "env": profile.env.as_deref().unwrap_or("production"),
            "token_url": profile.token_url,
            "api_base_url": profile.api_base_url,
            "secret": profile.secret_place().map(SecretPlace::in_words),
        })
    });
    format!("{}\n", objects.collect::<serde_json::Value>())
}
