//! A program that is run for its output, and what it started.

use std::io::{self, ErrorKind, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use zeroize::Zeroizing;

/// What there is to read now.
pub(crate) enum Heard {
    /// So much of the output.
    Chunk(Zeroizing<Vec<u8>>),
    /// Nothing yet.
    Silence,
    /// Nobody holds the output open any more.
    End,
}

/// A program on its way, killed and reaped when it is given up; on Unix with all that it started and that stayed in its group.
pub(crate) struct Running {
    child: Child,
    output: Option<Output>,
    done: bool,
}

impl Running {
    /// Starts it without input, with its error output dropped and in a process group of its own.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut running = Self { child: command.spawn()?, output: None, done: false };
        running.output = running.child.stdout.take().map(Output::new).transpose()?;
        Ok(running)
    }

    /// Reads what there is, without waiting for more.
    pub(crate) fn hear(&mut self) -> io::Result<Heard> {
        self.output.as_mut().map_or(Ok(Heard::End), Output::next)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// It did what it was run for: what it leaves behind may stay.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Its number stays the group's for as long as anything is left in that, and is not given away at once otherwise.
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // Both do nothing to a child that was reaped before.
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

/// A pipe that is read without blocking: something that outlives the program may hold it open.
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

/// A pipe that is read on a thread of its own, because something that outlives the program may hold it open. The thread ends
/// with the pipe, or with the first byte after nobody listens any more.
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
