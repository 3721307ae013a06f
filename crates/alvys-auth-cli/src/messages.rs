//! Text without control characters, and messages of such text on stderr.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use alvys_auth_core::is_invisible;
use serde_json::Value;

/// Writes lines to stderr. They must be free of control characters. A failure is ignored, because nobody could be told.
pub(crate) fn complain(lines: &str) {
    let _ = writeln!(io::stderr().lock(), "{lines}");
}

/// Writes a warning to the log, or to stderr when a person reads that at a terminal without the log.
pub(crate) fn warn(sentence: &str) {
    let sentence = one_line(sentence);
    tracing::warn!(target: "alvys_auth", "{sentence}");
    if io::stderr().is_terminal() && !tracing::enabled!(target: "alvys_auth", tracing::Level::WARN) {
        complain(&format!("alvys-auth: {sentence}"));
    }
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
