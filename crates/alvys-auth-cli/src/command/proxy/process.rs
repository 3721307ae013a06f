//! What a server needs of the system it runs on: descriptors and threads.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Mutex, mpsc};
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// However many processors there are: a sidecar moves bytes, and what limits its tasks knows nothing of processors.
const MOST_WORKERS: usize = 4;
/// For reading secrets and profiles, and for the resolving of names, which is to have some of them at any time.
const MOST_BLOCKING: usize = 16;

/// A runtime of few threads.
///
/// # Errors
/// When the system does not give them. The runtime itself would panic, or wait for ever for a thread that never comes.
pub(super) fn runtime() -> io::Result<Runtime> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS);
    try_threads(workers + MOST_BLOCKING)?;
    Builder::new_multi_thread().worker_threads(workers).max_blocking_threads(MOST_BLOCKING).enable_all().build()
}

/// Has so many threads at once, for a moment.
fn try_threads(many: usize) -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    thread::scope(|scope| {
        let wait = || {
            // Until the other end is gone.
            let _ = held.lock().map(|held| held.recv());
        };
        let tried = (0..many).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, wait).map(drop));
        drop(hold);
        tried
    })
}

/// Takes as many descriptors as the system allows: each call has a connection on either side, and the usual 1024 are
/// less than the connections that the proxy accepts.
#[cfg(unix)]
pub(super) fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where there is no limit in name, there is one in fact: no more than this on macOS.
    let current = maximum.or(Some(10_240));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        tracing::debug!(target: "alvys_auth", %error, "goes on with the descriptors at hand");
    }
}

/// There is no such limit here.
#[cfg(not(unix))]
pub(super) fn take_descriptors() {}
