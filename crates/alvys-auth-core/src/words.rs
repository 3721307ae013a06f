//! What a server says of itself, made fit to be shown: problem documents, ids, and nothing that must stay secret.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// How much of the server's own words is kept, in characters.
const LONGEST_QUOTE: usize = 200;
/// A run of letters and digits beyond this is no id but a token or a secret in some encoding, in bytes.
const LONGEST_ID: usize = 40;
/// The longest error code or request id that is kept, in bytes.
const LONGEST_WORD: usize = 128;

/// A body without what may stand around a document: a byte order mark, white space.
pub(crate) fn bare(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii()
}

/// What an error document says, in whichever style it is written: OAuth, RFC 9457, or a framework's own.
#[derive(Default)]
pub(crate) struct Problem {
    /// The machine's word for it, such as `access_denied`.
    pub(crate) code: Option<String>,
    /// The sentences for people; empty when there are none.
    pub(crate) said: String,
}

impl Problem {
    pub(crate) fn read(body: &[u8]) -> Self {
        let object = serde_json::from_slice::<Map<String, Value>>(body).ok().unwrap_or_default();
        let code = ["error", "errorCode"].iter().filter_map(|name| text(&object, name)).find(|code| is_word(code));
        let mut said: Vec<&str> = ["error_description", "detail", "message", "title"]
            .iter()
            .filter_map(|name| text(&object, name))
            .take(1)
            .collect();
        let complaints = field_errors(&object);
        said.extend(complaints.iter().map(String::as_str));
        Self { code: code.map(str::to_owned), said: said.join(" ") }
    }
}

/// The id of the request that support asks for.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    ["x-auth0-requestid", "x-request-id", "cf-ray"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| is_word(id))
}

/// One line of what the server said: no control characters, nothing of `secret`, no token, not too long.
pub(crate) fn cleaned(said: &str, secret: &str) -> String {
    if repeats(said, secret) {
        return "withheld, because it repeats the secret".to_owned();
    }
    let words = said.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty());
    let line = words.map(|word| if looks_like_token(word) { "[token]" } else { word }).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Whether `text` holds `secret`: as it is, as JSON or a URL would escape it, whatever the case.
fn repeats(text: &str, secret: &str) -> bool {
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default().to_lowercase());
    let secret = Zeroizing::new(secret.to_lowercase());
    let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().to_lowercase();
    [text.to_lowercase(), unescaped(text), unescaped(&text.replace('+', " "))]
        .iter()
        .any(|text| text.contains(secret.as_str()) || text.contains(quoted.trim_matches('"')))
}

/// Control characters, and those that turn the direction of text or take no space.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text under `name`, whatever the case of the key; keys come in several styles.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str()
}

/// The `errors` member of a validation problem: each field with its first complaint.
fn field_errors(object: &Map<String, Value>) -> Option<String> {
    let (_, errors) = object.iter().find(|(key, _)| key.eq_ignore_ascii_case("errors"))?;
    let complaints: Vec<String> = errors
        .as_object()?
        .iter()
        .filter_map(|(field, said)| Some(format!("{field}: {}", said.as_str().or_else(|| said.get(0)?.as_str())?)))
        .collect();
    (!complaints.is_empty()).then(|| complaints.join(" "))
}

/// Whether `word` can be an error code or an id: short, printable, in one piece.
pub(crate) fn is_word(word: &str) -> bool {
    !word.is_empty() && word.len() <= LONGEST_WORD && word.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A JWT, or a long run of the characters that tokens and encoded secrets are made of.
fn looks_like_token(word: &str) -> bool {
    let run = word.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '.' | '~')));
    word.len() > 24 && word.contains("eyJ") || run.map(str::len).max().unwrap_or_default() > LONGEST_ID
}
