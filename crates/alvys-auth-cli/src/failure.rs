//! The message of a failed run, and its exit code for scripts.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use alvys_auth_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::json;

use crate::messages::{self, one_line};

/// The class of a failure. Each has an exit code, which is documented and stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    /// 2: the command line is not valid.
    Usage,
    /// 69: no answer arrived.
    Unreachable,
    /// 75: the same command may succeed later.
    TryLater,
    /// 76: an answer arrived, but not one of the token endpoint or the API.
    Nonsense,
    /// 77: the credentials, the scopes or the permissions are not sufficient.
    Refused,
    /// 78: a setting is missing or wrong.
    Configuration,
}

impl Class {
    /// The exit code: that of `sysexits.h`, where it has one.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Unreachable => 69,
            Self::TryLater => 75,
            Self::Nonsense => 76,
            Self::Refused => 77,
            Self::Configuration => 78,
        }
    }

    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Configuration
            | ErrorKind::WrongOrganization
            | ErrorKind::Destination
            | ErrorKind::ProxyCredentials => Self::Configuration,
            ErrorKind::Transport | ErrorKind::TimedOut | ErrorKind::Certificate => Self::Unreachable,
            ErrorKind::RateLimited | ErrorKind::Unavailable => Self::TryLater,
            ErrorKind::Unauthorized if error.is_retryable() => Self::TryLater,
            ErrorKind::Credentials | ErrorKind::Refused | ErrorKind::Unauthorized | ErrorKind::MissingScope => {
                Self::Refused
            }
            ErrorKind::Intercepted | ErrorKind::InvalidResponse => Self::Nonsense,
            _ if error.is_retryable() => Self::TryLater,
            _ => Self::Nonsense,
        }
    }
}

/// Why a run failed, for people and for scripts. It contains no secret and no control characters.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// What failed.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) todo: String,
    /// How long to wait before the next try.
    pub(crate) wait: Option<Duration>,
    /// The status of the answer and the server's id of the request, if there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
    /// The body of the API's answer, if it is to be shown. It contains no control characters.
    pub(crate) body: Option<String>,
}

impl Failure {
    /// A failure of `class`: what failed and what to do, one sentence each.
    pub(crate) fn new(class: Class, what: impl AsRef<str>, todo: impl AsRef<str>) -> Self {
        Self {
            class,
            what: one_line(what.as_ref()),
            todo: one_line(todo.as_ref()),
            wait: None,
            status: None,
            request_id: None,
            body: None,
        }
    }

    /// The command line is not valid.
    pub(crate) fn usage(what: impl AsRef<str>, todo: impl AsRef<str>) -> Self {
        Self::new(Class::Usage, what, todo)
    }

    /// A setting is missing or wrong, or this machine does not allow what is needed.
    pub(crate) fn configuration(what: impl AsRef<str>, todo: impl AsRef<str>) -> Self {
        Self::new(Class::Configuration, what, todo)
    }

    /// Prints the failure to stderr, in two lines or as one line of JSON. Returns the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let ignored = messages::take_ignored();
        messages::complain(&if json { self.json(&ignored) } else { self.lines(&ignored) });
        ExitCode::from(self.class.code())
    }

    fn lines(&self, ignored: &[String]) -> String {
        let body = self.body.as_ref().map(|body| format!("{body}\n")).unwrap_or_default();
        let ignored: String = ignored.iter().map(|sentence| format!("alvys-auth: {sentence}\n")).collect();
        let mut lines = format!("{body}{ignored}alvys-auth: {}", self.what);
        let todo = &self.todo;
        // Writing to a string does not fail.
        let _ = match self.wait_seconds() {
            Some(seconds) => write!(lines, "\nTry again in {seconds} s: {todo}"),
            None => write!(lines, "\n{}", capitalised(todo)),
        };
        lines
    }

    fn json(&self, ignored: &[String]) -> String {
        let mut document = json!({
            "error": {
                "code": self.class.code(),
                "class": self.class,
                "message": self.what,
                "hint": self.todo,
                "retry_after": self.wait_seconds(),
                "status": self.status,
                "request_id": self.request_id,
                "body": self.body,
            }
        });
        if !ignored.is_empty() {
            document["error"]["warnings"] = json!(ignored);
        }
        document.to_string()
    }

    /// The wait in seconds, rounded up, so that it is never too short.
    pub(crate) fn wait_seconds(&self) -> Option<u64> {
        let wait = self.wait.filter(|wait| !wait.is_zero())?;
        u64::try_from(wait.as_millis().div_ceil(1000)).ok()
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let what = match error.cause() {
            Some(cause) => format!("{}: {cause}", error.what()),
            None => error.what(),
        };
        Self {
            // For a shared refusal this is how long it is remembered, and nothing gets better by itself.
            wait: error.retry_after().filter(|_| error.is_retryable()),
            status: error.status().map(|status| status.as_u16()),
            request_id: error.request_id().map(str::to_owned),
            ..Self::new(Class::of(error), what, error.hint())
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
