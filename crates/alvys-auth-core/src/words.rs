//! Reads what a server says about an error, and removes everything that must not be shown or logged.

use std::collections::BTreeSet;

use base64::prelude::*;
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::url::{Origin, has_host_and_port};

/// How much of the server's text is kept, in characters.
const LONGEST_QUOTE: usize = 200;
/// The longest run of letters and digits that passes as an id, in bytes. A longer one may be a token or an encoded secret.
const LONGEST_ID: usize = 40;
/// The longest error code or request id that is kept, in bytes.
const LONGEST_WORD: usize = 128;
/// How long a part of a secret must be to count as an echo of it, in characters.
const ECHO: usize = 10;
/// How many layers of escapes are taken off a text.
const LAYERS: usize = 4;

/// The response headers that a server's support asks for, most useful first.
pub(crate) const SUPPORT_HEADERS: [&str; 6] =
    ["x-auth0-requestid", "x-request-id", "cf-ray", "x-correlation-id", "x-ms-request-id", "x-azure-ref"];

/// The body without a byte order mark and white space around it.
pub(crate) fn bare(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii()
}

/// What an error document says: in the format of OAuth (RFC 6749), of RFC 9457, or of a web framework.
#[derive(Default)]
pub(crate) struct Problem {
    /// The error code for programs, such as `access_denied`.
    pub(crate) code: Option<String>,
    /// The description for people; empty when there is none.
    pub(crate) said: String,
    /// `error_uri`, not checked.
    pub(crate) uri: Option<String>,
}

impl Problem {
    pub(crate) fn read(body: &[u8]) -> Self {
        let object = serde_json::from_slice::<Map<String, Value>>(body).ok().unwrap_or_default();
        // Gateways put the members into an object of its own: `{"error": {"code": …, "message": …}}`.
        let inner = member(&object, "error").and_then(Value::as_object);
        let names = ["error", "errorCode"].map(|name| (&object, name));
        let mut names = names.into_iter().chain(inner.map(|inner| (inner, "code")));
        let code = names.find_map(|(object, name)| text(object, name).filter(|code| is_word(code)));
        let described =
            |object| ["error_description", "detail", "message", "title"].iter().find_map(|name| text(object, name));
        let said = described(&object).or_else(|| inner.and_then(described)).map(str::to_owned);
        let said: Vec<String> = said.into_iter().chain(complaints(&object)).collect();
        let uri = text(&object, "error_uri").map(str::to_owned);
        Self { code: code.map(str::to_owned), said: said.join(" "), uri }
    }
}

/// The response headers that support asks for, without `secret`.
pub(crate) fn support_headers(headers: &HeaderMap, secret: &str) -> Vec<(&'static str, String)> {
    let id = |name| headers.get(name)?.to_str().ok().filter(|id| is_word(id));
    SUPPORT_HEADERS.into_iter().filter_map(|name| Some((name, cleaned(id(name)?, secret)))).collect()
}

/// `uri` if it is a short http or https URL of printable ASCII, without user information, `secret` and tokens.
pub(crate) fn plain_uri(uri: String, secret: &str) -> Option<String> {
    let parsed: Uri = uri.parse().ok()?;
    let located = Origin::of(&parsed).is_some() && parsed.authority().is_some_and(has_host_and_port);
    let plain = uri.len() <= LONGEST_QUOTE && uri.bytes().all(|byte| byte.is_ascii_graphic());
    let token = uri.contains("eyJ") || uri.split(['/', '.', '?', '&', '=', '#']).any(looks_like_token);
    (located && plain && !token && !echoes(&uri, secret)).then_some(uri)
}

/// What the server said in one line: without control characters, `secret` and tokens, and at most 200 characters long.
pub(crate) fn cleaned(said: &str, secret: &str) -> String {
    if echoes(said, secret) {
        return "withheld, because it repeats the secret".to_owned();
    }
    one_line(said, |word| if looks_like_token(word) { "[token]" } else { word })
}

/// `text` in one line, without control characters, and at most 200 characters long; each word as `shown`.
pub(crate) fn one_line(text: &str, shown: impl FnMut(&str) -> &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty());
    let line = words.map(shown).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Whether `text` repeats ten characters of `secret` in a row, or all of a shorter one: for programs that show what a server
/// said. Escapes of URLs, HTML and JSON, white space, punctuation, case and the direction make no difference. Ten characters of
/// `secret` in hexadecimal or in base64, wherever it begins in there, count as well.
///
/// ```
/// use alvys_auth_core::echoes;
///
/// assert!(echoes("bad secret: TR0UB4DOR%2526 3", "tr0ub4dor&3-staple"));
/// assert!(!echoes("bad secret: tr0ub4", "tr0ub4dor&3-staple"));
/// assert!(echoes("Basic bXktY2xpZW50OnRyMHViNGRvciYzLXN0YXBsZQ==", "tr0ub4dor&3-staple"));
/// ```
pub fn echoes(text: &str, secret: &str) -> bool {
    let letters =
        |text: &[char]| Zeroizing::new(text.iter().copied().filter(|c| c.is_alphanumeric()).collect::<Vec<_>>());
    let plain = unescaped(text);
    let encoded = in_base64(secret).iter().any(|part| shares(&plain, part));
    let hex = Zeroizing::new(secret.bytes().flat_map(in_hex).collect::<Vec<_>>());
    let (text, secret) = (folded(&plain), folded(&unescaped(secret)));
    let (all, few) = (letters(&text), letters(&secret));
    encoded
        || hex.len() >= ECHO && shares(&all, &hex)
        || shares(&text, &secret)
        || few.len() >= ECHO.min(secret.len()) && shares(&all, &few)
}

/// The characters of `secret` in base64, those of a URL and the others, as far as what stands before and after it changes
/// nothing about them: for each of the three places in a group where it may begin. Too few of them say nothing.
fn in_base64(secret: &str) -> Vec<Zeroizing<Vec<char>>> {
    let whole = |before: usize| {
        let bytes = Zeroizing::new([&[0; 2][..before], secret.as_bytes()].concat());
        let text = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(&bytes));
        // The characters that hold bits of the bytes before it, and the last one where it holds bits of the byte after it.
        let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        Zeroizing::new(text.chars().take(last).skip(first).collect::<Vec<_>>())
    };
    let url = |part: &[char]| {
        let other = |c: &char| {
            if *c == '+' {
                '-'
            } else if *c == '/' {
                '_'
            } else {
                *c
            }
        };
        Zeroizing::new(part.iter().map(other).collect())
    };
    let parts = (0..3).map(whole).filter(|part| part.len() >= ECHO);
    parts.flat_map(|part| [url(&part), part]).collect()
}

fn in_hex(byte: u8) -> impl Iterator<Item = char> {
    [byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16))
}

fn shares(text: &[char], secret: &[char]) -> bool {
    let long = ECHO.min(secret.len()).max(1);
    let backwards = Zeroizing::new(secret.iter().rev().copied().collect::<Vec<_>>());
    let parts: BTreeSet<&[char]> = secret.windows(long).chain(backwards.windows(long)).collect();
    text.windows(long).any(|part| parts.contains(part))
}

/// The characters of `text` without white space and escapes.
fn unescaped(text: &str) -> Zeroizing<Vec<char>> {
    let mut plain = Zeroizing::new(text.to_owned());
    for _ in 0..LAYERS {
        let decoded = Zeroizing::new(percent_decode_str(&plain).decode_utf8_lossy().into_owned());
        plain = Zeroizing::new(without_references(&decoded));
    }
    let shown = |c: &char| !c.is_whitespace() && !is_invisible(*c);
    Zeroizing::new(plain.chars().filter(shown).collect())
}

fn folded(text: &[char]) -> Zeroizing<Vec<char>> {
    Zeroizing::new(text.iter().flat_map(|c| c.to_lowercase()).collect())
}

/// `text` with one layer of the escapes of HTML (`&amp;`, `&#38;`) and JSON (`\\`, `\u0026`) taken off.
fn without_references(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['&', '\\']) {
        let (before, escaped) = rest.split_at(at);
        plain.push_str(before);
        let numbered = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let (length, c) = match (escaped.strip_prefix('\\'), escaped.get(1..).and_then(|name| name.split_once(';'))) {
            (Some(json), _) => match json.chars().next() {
                Some('u' | 'U') => (6, json.get(1..5).and_then(|digits| numbered(digits, 16))),
                Some('b' | 'f' | 'n' | 'r' | 't') => (2, Some(' ')),
                c => (1 + c.map_or(0, char::len_utf8), c),
            },
            (None, Some((name, _))) => {
                let name = name.to_ascii_lowercase();
                let c = match (name.as_str(), name.strip_prefix("#x"), name.strip_prefix('#')) {
                    ("amp", ..) => Some('&'),
                    ("lt" | "gt" | "quot" | "apos" | "nbsp", ..) => Some(' '),
                    (_, Some(digits), _) => numbered(digits, 16),
                    (_, None, digits) => digits.and_then(|digits| numbered(digits, 10)),
                };
                (name.len() + 2, c)
            }
            (None, None) => (1, None),
        };
        let length = if c.is_some() { length } else { 1 };
        plain.push(c.unwrap_or(' '));
        rest = escaped.get(length..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

/// Whether `c` is a control character, or one that changes the direction of a text, hides in it, or takes no space: a terminal
/// or a reader would obey it, and not see it.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The member `name`. Ignores the case of names, because servers differ in it.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member(object, name)?.as_str()
}

/// The `errors` member: each field with the first message about it, or a list of messages.
fn complaints(object: &Map<String, Value>) -> Vec<String> {
    match member(object, "errors") {
        Some(Value::Object(errors)) => errors
            .iter()
            .filter_map(|(field, said)| Some(format!("{field}: {}", said.as_str().or_else(|| said.get(0)?.as_str())?)))
            .collect(),
        Some(Value::Array(errors)) => {
            let said =
                |error: &'_ Value| Some(error.as_str().or_else(|| text(error.as_object()?, "message"))?.to_owned());
            errors.iter().filter_map(said).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether `word` can be an error code or an id: printable ASCII without spaces, at most 128 bytes.
pub(crate) fn is_word(word: &str) -> bool {
    !word.is_empty() && word.len() <= LONGEST_WORD && word.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `word` contains a JWT, or a run of more than 40 of the characters in tokens and encoded secrets.
fn looks_like_token(word: &str) -> bool {
    let run = word.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '.' | '~')));
    word.len() > 24 && word.contains("eyJ") || run.map(str::len).max().unwrap_or_default() > LONGEST_ID
}
