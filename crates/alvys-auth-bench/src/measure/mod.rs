//! The measurements, one file for each table.

pub mod allocations;
pub mod crates;
pub mod fetch;
pub mod instructions;
pub mod recovery;
pub mod requests;
pub mod sharing;
pub mod tenants;
pub mod time;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// What measurements fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Builds another binary of this crate, with the same features, and says where it is.
fn binary(name: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--bin", name]);
    build.args(["--manifest-path", &manifest()]);
    if cfg!(feature = "peers") {
        build.args(["--features", "peers"]);
    }
    output(&mut build)?;
    Ok(env::current_exe()?.with_file_name(name))
}

/// Cargo as the user called it: what the one that runs this program has told it about the package would make build scripts
/// run again, and with them most of the build.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "LD_LIBRARY_PATH" {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn manifest() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned()
}

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

/// Runs a command to its end: its standard output, and its standard error where it tells why it failed.
fn output(command: &mut Command) -> Result<(String, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{program} is not installed; on Debian and Ubuntu: apt-get install {program}")
        }
        _ => format!("{program} could not be started: {error}"),
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}\n{err}", output.status).into());
    }
    Ok((out, err))
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}
