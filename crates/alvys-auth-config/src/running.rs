//! Runs a program for its output, and ends it together with the processes that it started.

use std::io::{self, ErrorKind, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

/// What a look at the output found.
pub(crate) enum Heard {
    /// A piece of the output.
    Chunk(Zeroizing<Vec<u8>>),
    /// Nothing new, but the output is open.
    Silence,
    /// The end of the output: no process holds it open any more.
    End,
}

/// How many programs run whose statuses are read here.
#[cfg(unix)]
static RUNNING: Mutex<usize> = Mutex::new(0);

/// Takes the statuses of processes that have ended and that nobody else waits for.
///
/// This is for a program that is the first process of a container (PID 1): the system gives it the processes that others left
/// behind. While a [`CommandProvider`](crate::CommandProvider) runs its program, this does nothing, so call it now and then. Do
/// not call it in a process that starts other processes: it would take their statuses.
#[cfg(unix)]
pub fn reap_orphans() {
    use rustix::process::{WaitOptions, wait};
    // No program is started meanwhile.
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if *running == 0 {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

/// Starts a program whose status is read here and nowhere else.
#[cfg(unix)]
fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    *running += 1;
    Ok(child)
}

#[cfg(not(unix))]
fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn()
}

/// A running program. Dropping this kills it, on Unix together with the processes of its group.
pub(crate) struct Running {
    child: Child,
    output: Option<Output>,
    done: bool,
}

impl Running {
    /// Starts the program without input, without error output and, on Unix, in a process group of its own.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut running = Self { child: spawn(&mut command)?, output: None, done: false };
        running.output = running.child.stdout.take().map(Output::new).transpose()?;
        Ok(running)
    }

    /// Reads the output that is there, without waiting for more.
    pub(crate) fn hear(&mut self) -> io::Result<Heard> {
        self.output.as_mut().map_or(Ok(Heard::End), Output::next)
    }

    /// The exit status of the program, if it has ended.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The program has done its work. The processes that it started may go on.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            self.kill();
        }
        // Its status has been read.
        #[cfg(unix)]
        {
            *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        }
    }
}

impl Running {
    fn kill(&mut self) {
        // The group keeps the program's id while it has processes. Without any, the system does not reuse the id at once.
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // Both do nothing when the program has ended and its status was read.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(stdout: &mut ChildStdout) -> io::Result<Heard> {
    let mut chunk = Zeroizing::new(vec![0; 4096]);
    loop {
        match stdout.read(&mut chunk) {
            Ok(0) => return Ok(Heard::End),
            Ok(length) => {
                chunk.truncate(length);
                return Ok(Heard::Chunk(chunk));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Heard::Silence),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A pipe that is read without blocking, because a process that the program started may hold it open.
#[cfg(unix)]
struct Output(ChildStdout);

#[cfg(unix)]
impl Output {
    fn new(stdout: ChildStdout) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&stdout, true)?;
        Ok(Self(stdout))
    }

    fn next(&mut self) -> io::Result<Heard> {
        read(&mut self.0)
    }
}

/// A pipe that is read by a thread of its own, because a process that the program started may hold it open. The thread ends
/// at the end of the pipe, or at the next output after this was dropped.
#[cfg(not(unix))]
struct Output(std::sync::mpsc::Receiver<io::Result<Heard>>);

#[cfg(not(unix))]
impl Output {
    fn new(mut stdout: ChildStdout) -> io::Result<Self> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("alvys-auth-command".to_owned()).spawn(move || {
            while let Ok(Heard::Chunk(chunk)) = read(&mut stdout)
                && sender.send(Ok(Heard::Chunk(chunk))).is_ok()
            {}
        })?;
        Ok(Self(receiver))
    }

    fn next(&mut self) -> io::Result<Heard> {
        use std::sync::mpsc::TryRecvError::{Disconnected, Empty};

        match self.0.try_recv() {
            Ok(heard) => heard,
            Err(Empty) => Ok(Heard::Silence),
            Err(Disconnected) => Ok(Heard::End),
        }
    }
}
