//! Credentials from the output of a program, for example a password manager.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark};
use zeroize::Zeroizing;

use crate::running::{Heard, Running};
use crate::text;
use crate::variables::CLIENT_SECRET;

/// The pause between two looks at the program and its output.
const TICK: Duration = Duration::from_millis(10);

/// How long to wait for more output after the program has ended: a process that it started may hold the output open.
const GRACE: Duration = Duration::from_secs(1);

/// The variables that contain a secret.
const SECRETS: [&str; 4] = [CLIENT_SECRET[0], CLIENT_SECRET[1], "ALVYS_PROXY_KEY", "ALVYS_STORE"];

/// Credentials from the output of a program. It is run without a shell.
///
/// The program writes a JSON object with `client_id` and `client_secret`, or lines as in a `.env` file. When the
/// [`client_id`](Self::client_id) is given here, the program writes the secret alone. It gets no input. Its error output is
/// dropped, because it may contain secrets.
///
/// A program that fails, writes more than 64 KiB or takes too long is killed. On Unix it runs in a process group of its own,
/// and all processes of this group are killed with it. So the program cannot ask for input on the terminal, and Ctrl-C there
/// does not end it. When a program ends with success, the processes that it started may go on.
///
/// ```
/// # #[cfg(unix)] {
/// use std::time::Duration;
///
/// use alvys_auth_config::CommandProvider;
/// use alvys_auth_core::CredentialsProvider;
///
/// let provider = CommandProvider::new("echo", ["s3cret"]).client_id("my-client").timeout(Duration::from_secs(60));
/// assert_eq!(provider.current()?.client_id(), "my-client");
///
/// // Arguments may hold secrets, so they are not shown.
/// let op = CommandProvider::new("op", ["read", "op://vault/alvys/secret"]).client_id("my-client");
/// assert!(!format!("{op:?}").contains("vault"));
/// # }
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "its setters give back the changed value"]
pub struct CommandProvider {
    program: OsString,
    arguments: Vec<OsString>,
    client_id: Option<String>,
    timeout: Duration,
    again: Option<(Instant, Duration)>,
}

impl CommandProvider {
    /// Runs `program` with `arguments`, in the working directory and the environment of this process, without the variables
    /// that contain a client secret or the key of the sidecar.
    pub fn new<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect(),
            client_id: None,
            timeout: Duration::from_secs(10),
            again: None,
        }
    }

    /// Sets the client id. The whole output is then the client secret, without line breaks at its end.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Sets how long the program may run before it is killed; 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the program again before a token request when `period` has passed since the last run.
    ///
    /// The periods count from this call of `run_again_every`. By default, the program runs once, and again only when the
    /// server refuses the credentials.
    pub fn run_again_every(mut self, period: Duration) -> Self {
        self.again = Some((Instant::now(), period));
        self
    }

    fn run(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let failed = |error: io::Error| {
            let hint = "check that the program is installed and on the PATH, and that this process may run it";
            Error::configuration(format!("cannot run {:?}: {error}", self.program), hint)
        };
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        for name in SECRETS {
            command.env_remove(name);
        }
        let mut running = Running::start(command).map_err(failed)?;

        let mut output = Zeroizing::new(Vec::with_capacity(text::LIMIT));
        let mut last_heard = started;
        let mut ended = false;
        while started.elapsed() < self.timeout {
            let heard = running.hear().map_err(failed)?;
            if !ended && let Some(status) = running.ended().map_err(failed)? {
                self.check(status)?;
                (ended, last_heard) = (true, Instant::now());
            }
            match heard {
                Heard::Chunk(chunk) if output.len() + chunk.len() > text::LIMIT => {
                    return Err(Error::configuration(
                        format!("{:?} wrote more than 64 KiB", self.program),
                        "change the command so that it writes the credentials and nothing else",
                    ));
                }
                Heard::Chunk(chunk) => {
                    output.extend_from_slice(&chunk);
                    last_heard = Instant::now();
                }
                Heard::End if ended => {
                    running.done();
                    return Ok(output);
                }
                Heard::Silence if ended && last_heard.elapsed() >= GRACE => {
                    running.done();
                    return Ok(output);
                }
                Heard::Silence | Heard::End => thread::sleep(TICK),
            }
        }
        Err(Error::timed_out(format!("{:?} did not end and close its output within {:?}", self.program, self.timeout)))
    }

    fn check(&self, status: ExitStatus) -> Result<(), Error> {
        if status.success() {
            return Ok(());
        }
        Err(Error::configuration(
            format!("{:?} failed with {status}", self.program),
            "run it by hand, as the user of this process, to see its error output",
        ))
    }
}

impl CredentialsProvider for CommandProvider {
    /// # Errors
    /// [`ErrorKind::TimedOut`](alvys_auth_core::ErrorKind::TimedOut) when the program takes too long, otherwise
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration). The error contains the program's name and
    /// its exit status. It never contains arguments or output.
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let periods = self.again.map_or(0, |(since, period)| since.elapsed().as_millis() / period.as_millis().max(1));
        Given::unless(known, Mark::new(u64::try_from(periods).unwrap_or(u64::MAX)), || self.read())
    }

    /// The program's [`timeout`](Self::timeout) and one second more.
    fn time_limit(&self) -> Option<Duration> {
        Some(self.timeout.saturating_add(GRACE))
    }
}

impl CommandProvider {
    fn read(&self) -> Result<Credentials, Error> {
        let place = format!("the output of {:?}", self.program);
        let output = text::utf8(self.run()?, &place)?;
        match &self.client_id {
            Some(client_id) => text::credentials(Zeroizing::new(client_id.clone()), text::bare(&output), &place),
            None => text::pair(&output, &place),
        }
    }
}

impl fmt::Debug for CommandProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandProvider")
            .field("program", &self.program)
            .field("client_id", &self.client_id)
            .field("timeout", &self.timeout)
            .field("run_again_every", &self.again.map(|(_, period)| period))
            .finish_non_exhaustive()
    }
}
