//! What the tests of the providers share: a secret that must not be seen, refusals, a directory of their own.
#![allow(dead_code, reason = "no test file uses all of it")]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::error::Error as _;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use alvys_auth_core::{Credentials, CredentialsProvider, Error, ErrorKind, Flow, Given, Mark, TokenRequest};

/// In every secret of these tests.
pub(crate) const CANARY: &str = "C4n4ry";
pub(crate) const SECRET: &str = "C4n4ry-s3cret";

/// A refusal of `kind` that names each of `words` and shows no secret.
#[track_caller]
pub(crate) fn assert_error<T: Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) -> Error {
    let error = result.expect_err(&format!("{words:?}"));
    let line = error.to_string();
    assert_eq!(error.kind(), kind, "{line}");
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
    assert!(!line.contains(['\n', '\r']), "{line:?} is more than one line");
    assert!(line.ends_with(error.hint()) && !error.hint().is_empty(), "{line:?} does not end in its hint");
    let shown = format!("{error} {error:?} {error:#?} {} {:?}", error.hint(), error.source());
    assert!(!shown.contains(CANARY), "{shown}");
    error
}

#[track_caller]
pub(crate) fn assert_refused<T: Debug>(result: Result<T, Error>, words: &[&str]) -> Error {
    assert_error(result, ErrorKind::Configuration, words)
}

/// That the provider gives exactly these two values, seen in what would be sent.
#[track_caller]
pub(crate) fn assert_gives(provider: &dyn CredentialsProvider, client_id: &str, client_secret: &str) {
    assert_eq!(provider.current().unwrap(), Credentials::new(client_id, client_secret).unwrap());
}

/// What would be sent, to see a secret that cannot be asked for.
pub(crate) fn body(credentials: Credentials) -> String {
    let request = TokenRequest::new(Flow::current(), credentials).unwrap();
    String::from_utf8(request.to_http().into_body()).unwrap()
}

/// A directory that is removed at the end of a test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("provider-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The mark of what the provider would give now; none where it can give nothing.
pub(crate) fn mark(provider: &dyn CredentialsProvider) -> Option<Mark> {
    provider.credentials(None).ok()?.first().ok().map(|(_, mark)| mark)
}

/// Whether the provider says that nothing has changed since `known`.
#[track_caller]
pub(crate) fn is_unchanged(provider: &dyn CredentialsProvider, known: Option<Mark>) -> bool {
    assert!(known.is_some(), "there was nothing to know");
    matches!(provider.credentials(known), Ok(Given::Unchanged))
}
