//! Reads credentials from text: JSON, lines of `NAME=value`, or one value. No error repeats any of the text.

use std::mem;

use alvys_auth_core::{Credentials, Error};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::variables::{CLIENT_ID, CLIENT_SECRET};

/// The longest file and the longest output of a program that is read, in bytes.
pub(crate) const LIMIT: usize = 64 * 1024;

/// The bytes of a file or of a program's output as text. Errors call the file or the program `place`.
pub(crate) fn utf8(mut bytes: Zeroizing<Vec<u8>>, place: &str) -> Result<Zeroizing<String>, Error> {
    String::from_utf8(mem::take(&mut bytes)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        Error::configuration(
            format!("{place} is not UTF-8 text"),
            "write it in UTF-8; in Windows PowerShell, `>` writes UTF-16",
        )
    })
}

/// The one value in `text`, without a byte order mark before it and line breaks after it.
pub(crate) fn bare(text: &str) -> Zeroizing<String> {
    Zeroizing::new(without_mark(text).trim_end_matches(['\r', '\n']).to_owned())
}

/// Both values from one text: JSON when it begins with a brace, otherwise lines.
pub(crate) fn pair(text: &str, place: &str) -> Result<Credentials, Error> {
    let text = without_mark(text);
    let refused = |what: String, hint: &'static str| Err(Error::configuration(format!("{place} {what}"), hint));
    if text.trim().is_empty() {
        return refused("is empty".to_owned(), FORMAT);
    }
    let json = text.trim_start().starts_with('{');
    let pair = if json { object(text) } else { lines(text) };
    let names = if json { ["client_id", "client_secret"] } else { NAMES };
    match pair {
        Err(what) => refused(what, FORMAT),
        Ok([None, _]) => refused(format!("has no {}", names[0]), FORMAT),
        Ok([_, None]) => refused(format!("has no {}", names[1]), FORMAT),
        Ok([Some(client_id), Some(client_secret)]) => credentials(client_id, client_secret, place),
    }
}

/// Checks the credentials. An error says where the refused value came from.
pub(crate) fn credentials(
    mut client_id: Zeroizing<String>,
    mut client_secret: Zeroizing<String>,
    place: &str,
) -> Result<Credentials, Error> {
    Credentials::new(mem::take(&mut *client_id), mem::take(&mut *client_secret)).map_err(|error| located(place, &error))
}

/// The error with the place of the value before it.
pub(crate) fn located(place: &str, error: &Error) -> Error {
    Error::configuration(format!("{place}: {}", error.what()), error.hint().to_owned())
}

const FORMAT: &str = "write {\"client_id\": \"…\", \"client_secret\": \"…\"}, or lines such as ALVYS_CLIENT_ID=…; \
                      if it contains the client secret alone, give the client id in a setting";

const NAMES: [&str; 2] = [CLIENT_ID[0], CLIENT_SECRET[0]];

/// The client id and the client secret as far as the text has them, or what is wrong with the text.
type Pair = Result<[Option<Zeroizing<String>>; 2], String>;

fn object(text: &str) -> Pair {
    #[derive(Deserialize)]
    struct Object {
        client_id: Option<Zeroizing<String>>,
        client_secret: Option<Zeroizing<String>>,
    }
    match serde_json::from_str::<Object>(text) {
        Ok(Object { client_id, client_secret }) => Ok([client_id, client_secret]),
        // The parser's message may repeat the text, so it is not used.
        Err(error) if error.is_data() => Err(format!(
            "contains a client_id or client_secret twice, or one that is not a string, in line {}",
            error.line()
        )),
        Err(error) => Err(format!("is not valid JSON at line {}, column {}", error.line(), error.column())),
    }
}

/// `NAME=value` per line, as in a `.env` file. Values are taken literally, without expansion and escapes, because a secret
/// may contain any character. A value that other readers of such files would read differently is refused.
fn lines(text: &str) -> Pair {
    let mut pair: [Option<Zeroizing<String>>; 2] = [None, None];
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            return Err(format!("is not a JSON object, and its line {number} is not NAME=value"));
        };
        let name = name.trim();
        let Some(half) = [&CLIENT_ID, &CLIENT_SECRET].iter().position(|names| names.contains(&name)) else { continue };
        let value = literal(value.trim()).map_err(|what| format!("has a value in line {number} {what}"))?;
        if pair[half].as_ref().is_some_and(|other| other.as_str() != value) {
            return Err(format!("has two different values for {}, the second in line {number}", NAMES[half]));
        }
        pair[half] = Some(Zeroizing::new(value.to_owned()));
    }
    Ok(pair)
}

fn literal(value: &str) -> Result<&str, &'static str> {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let spaced = value.contains(char::is_whitespace);
        return if spaced {
            Err("with white space or a comment in it; put the value in single quotes")
        } else {
            Ok(value)
        };
    };
    match value[1..].strip_suffix(quote) {
        Some(inner) if inner.contains(quote) || quote == '"' && inner.contains('\\') => {
            Err("with quotes or backslashes inside double quotes; put the value in single quotes")
        }
        Some(inner) => Ok(inner),
        None => Err("that begins with a quote but does not end with the same quote"),
    }
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
