//! From a refusal to its likely cause: the table of what Alvys token endpoints answer, and what to do about it.

use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::Inner;
use crate::retry_after::retry_after;
use crate::{Error, ErrorKind, TokenRequest};

/// How much of the server's own words is kept, in characters.
const LONGEST_QUOTE: usize = 200;
/// The longest error code or request id that is kept, in bytes.
const LONGEST_WORD: usize = 128;

/// An answer and the request it belongs to.
pub(crate) struct Answer<'a> {
    pub(crate) request: &'a TokenRequest,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What a refusal means.
struct Verdict {
    kind: ErrorKind,
    retryable: bool,
    what: &'static str,
    hint: &'static str,
}

/// Turns an answer that carries no token into an error.
pub(crate) fn diagnose(answer: &Answer<'_>) -> Error {
    let object = serde_json::from_slice::<Map<String, Value>>(answer.body).ok();
    let member = |names: &[&str]| object.as_ref().and_then(|object| text(object, names));
    let code = member(&["error"]).filter(|code| is_word(code)).map(|code| answer.cleaned(&code));
    let said = member(&["error_description", "detail", "message", "title"]);
    let fields = object.as_ref().and_then(field_errors);
    let said = match (said, fields) {
        (Some(said), Some(fields)) => Some(format!("{said} {fields}")),
        (said, fields) => said.or(fields),
    };
    let said = said.map(|said| answer.cleaned(&said)).filter(|said| !said.is_empty());
    let verdict = verdict(answer, object.is_some(), code.as_deref(), said.as_deref().unwrap_or_default());
    Error::build(Inner {
        retryable: verdict.retryable,
        retry_after: retry_after(answer.status, answer.headers),
        status: Some(answer.status),
        oauth_code: code,
        server_said: said,
        request_id: answer.request_id(),
        ..Inner::new(verdict.kind, verdict.what, verdict.hint)
    })
}

/// A body that should have been a token response and cannot be read as one.
pub(crate) fn unreadable(answer: &Answer<'_>, what: &'static str) -> Error {
    let encoded = answer.headers.get(http::header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    let hint = if encoded || answer.body.starts_with(b"\x1f\x8b") {
        "the answer is compressed: let the HTTP client decompress it, or stop it from offering to"
    } else {
        "the answer was cut short or comes from something else than Alvys: check the endpoint and any proxy in between"
    };
    Error::build(Inner {
        status: Some(answer.status),
        request_id: answer.request_id(),
        ..Inner::new(ErrorKind::InvalidResponse, what, hint)
    })
}

/// The table. Rows are tried from top to bottom: what the body says first, then what the status alone tells.
fn verdict(answer: &Answer<'_>, is_json: bool, code: Option<&str>, said: &str) -> Verdict {
    use ErrorKind::{Credentials, Intercepted, InvalidResponse, RateLimited, Refused, Unavailable};
    let legacy = answer.request.flow().is_legacy();
    let status = answer.status.as_u16();
    let html = answer.body.starts_with(b"<");
    let row = |kind, retryable, what, hint| Verdict { kind, retryable, what, hint };
    let refused = |hint| row(Refused, false, "the token endpoint refused the request", hint);
    let wrong_credentials = |hint| row(Credentials, false, "the token endpoint refused the credentials", hint);
    let too_many = |hint| row(RateLimited, true, "the token endpoint asks for fewer requests", hint);
    let unavailable = |hint| row(Unavailable, true, "the token endpoint is unavailable", hint);

    if html && status != 503 {
        let hint = "an HTML page came back: a proxy, a captive portal or a bot check stands in between";
        return row(
            Intercepted,
            status == 429 || status >= 500,
            "something else than the token endpoint answered",
            hint,
        );
    }
    match (code, said) {
        (_, said) if said.contains("Global limit has been reached") => {
            return too_many(
                "this is a rate limit although the status says otherwise; ask for tokens less often and share them",
            );
        }
        (Some("too_many_requests" | "slow_down"), _) => {
            return too_many(
                "ask for tokens less often: keep them for their whole lifetime and share them between processes",
            );
        }
        (Some("temporarily_unavailable" | "server_error"), _) => {
            return unavailable("wait; it is the server's side that is in trouble");
        }
        (Some("unsupported_grant_type"), _) => {
            return refused("this endpoint does not speak client credentials: check the token URL");
        }
        (Some("unauthorized_client"), _) => {
            return refused(
                "the application may not use client credentials: have an Alvys administrator allow that grant type",
            );
        }
        (Some("invalid_client"), said) if said.contains("Missing client_id") => {
            return wrong_credentials(
                "no client id arrived: check that nothing in between strips the body or changes its content type",
            );
        }
        (Some("invalid_client"), _) => {
            return wrong_credentials("check the client id and the secret, and that the application has not expired");
        }
        (Some("invalid_scope"), _) => {
            return refused("ask for no scopes: a token always carries every scope that was granted");
        }
        (Some("invalid_request"), _) if status < 500 => {
            return refused(
                "the request was not understood: check the token URL, and that nothing in between changes the body",
            );
        }
        (Some("access_denied"), said) if said.contains("Service not enabled within domain") => {
            return refused("the audience is not known: it must be https://api.alvys.com/public/ and end in a slash");
        }
        (Some("access_denied"), said) if said.contains("Client is not authorized to access") => {
            return refused(
                "this application was not granted the audience: check the audience, or have an Alvys administrator grant it",
            );
        }
        (Some("access_denied"), said) if said.contains("has not been granted scopes") => {
            return refused(
                "this application was not granted the scopes named: ask for none, a token always carries every granted one",
            );
        }
        (Some("access_denied"), said) if said.contains("Non-global clients") => {
            return refused("no audience arrived: it must be https://api.alvys.com/public/ and end in a slash");
        }
        _ => {}
    }
    match status {
        429 => too_many("wait as long as the server says, and share one token instead of asking for several"),
        501 => refused("this endpoint does not know the grant type: check the token URL"),
        503 if html => unavailable("an HTML page came back: the server is down, or a proxy cannot reach it"),
        408 | 425 | 500.. => unavailable("wait; it is the server's side that is in trouble"),
        401 => wrong_credentials("check the client id and the secret, and that the application has not expired"),
        403 if legacy => wrong_credentials(
            "check client id, secret and tenant; the legacy endpoint says 403 when one of them is wrong",
        ),
        403 => refused(
            "the application is known, but not allowed this: check the audience and the application's permissions",
        ),
        404 | 405 if legacy => refused(
            "there is no such token endpoint: check URL and tenant; the legacy flow was announced to shut down on 2025-07-31",
        ),
        404 | 405 => refused("there is no such token endpoint: check the token URL"),
        415 => refused("the endpoint does not take this content type: choose the other encoding"),
        300..400 => row(
            Intercepted,
            false,
            "the token endpoint answered with a redirect, which is not followed because the secret would go along",
            "check the token URL; a captive portal or a proxy may stand in between",
        ),
        400..500 if answer.body.is_empty() => row(
            Intercepted,
            false,
            "something else than the token endpoint answered",
            "the body is empty: a proxy or a firewall may stand in between",
        ),
        400..500 => refused("check the token URL, the tenant and the values sent"),
        _ if answer.body.is_empty() => row(
            Intercepted,
            false,
            "the answer of the token endpoint is empty",
            "a proxy or a captive portal may stand in between: check the token URL",
        ),
        _ if is_json => {
            refused("the server reports an error although the status says success; its own words tell more")
        }
        _ => row(
            InvalidResponse,
            false,
            "the answer of the token endpoint makes no sense",
            "check that the token URL is the Alvys token endpoint",
        ),
    }
}

impl Answer<'_> {
    /// The id that support asks for.
    pub(crate) fn request_id(&self) -> Option<String> {
        ["x-auth0-requestid", "x-request-id", "cf-ray"]
            .into_iter()
            .filter_map(|name| self.headers.get(name)?.to_str().ok())
            .find(|id| is_word(id))
            .map(|id| self.cleaned(id))
    }

    /// One line of what the server said: no control characters, no secret of ours, no token, not too long.
    fn cleaned(&self, said: &str) -> String {
        let secret = self.request.credentials().client_secret();
        if repeats(said, secret) {
            return "withheld, because it repeats the secret".to_owned();
        }
        let words = said.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty());
        let line =
            words.map(|word| if looks_like_token(word) { "[token]" } else { word }).collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(LONGEST_QUOTE) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }
}

/// Whether `text` holds `secret`: as it is, as JSON or a URL would escape it, whatever the case.
fn repeats(text: &str, secret: &str) -> bool {
    let quoted = serde_json::to_string(secret).unwrap_or_default().to_lowercase();
    let secret = secret.to_lowercase();
    let unescaped = |text: &str| percent_decode_str(text).decode_utf8_lossy().to_lowercase();
    [text.to_lowercase(), unescaped(text), unescaped(&text.replace('+', " "))]
        .iter()
        .any(|text| text.contains(&secret) || text.contains(quoted.trim_matches('"')))
}

/// Control characters, and those that turn the direction of text or take no space.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The first of `names` that holds text, whatever the case of its key; keys come in several styles.
fn text(object: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let (_, value) = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        value.as_str().map(str::to_owned)
    })
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
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.len() <= LONGEST_WORD && word.bytes().all(|byte| byte.is_ascii_graphic())
}

fn looks_like_token(word: &str) -> bool {
    word.len() > 24 && word.contains("eyJ")
}
