//! OpenQuestions to providers that block, and have not answered yet.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use alvys_auth_core::Error;

/// So many threads at the most wait for providers, half of the blocking threads that a tokio runtime has by default.
const MOST: usize = 256;

static OPEN: LazyLock<Mutex<HashSet<Key>>> = LazyLock::new(Mutex::default);

/// Where a provider is in memory, and what it was asked about.
type Key = (usize, Box<str>);

/// A question that is open until this is dropped; see [`open_question`].
#[derive(Debug)]
#[must_use = "dropped, the question counts as answered"]
pub struct OpenQuestion(Key);

/// Opens a question to `provider` about `subject`, to be dropped where the answer is given.
///
/// What blocks cannot be interrupted: who asked goes away after a while, and the thread stays. So nobody asks the same again
/// meanwhile, or a provider that hangs would cost a thread for each call; and all that hang together leave some to others.
///
/// # Errors
/// [`ErrorKind::TimedOut`](alvys_auth_core::ErrorKind::TimedOut) while the same question is open, or too many are.
pub fn open_question<P: ?Sized>(provider: &Arc<P>, subject: &str) -> Result<OpenQuestion, Error> {
    let key = (Arc::as_ptr(provider).cast::<()>().addr(), Box::from(subject));
    let mut open = lock();
    if open.contains(&key) {
        return Err(Error::timed_out("the provider has not answered yet what it was asked before"));
    }
    if open.len() >= MOST {
        return Err(Error::timed_out(format!("providers have left {MOST} questions unanswered so far")));
    }
    open.insert(key.clone());
    Ok(OpenQuestion(key))
}

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        lock().remove(&self.0);
    }
}

fn lock() -> MutexGuard<'static, HashSet<Key>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
