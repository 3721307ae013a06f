//! The signals that end a command in the foreground, or make it read its settings anew.

use std::io;

/// Ends with SIGINT or SIGTERM.
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

/// Ends with Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn ended() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Calls `reload` on each SIGHUP, for as long as it is polled.
#[cfg(unix)]
pub(crate) async fn on_hangup(reload: impl Fn()) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        reload();
    }
    Ok(())
}

/// There is no such signal here.
#[cfg(not(unix))]
pub(crate) async fn on_hangup(_: impl Fn()) -> io::Result<()> {
    Ok(())
}
