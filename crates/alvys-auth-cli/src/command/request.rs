//! `alvys-auth request`: one authorized call.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use alvys_auth_core::echoes;
use alvys_auth_ureq::RequestBuilder;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use ureq::Body;

use super::scopes::scope;
use crate::client::{Authorized, Limits};
use crate::failure::{Class, Failure};
use crate::messages::{self, one_line};
use crate::settings::SettingsArgs;
use crate::sink::{Sink, shown};
use crate::time;
use crate::tokens::Wanted;

/// The longest body that is kept so that it can be sent again after a rejected token, in bytes.
const KEPT: u64 = 8 * 1024 * 1024;
/// How long a request and its answer may take, and the longest silence between two parts of the answer: without and with -N.
const WHOLE: Duration = Duration::from_secs(300);
const SILENCE: Duration = Duration::from_secs(60);
const LIVE_SILENCE: Duration = Duration::from_secs(900);
/// How much of an error's body is shown, in bytes.
const LOOK: u64 = 16 * 1024;

/// Make one authorized call and print the body of the answer.
///
/// The call uses the token that `token` prints. When the API refuses the token, it is replaced once. The exit code tells the
/// result: 0 for 2xx and 304; 77 when the API refuses the token, the permission or the request (4xx); 75 when the API asks
/// to try later or is in trouble (429, 5xx); 76 when something other than the API answered. When the call fails, nothing is
/// written to stdout or to the output file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The method.
    #[arg(value_parser = method)]
    method: Method,

    /// A path below the base URL of the API, such as loads/4711, or a full URL that a token may go to.
    #[arg(value_name = "PATH|URL")]
    path: String,

    /// The body: text, @FILE, or - for stdin. Its content type is JSON unless -H sets another one.
    #[arg(short, long, value_name = "BODY", allow_hyphen_values = true)]
    data: Option<String>,

    /// Add a header, as `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Print the status and the headers too.
    #[arg(short, long)]
    include: bool,

    /// Write to this file instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write the answer to stdout as it arrives, for streams of events. After a failure, a part of it is written.
    #[arg(short = 'N', long, conflicts_with = "output")]
    no_buffer: bool,

    /// Repeat the call when the API asks to wait, whatever its method: sending it twice has the same effect as once.
    #[arg(long)]
    idempotent: bool,

    /// Send nothing unless the token has these scopes, separated by commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    require: Vec<String>,

    /// When the API answers with an error, show its body on stderr.
    #[arg(long)]
    show_error_body: bool,

    /// How long the request and its answer may take, such as 90s; 0 for no limit; 5m by default, with -N no limit.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    max_time: Option<Duration>,

    /// The longest answer that is taken, in bytes, with k, M or G for a thousand, a million or a billion; 0 for no limit.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", conflicts_with = "no_buffer")]
    max_size: u64,

    /// How long to wait in all when the API asks to wait, such as 3m.
    #[arg(long, value_name = "TIME", value_parser = time::duration, default_value = "60s")]
    patience: Duration,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: Args) -> Result<(), Failure> {
    let data = arguments.data.as_deref();
    if data.is_some_and(is_stdin) && arguments.settings.secret.secret_stdin {
        return Err(Failure::usage(
            "both the body and the secret would be read from stdin",
            "give one of them in a file: -d @FILE or --secret-file",
        ));
    }
    if data.is_some() && arguments.method == Method::HEAD {
        return Err(Failure::usage("a HEAD request has no body", "remove --data, or choose another method"));
    }
    let settings = arguments.settings.read()?;
    let api = settings.setup.api.clone();
    api.permits(&api.url(&arguments.path)?)?;
    // Mistakes are found before anything is sent.
    let body = data.map(payload).transpose()?;
    let sink = match &arguments.output {
        Some(path) => Sink::file(path)?,
        None if arguments.no_buffer => Sink::live(),
        None => Sink::stdout(),
    };
    let live = arguments.no_buffer;
    let limits = Limits {
        request: arguments.max_time.or_else(|| (!live).then_some(WHOLE)).filter(|limit| !limit.is_zero()),
        silence: if live { LIVE_SILENCE } else { SILENCE },
        patience: arguments.patience,
    };
    let client = Authorized::open(&settings, api, limits, Wanted::default())?;
    let answer = client.send(|client| {
        let call = client.request(arguments.method.clone(), &arguments.path).require(arguments.require.iter().cloned());
        let call = if arguments.idempotent { call.idempotent() } else { call };
        with_body(with_headers(call, &arguments.headers, body.is_some()), body)
    })?;
    let status = answer.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        let most = if live || arguments.max_size == 0 { u64::MAX } else { arguments.max_size };
        return deliver(answer, sink, arguments.include, most);
    }
    let failure = refusal(status);
    if !arguments.show_error_body {
        let todo = format!("{}; --show-error-body shows what the API says", failure.todo);
        return Err(Failure { todo, ..failure });
    }
    let said = shown_body(answer, client.token().access_token());
    Err(Failure { body: (!said.trim().is_empty()).then_some(said), ..failure })
}

/// The body of the request.
enum Payload {
    /// A body that can be sent again.
    Bytes(Vec<u8>),
    /// A body that is too long to be kept, and is sent only once; and its length, where that is known.
    Stream(Box<dyn Read + Send>, Option<u64>),
}

fn is_stdin(data: &str) -> bool {
    matches!(data, "-" | "@-")
}

fn payload(data: &str) -> Result<Payload, Failure> {
    if is_stdin(data) {
        if io::stdin().is_terminal() {
            messages::warn("reading the body from this terminal; end it with Ctrl-D");
        }
        return begun(io::stdin(), "stdin", None);
    }
    match data.strip_prefix('@') {
        Some(path) => {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let length = file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len());
            begun(file, path, length)
        }
        None => Ok(Payload::Bytes(data.as_bytes().to_vec())),
    }
}

fn begun(mut source: impl Read + Send + 'static, name: &str, length: Option<u64>) -> Result<Payload, Failure> {
    let mut kept = Vec::new();
    source.by_ref().take(KEPT + 1).read_to_end(&mut kept).map_err(|error| unreadable(name, &error))?;
    Ok(if kept.len() as u64 <= KEPT {
        Payload::Bytes(kept)
    } else {
        Payload::Stream(Box::new(io::Cursor::new(kept).chain(source)), length)
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::configuration(
        format!("cannot read the body from {name}: {error}"),
        "give --data a file that this user may read",
    )
}

fn with_headers(mut call: RequestBuilder, headers: &[(HeaderName, HeaderValue)], has_body: bool) -> RequestBuilder {
    for (name, value) in headers {
        call = call.header(name.clone(), value.clone());
    }
    if has_body && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        call = call.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    call
}

fn with_body(call: RequestBuilder, body: Option<Payload>) -> RequestBuilder {
    match body {
        None => call,
        Some(Payload::Bytes(bytes)) => call.body(bytes),
        Some(Payload::Stream(stream, length)) => {
            let call = call.body(alvys_auth_ureq::Payload::stream(stream));
            // Without it the body goes out in chunks, which not every server takes.
            length.into_iter().fold(call, |call, length| call.header(CONTENT_LENGTH, length))
        }
    }
}

fn deliver(mut answer: Response<Body>, mut sink: Sink, include: bool, most: u64) -> Result<(), Failure> {
    let too_long = || {
        Failure::configuration(
            format!("the answer is longer than {most} bytes"),
            "raise --max-size if that is what you asked for; 0 takes any length",
        )
    };
    let mut left = most;
    if include {
        match written(sink.write_all(head(&answer).as_bytes()))? {
            Reader::There => {}
            Reader::Gone => return Ok(()),
        }
    }
    let mut body = answer.body_mut().as_reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = body.read(&mut buffer).map_err(|error| {
            let error = match ureq::Error::from(error) {
                error @ ureq::Error::Protocol(_) => return alvys_auth_ureq::explain("the API", error).into(),
                error => error,
            };
            let todo = "call again if it is safe to send this request twice";
            Failure::new(Class::Unreachable, format!("the answer was cut short: {error}"), todo)
        })?;
        if read == 0 {
            return sink.finish();
        }
        left = left.checked_sub(read as u64).ok_or_else(too_long)?;
        match written(sink.write_all(buffer.get(..read).unwrap_or_default()))? {
            Reader::There => {}
            Reader::Gone => return Ok(()),
        }
    }
}

/// The reader of our output.
enum Reader {
    There,
    /// The reader has closed the output, which is not a failure.
    Gone,
}

fn written(result: io::Result<()>) -> Result<Reader, Failure> {
    match result {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            Err(Failure::configuration(format!("cannot write the answer: {error}"), "check that the disk is not full"))
        }
    }
}

/// The status line and the headers, without control characters.
fn head(answer: &Response<Body>) -> String {
    let status = answer.status();
    let mut head = format!("{:?} {} {}\n", answer.version(), status.as_u16(), status.canonical_reason().unwrap_or(""));
    for (name, value) in answer.headers() {
        head.push_str(&format!("{name}: {}\n", one_line(&String::from_utf8_lossy(value.as_bytes()))));
    }
    head + "\n"
}

/// The beginning of an error's body, without the token and without control characters.
fn shown_body(mut answer: Response<Body>, token: &str) -> String {
    let mut body = Vec::new();
    // A part that cannot be read is not shown.
    let _ = answer.body_mut().as_reader().take(LOOK).read_to_end(&mut body);
    let body = shown(&body).replace(token, "[token]");
    if echoes(&body, token) { "withheld, because it repeats the token".to_owned() } else { body }
}

/// The failure for the status of an answer. The client has dealt with refused tokens and with waits before.
pub(crate) fn refusal(status: StatusCode) -> Failure {
    let (class, todo) = match status.as_u16() {
        404 => (Class::Refused, "check the path and the id; the API also answers 404 for a page after the last one"),
        405 => (Class::Refused, "check the method and the path"),
        408 | 425 => (Class::TryLater, "call again"),
        400..500 => (Class::Refused, "check the path, the body and its content type"),
        501 => (Class::Refused, "the API does not support this: check the method and the path"),
        500.. => {
            (Class::TryLater, "the trouble is on the API's side: try again later, if it is safe to send this twice")
        }
        _ => (Class::Nonsense, "check the base URL of the API and the path: the answer is a redirect to another place"),
    };
    let what = format!("the API answered {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    Failure { status: Some(status.as_u16()), ..Failure::new(class, what, todo) }
}

fn size(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..) {
        Some("") => Some(1),
        Some("k" | "K") => Some(1_000),
        Some("m" | "M") => Some(1_000_000),
        Some("g" | "G") => Some(1_000_000_000),
        _ => None,
    };
    let size = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    size.ok_or("give a whole number of bytes, such as 50M")
}

fn method(text: &str) -> Result<Method, String> {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let found = known.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "give one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let refused = || "write it as 'Name: value'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(refused)?;
    let name: HeaderName = name.trim().parse().map_err(|_| refused())?;
    if [AUTHORIZATION, PROXY_AUTHORIZATION].contains(&name) {
        return Err("remove this header: the token is added for you, and other users can see arguments".to_owned());
    }
    if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err("remove this header: it is set from the URL and the body".to_owned());
    }
    Ok((name, value.trim().parse().map_err(|_| refused())?))
}
