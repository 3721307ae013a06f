//! One face for every stack that makes authorized calls, seen from blocking code.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, Error, Policy, Scope};
use alvys_auth_driver::{ManualClock, Pace, Time};
use alvys_auth_sandbox::{Received, Sandbox};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

use crate::Settings;

/// How to build a stack under test; everything not given is as the stack has it by itself.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whose tokens.
    pub tokens: Settings,
    /// Where to, and with how much patience.
    pub api: Api,
    /// How fast.
    pub pace: Option<Pace>,
    /// The clock that waits are measured by, where no pace brings one.
    pub time: Time,
    /// How long the HTTP client waits for the next piece of an answer.
    pub timeout: Duration,
}

impl Setup {
    /// Calls of the default application to the API of `sandbox`.
    ///
    /// # Panics
    /// Never with a sandbox.
    pub fn of(sandbox: &Sandbox) -> Self {
        let api = Api::at(&sandbox.api_url()).expect("an acceptable API base");
        Self {
            tokens: Settings::current(sandbox),
            api,
            pace: None,
            time: Time::boot(),
            timeout: Duration::from_secs(30),
        }
    }

    /// With a 401 taken seriously however young the token is.
    #[must_use]
    pub fn without_grace(mut self) -> Self {
        self.tokens = self.tokens.policy(Policy::new().rejection_grace(Duration::ZERO));
        self
    }

    /// With so much patience for each call.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.api = self.api.patience(patience);
        self
    }

    /// With a clock that is moved by hand.
    #[must_use]
    pub fn clock(mut self, clock: &Arc<ManualClock>) -> Self {
        self.time = Arc::clone(clock).into();
        self
    }

    /// Sharing the token through files in that directory.
    #[must_use]
    pub fn store(mut self, directory: &Path) -> Self {
        self.tokens = self.tokens.store(directory);
        self
    }

    /// With the rate of the calls shaped.
    #[must_use]
    pub fn pace(mut self, pace: &Pace) -> Self {
        self.pace = Some(pace.clone());
        self
    }
}

/// One call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// A path below the API base, or a full URL.
    pub path: String,
    /// Parameters, given to the stack the way it wants them.
    pub query: Vec<(&'static str, &'static str)>,
    /// Headers of the caller's own.
    pub headers: HeaderMap,
    /// What to send.
    pub body: Body,
    /// Whether the caller says that it may happen twice.
    pub idempotent: bool,
    /// The scopes that the caller insists on.
    pub required: Vec<Scope>,
}

/// The body of a call.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// Written as JSON, by the stack where it offers that.
    Json(Value),
    /// As it is.
    Bytes(Bytes),
    /// As a stream, which cannot be sent again.
    Stream(Bytes),
}

impl Call {
    /// A call without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Body::Empty,
            idempotent: false,
            required: Vec::new(),
        }
    }

    /// `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `POST` of a JSON object.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path).body(Body::Json(serde_json::json!({"Reference": "a+b & \u{e4}\u{20ac}"})))
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    /// With a parameter in the query.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: &'static str) -> Self {
        self.query.push((name, value));
        self
    }

    /// That may happen twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// For which the token must have a scope.
    #[must_use]
    pub fn require(mut self, scope: Scope) -> Self {
        self.required.push(scope);
        self
    }

    /// What the caller says of it, for stacks that are told in the request's extensions.
    pub(crate) fn options(&self) -> CallOptions {
        let options = CallOptions::new().require(self.required.clone());
        if self.idempotent { options.idempotent() } else { options }
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body, taken as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// An error of this library.
    Ours(Error),
    /// An error of the stack itself: its text and those of its causes.
    Stacks(String),
}

impl Failure {
    /// The error of this library.
    ///
    /// # Panics
    /// When it is another one.
    pub fn ours(self) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Stacks(error) => panic!("an error of this library and not {error:?}"),
        }
    }

    /// Some error of the stack.
    pub(crate) fn stacks(error: &dyn std::error::Error) -> Self {
        let mut text = format!("{error}\n{error:?}");
        let mut next = error.source();
        while let Some(cause) = next {
            text += &format!("\n{cause}\n{cause:?}");
            next = cause.source();
        }
        Self::Stacks(text)
    }
}

/// A stack that makes authorized calls.
pub trait Caller: Send + Sync + Sized + 'static {
    /// Whether redirects are followed.
    const FOLLOWS: bool;
    /// Whether the token goes along to where a redirect leads within the same origin.
    const KEEPS_TOKEN: bool;
    /// Whether errors on the way are told as errors of this library.
    const EXPLAINS: bool;

    /// Builds the stack.
    fn build(setup: Setup) -> Self;

    /// Makes a call and reads the answer to its end.
    fn call(&self, call: Call) -> Result<Reply, Failure>;

    /// Makes all calls at the same time.
    fn together(&self, calls: Vec<Call>) -> Vec<Result<Reply, Failure>> {
        let start = Barrier::new(calls.len());
        thread::scope(|scope| {
            let call = |call| {
                start.wait();
                self.call(call)
            };
            let threads: Vec<_> = calls.into_iter().map(|one| scope.spawn(move || call(one))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a caller that does not panic")).collect()
        })
    }
}

/// The requests that the API of `sandbox` has received.
pub fn calls_to(sandbox: &Sandbox) -> Vec<Received> {
    let is_call = |request: &Received| request.route() == alvys_auth_sandbox::Route::Api;
    sandbox.requests().into_iter().filter(is_call).collect()
}
