//! Writes the payload to stdout, whole or not at all.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Writes the payload of a successful run to stdout. It is not a failure when the reader has closed stdout.
///
/// # Errors
/// When stdout cannot be written to, for example because the disk is full.
pub(crate) fn payload(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::configuration(
            format!("cannot write to stdout: {error}"),
            "check the file or the disk that the output is redirected to",
        )),
        _ => Ok(()),
    }
}
