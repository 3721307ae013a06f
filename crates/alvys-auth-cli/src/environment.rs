//! The environment of the process, and the directories of its user.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use etcetera::AppStrategy;
use etcetera::app_strategy::{AppStrategyArgs, choose_native_strategy};

/// The value of an environment variable. None when it is empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The platform's directory for the settings of this program. None when there is no home directory.
pub(crate) fn config_directory() -> Option<PathBuf> {
    usable(strategy()?.config_dir())
}

/// The platform's directory for files that this program may lose. None when there is no home directory.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    usable(strategy()?.cache_dir())
}

fn strategy() -> Option<impl AppStrategy> {
    let names =
        AppStrategyArgs { top_level_domain: String::new(), author: String::new(), app_name: "alvys-auth".into() };
    choose_native_strategy(names).ok()
}

/// Services often run with a HOME such as /dev/null. A relative HOME would be a different directory in each working
/// directory.
fn usable(path: PathBuf) -> Option<PathBuf> {
    let there = path.ancestors().find_map(|ancestor| fs::metadata(ancestor).ok());
    (path.is_absolute() && there.is_some_and(|there| there.is_dir())).then_some(path)
}
