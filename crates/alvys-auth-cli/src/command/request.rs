//! `alvys-auth request`: one authorized call.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use alvys_auth_ureq::RequestBuilder;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use ureq::Body;

use super::scopes::scope;
use crate::client::{Authorized, Limits};
use crate::failure::{Class, Failure, NOT_THE_API, UNREADABLE, is_unreadable};
use crate::output::{self, one_line};
use crate::session::Wanted;
use crate::settings::SettingsArgs;
use crate::sink::{Sink, shown};
use crate::time;

/// How much of a body is kept so that it can be sent again after a rejected token, in bytes.
const KEPT: u64 = 8 * 1024 * 1024;
/// How long a request and its answer may take, and the silence between two parts of it; longer where events are awaited.
const WHOLE: Duration = Duration::from_secs(300);
const SILENCE: Duration = Duration::from_secs(60);
const LIVE_SILENCE: Duration = Duration::from_secs(900);
/// How much of an error's body is shown, in bytes.
const LOOK: u64 = 16 * 1024;

/// Make one authorized call and print the body of the answer.
///
/// The token is the one that `token` prints; one that the API refuses is replaced once. The exit code tells what became
/// of the call: 0 for 2xx and for 304; 77 when the API refused the token, the permission or the request itself (4xx); 75
/// when it asks to try later or is in trouble (429, 5xx); 76 for an answer that is not the API's. Unless the call went
/// well, nothing is written to stdout or to the output file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The method.
    #[arg(value_parser = method)]
    method: Method,

    /// A path below the API base, such as loads/4711, or a full URL that a token may go to.
    #[arg(value_name = "PATH|URL")]
    path: String,

    /// The body: text, @FILE, or - for stdin. JSON unless a Content-Type says otherwise.
    #[arg(short, long, value_name = "BODY", allow_hyphen_values = true)]
    data: Option<String>,

    /// One more header, as `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Print the status and the headers too.
    #[arg(short, long)]
    include: bool,

    /// Write to this file instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write to stdout as it arrives, for streams of events; what came before a failure is then there.
    #[arg(short = 'N', long, conflicts_with = "output")]
    no_buffer: bool,

    /// Say that sending this twice does the same as once, so that it may be repeated when the API asks to wait.
    #[arg(long)]
    idempotent: bool,

    /// Send nothing unless the token has these scopes, between commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    require: Vec<String>,

    /// When the API answers with an error, show its body on stderr.
    #[arg(long)]
    show_error_body: bool,

    /// How long the request and its answer may take, such as 90s; 0 for any time; 5m by default, with -N any time.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    max_time: Option<Duration>,

    /// How long to wait altogether when the API asks to, such as 3m.
    #[arg(long, value_name = "TIME", value_parser = time::duration, default_value = "60s")]
    patience: Duration,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: Args) -> Result<(), Failure> {
    let data = arguments.data.as_deref();
    if data.is_some_and(is_stdin) && arguments.settings.secret.secret_stdin {
        return Err(Failure::usage(
            "both the body and the secret are to come from stdin",
            "give one of them by a file",
        ));
    }
    if data.is_some() && arguments.method == Method::HEAD {
        return Err(Failure::usage("a HEAD request has no body", "leave --data away, or choose another method"));
    }
    let settings = arguments.settings.read()?;
    let api = settings.setup.api.clone();
    api.permits(&api.url(&arguments.path)?)?;
    // What cannot work is told before anything is sent.
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
    let client = Authorized::open(settings, api, limits, Wanted::default())?;
    let answer = client.send(|client| {
        let call = client.request(arguments.method.clone(), &arguments.path).require(arguments.require.iter().cloned());
        let call = if arguments.idempotent { call.idempotent() } else { call };
        with_body(with_headers(call, &arguments.headers, body.is_some()), body)
    })?;
    let status = answer.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return deliver(answer, sink, arguments.include);
    }
    let failure = refusal(status);
    if !arguments.show_error_body {
        let todo = format!("{}; --show-error-body shows what the API says", failure.todo);
        return Err(Failure { todo, ..failure });
    }
    let said = shown_body(answer, client.held().access_token.as_str());
    Err(Failure { body: (!said.trim().is_empty()).then_some(said), ..failure })
}

/// What a body is made of.
enum Payload {
    /// Sent again where that is needed.
    Bytes(Vec<u8>),
    /// Too long to be kept, so that it is sent once.
    Stream(Box<dyn Read + Send>),
}

fn is_stdin(data: &str) -> bool {
    matches!(data, "-" | "@-")
}

fn payload(data: &str) -> Result<Payload, Failure> {
    if is_stdin(data) {
        if io::stdin().is_terminal() {
            output::warn("the body is read from this terminal, up to the end of input (Ctrl-D)");
        }
        return begun(io::stdin(), "stdin");
    }
    match data.strip_prefix('@') {
        Some(path) => {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            begun(file, path)
        }
        None => Ok(Payload::Bytes(data.as_bytes().to_vec())),
    }
}

fn begun(mut source: impl Read + Send + 'static, name: &str) -> Result<Payload, Failure> {
    let mut kept = Vec::new();
    source.by_ref().take(KEPT + 1).read_to_end(&mut kept).map_err(|error| unreadable(name, &error))?;
    Ok(if kept.len() as u64 <= KEPT {
        Payload::Bytes(kept)
    } else {
        Payload::Stream(Box::new(io::Cursor::new(kept).chain(source)))
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::configuration(format!("cannot read the body from {name}: {error}"), "name a file that this user may read")
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
        Some(Payload::Stream(stream)) => call.body(alvys_auth_ureq::Payload::stream(stream)),
    }
}

fn deliver(mut answer: Response<Body>, mut sink: Sink, include: bool) -> Result<(), Failure> {
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
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            if inner.is_some_and(is_unreadable) {
                return Failure::new(Class::Nonsense, format!("{UNREADABLE}: {error}"), NOT_THE_API);
            }
            let todo = "call again if that is safe";
            Failure::new(Class::Unreachable, format!("the answer was cut short: {error}"), todo)
        })?;
        if read == 0 {
            return sink.finish();
        }
        match written(sink.write_all(buffer.get(..read).unwrap_or_default()))? {
            Reader::There => {}
            Reader::Gone => return Ok(()),
        }
    }
}

/// Whoever reads our output.
enum Reader {
    There,
    /// It has seen enough, which is no failure.
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

/// The status line and the headers, in lines that no terminal obeys.
fn head(answer: &Response<Body>) -> String {
    let status = answer.status();
    let mut head = format!("{:?} {} {}\n", answer.version(), status.as_u16(), status.canonical_reason().unwrap_or(""));
    for (name, value) in answer.headers() {
        head.push_str(&format!("{name}: {}\n", one_line(&String::from_utf8_lossy(value.as_bytes()))));
    }
    head + "\n"
}

/// The beginning of an error's body, without the token and without what a terminal would obey.
fn shown_body(mut answer: Response<Body>, token: &str) -> String {
    let mut body = Vec::new();
    // What cannot be read is not shown.
    let _ = answer.body_mut().as_reader().take(LOOK).read_to_end(&mut body);
    shown(&body).replace(token, "[token]")
}

/// An answer that is an error of its own, and no matter of token or waiting: those are told by the client.
pub(crate) fn refusal(status: StatusCode) -> Failure {
    let (class, todo) = match status.as_u16() {
        404 => (Class::Refused, "check the path and the id; a page beyond the last is not found either"),
        405 => (Class::Refused, "check the method and the path"),
        408 | 425 => (Class::TryLater, "call again"),
        400..500 => (Class::Refused, "check the path, the body and its content type"),
        501 => (Class::Refused, "the API does not do this: check the method and the path"),
        500.. => (Class::TryLater, "it is the API's side that is in trouble: try again later if that is safe"),
        _ => (Class::Nonsense, "check the API base and the path: the answer leads to somewhere else"),
    };
    let what = format!("the API answered {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    Failure { status: Some(status.as_u16()), ..Failure::new(class, what, todo) }
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
        return Err(
            "leave this header away: the token is put in for you, and arguments are seen by other users".to_owned()
        );
    }
    if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err("leave this header away: it follows from the URL and the body".to_owned());
    }
    Ok((name, value.trim().parse().map_err(|_| refused())?))
}
