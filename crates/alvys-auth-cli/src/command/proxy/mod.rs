//! `alvys-auth proxy`: the reverse proxy that adds tokens, in the foreground.

use std::future;
use std::io;
use std::path::Path;

use alvys_auth_proxy::{Server, SharedKey};
use tokio::sync::Notify;
use tracing::info;

pub(crate) use self::arguments::Args;
use self::arguments::read_key;
use self::reload::not_reloaded;
use crate::failure::Failure;
use crate::messages;
use crate::output;
use crate::signals;

mod arguments;
mod one;
mod process;
mod reload;
mod several;

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::configuration(
            format!("cannot run a server here: {error}"),
            "raise the limits of this process for threads and open files",
        )
    };
    process::take_descriptors();
    // Read before the signals are caught, so that they end a run that waits for stdin, a command or a keychain.
    let key = arguments.key()?.map(|key| SharedKey::new(key.as_str())).transpose()?;
    let settings = arguments.proxy_settings(key.clone())?;
    let (proxy, reload) = if arguments.serve.is_empty() {
        one::application(arguments, settings)?
    } else {
        several::applications(arguments, settings)?
    };
    let runtime = process::runtime().map_err(failed)?;
    let ran = runtime.block_on(async {
        // Before anything is printed, because a reader of the lines may send a signal at once.
        let ended = signals::ended().map_err(failed)?;
        let (path, key) = (arguments.key_file.clone(), key);
        let calls = proxy.clone();
        let hangup = move || {
            reload();
            calls.retry();
            if let Some((path, key)) = path.as_deref().zip(key.as_ref()) {
                reread_key(path, key);
            }
        };
        tokio::spawn(signals::on_hangup(hangup).map_err(failed)?);
        process::reap_orphans().map_err(failed)?;
        arguments.serve_until(Server::new(proxy), ended).await
    });
    // Does not wait for a command or a keychain that is being read.
    runtime.shutdown_background();
    ran
}

impl Args {
    async fn serve_until(&self, mut server: Server, ended: impl Future<Output = ()>) -> Result<(), Failure> {
        for place in &self.listen {
            server = server.listen(place).await?;
        }
        if let Some(address) = self.health {
            server = server.health(address).await?;
        }
        let places: String = server.places().iter().map(|place| format!("{place}\n")).collect();
        output::payload(&places)?;
        let draining = Notify::new();
        let shutdown = async {
            ended.await;
            draining.notify_one();
        };
        tokio::select! {
            cut = server.run(shutdown) => {
                if cut > 0 {
                    messages::complain(&format!("alvys-auth: {cut} connections did not end in time and were closed"));
                }
            }
            () = again(&draining) => {
                messages::complain("alvys-auth: a second signal came: the calls in progress were ended");
            }
        }
        Ok(())
    }
}

/// Requires the key that is in the file now, if it is a valid key.
fn reread_key(path: &Path, key: &SharedKey) {
    match read_key(path).and_then(|read| Ok(key.set(read.as_str())?)) {
        Ok(()) => info!(target: "alvys_auth", "read the key again"),
        Err(failure) => not_reloaded(&failure),
    }
}

/// Completes on the next signal after the one that began the shutdown.
async fn again(draining: &Notify) {
    draining.notified().await;
    match signals::ended() {
        Ok(ended) => ended.await,
        Err(_) => future::pending().await,
    }
}
