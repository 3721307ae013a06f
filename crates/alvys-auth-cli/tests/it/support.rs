//! A home of its own for each test, and what a run of the command gave.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use crate::common::World;
use crate::common::assert_plain;

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// The command with the environment of the sandbox's application.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        let application = self.sandbox.application();
        command
            .env("ALVYS_CLIENT_ID", application.client_id())
            .env("ALVYS_CLIENT_SECRET", application.client_secret())
            .env("ALVYS_TOKEN_URL", self.sandbox.token_url());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// The token that a run prints, which must have gone well.
    pub(crate) fn token(&self, arguments: &[&str]) -> String {
        let mut all = vec!["token"];
        all.extend_from_slice(arguments);
        token_of(&self.run(&all))
    }

    /// The files that are kept, with this ending.
    pub(crate) fn kept(&self, extension: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.tokens()) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    /// The one token that is kept.
    pub(crate) fn kept_token(&self) -> PathBuf {
        let [path] = self.kept("shared").try_into().unwrap();
        path
    }

    /// Lets the one token that is kept be so much older.
    pub(crate) fn age(&self, by: Duration) {
        let path = self.kept_token();
        let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for name in ["from", "until"] {
            let time = &mut kept["cell"]["token"][name];
            *time = time.as_u64().unwrap().saturating_sub(by.as_millis() as u64).into();
        }
        fs::write(path, kept.to_string()).unwrap();
    }

    /// Waits until there were so many token requests.
    #[track_caller]
    pub(crate) fn asked(&self, requests: usize) {
        let started = Instant::now();
        while self.sandbox.token_requests() < requests {
            assert!(started.elapsed() < Duration::from_secs(20), "nobody asked");
            sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.home.path().join(".cache/alvys-auth/tokens")
    }

    pub(crate) fn profiles_file(&self) -> PathBuf {
        self.home.path().join(".config/alvys-auth/profiles.toml")
    }
}

pub(crate) fn token_of(ran: &Ran) -> String {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");
    let token = ran.stdout.strip_suffix('\n').unwrap();
    assert!(token.len() > 100 && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
    token.to_owned()
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    Ran::from(command.output().unwrap())
}

/// Runs with `input` on stdin.
pub(crate) fn ran_with(command: &mut Command, input: &str) -> Ran {
    let mut child = spawned(command.stdin(Stdio::piped()));
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::from(child.wait_with_output().unwrap())
}

pub(crate) fn spawned(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Ran {
    /// Checks what holds for every failure: the code, nothing on stdout, one or two lines that no terminal obeys.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "nothing on stdout: {self:?}");
        assert_plain(&self.stderr);
        &self.stderr
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sends a signal by name.
pub(crate) fn kill(child: &Child, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
