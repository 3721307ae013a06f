//! The signals that end a command in the foreground, or that make it read its settings again.

use std::io;

/// Completes on SIGINT or SIGTERM.
#[cfg(unix)]
pub(crate) fn ended() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes on Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn ended() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Calls `reload` on each SIGHUP, one call after the other, as long as the future is polled. After this call, SIGHUP no
/// longer ends the process.
#[cfg(unix)]
pub(crate) fn on_hangup(
    reload: impl Fn() + Send + Sync + 'static,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use std::sync::Arc;
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let reload = Arc::new(reload);
    Ok(async move {
        while hangup.recv().await.is_some() {
            let reload = Arc::clone(&reload);
            // It may wait for a command or a keychain. A panic was printed already.
            let _ = tokio::task::spawn_blocking(move || reload()).await;
        }
    })
}

/// There is no such signal here.
#[cfg(not(unix))]
pub(crate) fn on_hangup(_: impl Fn() + Send + Sync + 'static) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(std::future::ready(()))
}
