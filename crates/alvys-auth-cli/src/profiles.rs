//! Profiles: named settings in one TOML file in the platform's configuration directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alvys_auth_config::read_secret;
use alvys_auth_store::files;
use serde::{Deserialize, Serialize};
use toml_edit::DocumentMut;

use crate::environment::config_directory;
use crate::failure::Failure;
use crate::store::Url;

/// How long an edit of the file waits for another edit.
const PATIENCE: Duration = Duration::from_secs(10);

/// One profile: the settings of an application, and where its secret is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_bundle: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keychain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_command: Option<Vec<String>>,
}

/// Where the secret of a profile is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SecretPlace<'a> {
    Keychain,
    File(&'a Path),
    Command(&'a [String]),
}

/// A profile and its name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) profile: Profile,
}

/// The content of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile that is used when none is given.
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

impl Profile {
    /// The settings of the profile, under the names of their environment variables.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("ALVYS_CLIENT_ID", &self.client_id),
            ("ALVYS_FLOW", &self.flow),
            ("ALVYS_TENANT_ID", &self.tenant),
            ("ALVYS_ENV", &self.env),
            ("ALVYS_ENCODING", &self.encoding),
            ("ALVYS_TOKEN_URL", &self.token_url),
            ("ALVYS_AUDIENCE", &self.audience),
            ("ALVYS_SCOPE", &self.scope),
            ("ALVYS_API_BASE_URL", &self.api_base_url),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    pub(crate) fn secret_place(&self) -> Option<SecretPlace<'_>> {
        if self.keychain == Some(true) {
            return Some(SecretPlace::Keychain);
        }
        let file = self.secret_file.as_deref().map(SecretPlace::File);
        file.or_else(|| self.secret_command.as_deref().map(SecretPlace::Command))
    }
}

impl SecretPlace<'_> {
    /// The place for people. The arguments of a command are left out.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Keychain => "keychain".to_owned(),
            Self::File(path) => format!("file {}", path.display()),
            Self::Command(command) => format!("command {}", command.first().map_or("", String::as_str)),
        }
    }
}

/// The profile `asked`, or the default profile when `asked` is none.
///
/// # Errors
/// When the profile does not exist, or when the file cannot be read.
pub(crate) fn find(asked: Option<&str>) -> Result<Option<Named>, Failure> {
    let mut all = match path() {
        Ok(path) => read(&path)?,
        Err(failure) if asked.is_some() => return Err(failure),
        Err(_) => return Ok(None),
    };
    let Some(name) = asked.map(str::to_owned).or(all.default) else { return Ok(None) };
    match all.profiles.remove(&name) {
        Some(profile) => Ok(Some(Named { name, profile })),
        None => Err(missing(&name)),
    }
}

/// All profiles.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn all() -> Result<Profiles, Failure> {
    read(&path()?)
}

/// Changes the file. Comments and formatting stay, and edits of several processes happen one after the other.
///
/// # Errors
/// The error of `change`, or when the file cannot be read or written. The file has not changed then.
pub(crate) fn edit(change: impl FnOnce(&mut DocumentMut, &Profiles) -> Result<(), Failure>) -> Result<(), Failure> {
    let path = path()?;
    let failed = |error: io::Error| {
        Failure::configuration(
            format!("cannot write {}: {error}", path.display()),
            "check that this user may write there, and that no other `alvys-auth profile` is running",
        )
    };
    let directory = path.parent().unwrap_or(&path);
    if !directory.exists() {
        files::private_directory(directory).map_err(failed)?;
    }
    // The file may be a link to another place. The link stays, and the file that it leads to is replaced.
    let path = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let _lock = files::lock(&path.with_extension("lock"), PATIENCE).map_err(failed)?;
    let text = text(&path)?;
    let profiles = parse(&path, &text)?;
    let mut document = text.parse::<DocumentMut>().map_err(|_| malformed(&path, None))?;
    change(&mut document, &profiles)?;
    let changed = document.to_string();
    // A file that cannot be read again would make all profiles unusable.
    parse(&path, &changed)?;
    files::replace(&path, changed.as_bytes()).map_err(failed)
}

/// The file in which `profile add --insecure-secret-file` keeps the secret of a profile.
///
/// # Errors
/// When there is no home directory.
pub(crate) fn secret_file(name: &str) -> Result<PathBuf, Failure> {
    Ok(path()?.with_file_name("secrets").join(name))
}

pub(crate) fn missing(name: &str) -> Failure {
    Failure::configuration(format!("there is no profile {name}"), "see `alvys-auth profile list`")
}

fn path() -> Result<PathBuf, Failure> {
    let directory = config_directory().ok_or_else(|| {
        Failure::configuration("there is no home directory, so there are no profiles", "set HOME, or use no profile")
    })?;
    Ok(directory.join("profiles.toml"))
}

fn read(path: &Path) -> Result<Profiles, Failure> {
    parse(path, &text(path)?)
}

fn text(path: &Path) -> Result<String, Failure> {
    if fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(String::new());
    }
    // It can name a command to run, so nobody else may write it.
    Ok(read_secret(path)?.to_string())
}

fn parse(path: &Path, text: &str) -> Result<Profiles, Failure> {
    toml_edit::de::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        malformed(path, line)
    })
}

/// The error says where the file is wrong. It does not repeat the text, which may be a secret.
fn malformed(path: &Path, line: Option<usize>) -> Failure {
    let place = line.map(|line| format!(" in line {line}")).unwrap_or_default();
    Failure::configuration(
        format!("{} is not valid{place}", path.display()),
        "correct it: a profile has the keys client_id, flow, tenant, env, encoding, token_url, audience, scope, \
         api_base_url, ca_bundle, store, and one of keychain, secret_file and secret_command; never the secret itself",
    )
}
