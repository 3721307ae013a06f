//! Chooses the store through which the command and the sidecar share their tokens, and says which setting has chosen
//! it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use alvys_auth_core::Error;
use alvys_auth_core::share::{Id, Operation};
use alvys_auth_redis::RedisStore;
use alvys_auth_store::{BlockingStore, Fallback, FileStore, MemoryStore, Name, Sealed};
use serde::{Deserialize, Serialize};
use tracing::debug;
use zeroize::Zeroizing;

use crate::environment::{cache_directory, variable};
use crate::failure::Failure;
use crate::messages;
use crate::profiles::Named;

/// The environment variable that names the store. It may contain a password.
pub(crate) const STORE: &str = "ALVYS_STORE";
const FLAG: &str = "--store";
const NO_CACHE: &str = "ALVYS_NO_CACHE";
const CACHE_DIR: &str = "ALVYS_CACHE_DIR";

/// The flags about sharing tokens.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct StoreArgs {
    /// Share tokens through this store: redis://… or rediss://…, file: (the files of this host, the default), file:/PATH, memory:
    /// (of each process) or none (ALVYS_STORE).
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<Url>,

    /// Keep the files of this host below this directory (ALVYS_CACHE_DIR).
    #[arg(long, value_name = "PATH")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Share no tokens, like --store none (ALVYS_NO_CACHE).
    #[arg(long, conflicts_with = "store")]
    pub(crate) no_cache: bool,
}

/// The URL of a store as it was given. It may contain a password, and is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Url(Zeroizing<String>);

/// The chosen store, and the files of this host below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    url: Url,
    /// The setting that has chosen the store.
    by: String,
    /// Where the files of this host are. None when there is no home directory.
    directory: Option<PathBuf>,
}

/// The store that tokens are shared through.
#[derive(Clone)]
pub(crate) struct Store {
    by: String,
    /// The places in order. A place is used when the ones before it cannot be. Empty when nothing is shared.
    places: Vec<Place>,
}

/// One place of a store.
#[derive(Clone)]
pub(crate) struct Place {
    /// The description for people.
    pub(crate) name: String,
    store: Result<Arc<dyn BlockingStore>, Error>,
}

/// The type of store that token sources take.
pub(crate) type Shared = Sealed<Arc<dyn BlockingStore>>;

impl StoreArgs {
    /// Chooses the store from the flags, the environment and a profile, in this order.
    pub(crate) fn choose(&self, profile: Option<&Named>) -> Choice {
        let of_profile = || profile.and_then(|Named { name, profile }| Some((profile.store.clone()?, name)));
        let off = |value: &OsString| !["0", "false", "no"].iter().any(|no| value.eq_ignore_ascii_case(no));
        let (url, by) = if let Some(url) = &self.store {
            (url.clone(), FLAG.to_owned())
        } else if self.no_cache {
            (Url::of("none"), "--no-cache".to_owned())
        } else if variable(NO_CACHE).as_ref().is_some_and(off) {
            (Url::of("none"), NO_CACHE.to_owned())
        } else if let Some(url) = variable(STORE) {
            (Url::of(&url.to_string_lossy()), STORE.to_owned())
        } else if let Some((url, name)) = of_profile() {
            (url, format!("profile {name}"))
        } else {
            (Url::of("file:"), "by default".to_owned())
        };
        let base = self.cache_dir.clone().or_else(|| variable(CACHE_DIR).map(PathBuf::from)).or_else(cache_directory);
        Choice { url, by, directory: base.map(|base| base.join("tokens")) }
    }
}

impl Choice {
    /// Opens the store. Nothing is connected yet.
    ///
    /// # Errors
    /// When the URL cannot be understood, or a file that it names cannot be read.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        if self.by == FLAG {
            self.url.warn();
        }
        let url = self.url.0.as_str();
        let places = match url {
            "none" => Vec::new(),
            "memory:" => {
                let store = Ok(Arc::new(MemoryStore::new()) as Arc<dyn BlockingStore>);
                vec![Place { name: "the memory of each process".to_owned(), store }]
            }
            _ => match self.files()? {
                Some(files) => vec![files],
                None => {
                    let store = RedisStore::new(url).map_err(|error| self.wrong(error))?;
                    let name = store.to_string();
                    vec![Place { name, store: Ok(Arc::new(store)) }, Place::files(self.directory.clone())]
                }
            },
        };
        debug!(target: "alvys_auth", store = ?places, by = self.by, "shares tokens");
        Ok(Store { by: self.by.clone(), places })
    }

    /// The directory of this host's files. There is one with every store.
    pub(crate) fn host_directory(&self) -> Result<PathBuf, Failure> {
        let named = self.path()?.or_else(|| self.directory.clone());
        named.ok_or_else(|| Failure::from(homeless()))
    }

    /// The files, if the URL names files as the store.
    fn files(&self) -> Result<Option<Place>, Failure> {
        if self.url.0.as_str() == "file:" {
            return Ok(Some(Place::files(self.directory.clone())));
        }
        Ok(self.path()?.map(|path| Place::files(Some(path))))
    }

    /// The path in the URL, if the URL names files.
    fn path(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = self.url.0.strip_prefix("file:").filter(|path| !path.is_empty()) else { return Ok(None) };
        // The URL may be written as file:///path, with an empty authority.
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = PathBuf::from(path);
        let absolute = path.is_absolute().then_some(path);
        absolute.map(Some).ok_or_else(|| {
            let what = "the URL of the store names no absolute path after file:";
            self.wrong(Error::configuration(what, "write file:/path, or file: for the directory of this user"))
        })
    }

    fn wrong(&self, error: Error) -> Failure {
        let failure = Failure::from(error);
        let todo = format!("{}; or write file:, file:/path, memory: or none", failure.todo);
        Failure { what: format!("{} ({})", failure.what, self.by), todo, ..failure }
    }
}

impl Store {
    /// The store for token sources. None when nothing is shared. Also none, with a warning, when no place can be used.
    pub(crate) fn shared(&self) -> Option<Shared> {
        let mut usable = self.places.iter().filter_map(|place| place.store.clone().ok());
        let store = match (usable.next(), usable.next()) {
            (Some(first), Some(second)) => Arc::new(Fallback::new(first, second)),
            (Some(one), None) => one,
            (None, _) => {
                self.places.first().and_then(|place| place.store.as_ref().err()).into_iter().for_each(unusable);
                return None;
            }
        };
        Some(Sealed::new(store))
    }

    /// The places, in the order in which they are asked.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The setting that has chosen the store.
    pub(crate) fn by(&self) -> &str {
        &self.by
    }
}

impl Place {
    fn files(directory: Option<PathBuf>) -> Self {
        let Some(directory) = directory else {
            return Self { name: "the files of this host".to_owned(), store: Err(homeless()) };
        };
        let name = format!("the files of this host in {}", directory.display());
        Self { name, store: FileStore::new(directory).map(|store| Arc::new(store) as _) }
    }

    /// Tries what a run does: takes the lease of an entry that nobody uses, and gives it up.
    ///
    /// # Errors
    /// Why the place cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let store = self.store.as_ref().map_err(Clone::clone)?;
        let mut random = [0; 16];
        let _ = getrandom::fill(&mut random);
        let owner = Id::from_bytes(random);
        let Some(name) = Name::parse(&format!("{owner}-0000")) else { return Ok(()) };
        store.run(&name, Operation::Claim { owner, unwanted: None, lease: Duration::from_secs(1) })?;
        let failure = String::new();
        store.run(&name, Operation::Fail { owner, failure, pause: Duration::ZERO }).map(drop)
    }
}

impl Url {
    fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Warns if the URL has a password and was given as an argument.
    pub(crate) fn warn(&self) {
        if self.0.contains('@') || self.0.contains("password=") {
            messages::notice(&format!(
                "other users of this machine can see arguments; give a URL with a password in {STORE}"
            ));
        }
    }
}

impl FromStr for Url {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::of(text))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.places).finish()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Warns once that tokens are not shared.
fn unusable(error: &Error) {
    static TOLD: Once = Once::new();
    let (what, todo) = (error.what(), error.hint());
    let sentence = format!("{what}: each process may request a token of its own; {todo}; see --cache-dir and --store");
    TOLD.call_once(|| messages::notice(&sentence));
}

fn homeless() -> Error {
    Error::configuration("there is no home directory for the tokens", "set HOME, or name a directory")
}
