//! The two streams: a payload on stdout, whole or not at all; words on stderr that no terminal obeys.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Writes the payload of a successful run to stdout. A reader that has gone away is no failure.
///
/// # Errors
/// When stdout cannot be written, such as on a full disk.
pub(crate) fn payload(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::configuration(
            format!("cannot write to stdout: {error}"),
            "check where the output is redirected to",
        )),
        _ => Ok(()),
    }
}

/// Writes lines, cleaned before, to stderr. Nobody can be told when that fails.
pub(crate) fn complain(lines: &str) {
    let _ = writeln!(io::stderr().lock(), "{lines}");
}

/// Tells a person at a terminal something beside the payload; whoever reads the log is told by `-v`.
pub(crate) fn warn(sentence: &str) {
    let sentence = one_line(sentence);
    tracing::warn!(target: "alvys_auth", "{sentence}");
    if io::stderr().is_terminal() && !tracing::enabled!(target: "alvys_auth", tracing::Level::WARN) {
        complain(&format!("alvys-auth: {sentence}"));
    }
}

/// `text` without control characters and without characters that turn or hide text, in one line.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_obeyed(c)).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// `value` in a line, with escapes for what a terminal would obey.
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        // Writing to a string does not fail.
        let _ = if is_obeyed(c) { write!(line, "\\u{:04x}", u32::from(c)) } else { line.write_char(c) };
    }
    line + "\n"
}

/// Whether a terminal does something else with `c` than to show it.
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
