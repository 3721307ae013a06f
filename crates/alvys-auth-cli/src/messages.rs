//! Text without control characters, and messages of such text on stderr.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use alvys_auth_core::is_invisible;
use serde_json::Value;

/// Writes lines to stderr. They must be free of control characters. A failure is ignored, because nobody could be told.
pub(crate) fn complain(lines: &str) {
    let _ = writeln!(io::stderr().lock(), "{lines}");
}

/// Writes a warning to the log, which a terminal shows.
pub(crate) fn warn(sentence: &str) {
    tracing::warn!(target: "alvys_auth", "{}", one_line(sentence));
}

/// Writes a warning to the log, or to stderr where no log shows it.
pub(crate) fn notice(sentence: &str) {
    if tracing::enabled!(target: "alvys_auth", tracing::Level::WARN) {
        warn(sentence);
    } else {
        complain(&format!("alvys-auth: {}", one_line(sentence)));
    }
}

/// The settings that have no effect, as far as nobody was told.
static IGNORED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Warns of a setting that has no effect. It may be why the run fails, so a failure repeats what was not shown.
pub(crate) fn ignored(sentence: &str) {
    warn(sentence);
    if !tracing::enabled!(target: "alvys_auth", tracing::Level::WARN) {
        IGNORED.lock().unwrap_or_else(PoisonError::into_inner).push(one_line(sentence));
    }
}

/// The settings that [`ignored`] was called with and that were not shown yet.
pub(crate) fn take_ignored() -> Vec<String> {
    std::mem::take(&mut *IGNORED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// `text` in one line, without control characters and without characters that turn or hide text.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// `value` as one line of JSON, with escapes for control characters.
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        // Writing to a string does not fail.
        let _ = if is_invisible(c) { write!(line, "\\u{:04x}", u32::from(c)) } else { line.write_char(c) };
    }
    line + "\n"
}
