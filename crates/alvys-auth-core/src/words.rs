//! Reads what a server says about an error, and removes everything that must not be shown or logged.

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
        let code = ["error", "errorCode"].iter().filter_map(|name| text(&object, name)).find(|code| is_word(code));
        let mut said: Vec<&str> = ["error_description", "detail", "message", "title"]
            .iter()
            .filter_map(|name| text(&object, name))
            .take(1)
            .collect();
        let complaints = field_errors(&object);
        said.extend(complaints.iter().map(String::as_str));
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
    (located && plain && !token && !repeats(&uri, secret)).then_some(uri)
}

/// What the server said in one line: without control characters, `secret` and tokens, and at most 200 characters long.
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

/// Whether `text` contains `secret`, as it is or as JSON or a URL would escape it. Ignores case.
fn repeats(text: &str, secret: &str) -> bool {
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default().to_lowercase());
    let secret = Zeroizing::new(secret.to_lowercase());
    let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().to_lowercase();
    [text.to_lowercase(), unescaped(text), unescaped(&text.replace('+', " "))]
        .iter()
        .any(|text| text.contains(secret.as_str()) || text.contains(quoted.trim_matches('"')))
}

/// Whether `c` is a control character, changes the direction of the text, or takes no space.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text of the member `name`. Ignores the case of names, because servers differ in it.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str()
}

/// The `errors` member of a validation problem: each field with the first message about it.
fn field_errors(object: &Map<String, Value>) -> Option<String> {
    let (_, errors) = object.iter().find(|(key, _)| key.eq_ignore_ascii_case("errors"))?;
    let complaints: Vec<String> = errors
        .as_object()?
        .iter()
        .filter_map(|(field, said)| Some(format!("{field}: {}", said.as_str().or_else(|| said.get(0)?.as_str())?)))
        .collect();
    (!complaints.is_empty()).then(|| complaints.join(" "))
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
