//! The file descriptors and threads that a server needs from the system.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Mutex, mpsc};
use std::thread;
#[cfg(unix)]
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// The most worker threads, however many processors there are. A proxy only moves bytes. Limits of the processor time in
/// containers are not visible in the number of processors.
const MOST_WORKERS: usize = 4;
/// The most threads for blocking work: reading secrets and profiles, and name resolution.
const MOST_BLOCKING: usize = 16;

/// How often statuses are taken where no signal asks for it.
#[cfg(unix)]
const REAP_EVERY: Duration = Duration::from_secs(5);

/// A runtime with few threads.
///
/// # Errors
/// When the system does not allow that many threads. The runtime itself would panic or hang then.
pub(super) fn runtime() -> io::Result<Runtime> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS);
    try_threads(workers + MOST_BLOCKING)?;
    Builder::new_multi_thread().worker_threads(workers).max_blocking_threads(MOST_BLOCKING).enable_all().build()
}

/// Starts `many` threads at the same time, and ends them.
fn try_threads(many: usize) -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    thread::scope(|scope| {
        let wait = || {
            // Returns when `hold` is dropped.
            let _ = held.lock().map(|held| held.recv());
        };
        let tried = (0..many).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, wait).map(drop));
        drop(hold);
        tried
    })
}

/// Raises the limit of open files as far as the system allows. Each call has two connections, and the usual limit of 1024
/// is lower than the number of connections that the proxy accepts.
#[cfg(unix)]
pub(super) fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // macOS reports no limit, but it allows no more than this.
    let current = maximum.or(Some(10_240));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        tracing::debug!(target: "alvys_auth", %error, "the limit of open files stays as it is");
    }
}

/// This system has no such limit.
#[cfg(not(unix))]
pub(super) fn take_descriptors() {}

/// As the first process of a container, takes the statuses of processes that others left behind. They would fill the table of
/// processes otherwise.
///
/// # Errors
/// When the system gives no signals.
#[cfg(unix)]
pub(super) fn reap_orphans() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    if !rustix::process::getpid().is_init() {
        return Ok(());
    }
    let mut ended = signal(SignalKind::child())?;
    tokio::spawn(async move {
        loop {
            alvys_auth_config::reap_orphans();
            // Where a command for the secret runs meanwhile, they are taken later.
            let _ = tokio::time::timeout(REAP_EVERY, ended.recv()).await;
        }
    });
    Ok(())
}

/// This system has no such process.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(super) fn reap_orphans() -> io::Result<()> {
    Ok(())
}
