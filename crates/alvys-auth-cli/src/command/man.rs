//! `alvys-auth man`: the manual pages.

use std::fs;
use std::path::PathBuf;

use clap::Command;

use crate::failure::Failure;

/// Write the manual pages into a directory, one for each command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory; it is made when it is missing.
    directory: PathBuf,
}

pub(crate) fn run(arguments: &Args, line: Command) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(line, directory));
    written.map(|_| ()).map_err(|error| {
        Failure::configuration(
            format!("cannot write the manual into {}: {error}", directory.display()),
            "give a directory that this user may write to",
        )
    })
}
