//! A sandbox and an empty home for each test, and what a run of the command gave.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) use crate::common::World;
use crate::common::assert_plain;

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl World {
    /// The command with the environment that leads to the sandbox.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.envs(self.environment());
        command
    }

    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        let application = self.sandbox.application();
        [
            ("ALVYS_CLIENT_ID", application.client_id().to_owned()),
            ("ALVYS_CLIENT_SECRET", application.client_secret().to_owned()),
            ("ALVYS_TOKEN_URL", self.sandbox.token_url()),
            ("ALVYS_API_BASE_URL", self.sandbox.api_url()),
        ]
    }

    /// The command with the environment of the legacy flow.
    pub(crate) fn legacy(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("ALVYS_FLOW", "legacy")
            .env("ALVYS_TENANT_ID", "va336")
            .env("ALVYS_TOKEN_URL", self.sandbox.legacy_token_url());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// The token that a run prints.
    pub(crate) fn token(&self) -> String {
        self.run(&["token"]).text().trim_end().to_owned()
    }

    /// A file below the home.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    /// How often a path was asked for.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.sandbox.requests().iter().filter(|request| request.path() == path).count()
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    Ran::from(command.output().unwrap())
}

/// Runs with `input` on stdin.
pub(crate) fn ran_with(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    Ran::from(child.wait_with_output().unwrap())
}

/// Runs at a terminal, when there is a program that makes one; gives what the terminal got.
pub(crate) fn at_a_terminal(command: &mut Command) -> Option<String> {
    let program = command.get_program().to_str().unwrap().to_owned();
    let arguments = command.get_args().map(|argument| argument.to_str().unwrap().to_owned());
    let line: Vec<String> = std::iter::once(program).chain(arguments).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).env_clear();
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    let output = script.env("TERM", "xterm").stdin(Stdio::null()).output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no `script` here to make a terminal");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Ran {
    /// The payload of a run that went well and said nothing else.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        std::str::from_utf8(&self.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks what holds for every failure: the code, nothing on stdout, one or two plain lines.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.stdout, b"", "nothing on stdout: {self:?}");
        self.ended(code)
    }

    /// The same for commands whose findings are printed whatever they are.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_plain(&self.stderr);
        &self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
