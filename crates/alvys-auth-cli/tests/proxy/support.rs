//! A sandbox, an empty home, and a proxy that runs until its test ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Application, Received};
use serde_json::Value;
use ureq::Agent;

pub(crate) use crate::common::World;
use crate::common::assert_plain;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy in a process of its own; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stderr: PathBuf,
    /// Where it listens, in its own words.
    pub(crate) places: Vec<String>,
}

/// An answer with its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl World {
    /// `alvys-auth proxy` on a free port, for an application whose secret is nowhere yet. Calls go out as they come.
    pub(crate) fn proxy(&self, arguments: &[&str]) -> Command {
        let mut command = self.shaped(arguments);
        command.arg("--unshaped");
        command
    }

    /// Likewise, within the published rate limits.
    pub(crate) fn shaped(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(&["proxy", "--listen", "127.0.0.1:0"]);
        command
            .args(arguments)
            .env("ALVYS_CLIENT_ID", self.sandbox.application().client_id())
            .env("ALVYS_TOKEN_URL", self.sandbox.token_url())
            .env("ALVYS_API_BASE_URL", self.sandbox.api_url());
        command
    }

    /// Likewise, with the secret in the environment.
    pub(crate) fn complete(&self, arguments: &[&str]) -> Command {
        let mut command = self.proxy(arguments);
        command.env("ALVYS_CLIENT_SECRET", self.secret());
        command
    }

    pub(crate) fn rotate(&self, secret: &str) {
        let application = self.sandbox.application();
        assert!(self.sandbox.rotate_secret(application.client_id(), secret));
    }

    /// A file below the home.
    pub(crate) fn file(&self, name: &str, contents: &str) -> String {
        fs::write(self.home.path().join(name), contents).unwrap();
        self.path(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    /// An application of a tenant that the sandbox knows, and a profile for it with its secret in a file.
    pub(crate) fn profile(&self, name: &str, more: &[&str]) -> Application {
        let application = Application::new(format!("client-{name}"), format!("secret-of-{name}-0123456789"), name);
        self.sandbox.add(application.clone());
        let file = self.file(&format!("{name}.secret"), application.client_secret());
        let (token_url, api) = (self.sandbox.token_url(), self.sandbox.api_url());
        let mut command = self.bare(&["profile", "add", name, "--client-id", application.client_id()]);
        command.args(["--secret-file", &file, "--token-url", &token_url]);
        let api = if more.contains(&"--api-base-url") { vec![] } else { vec!["--api-base-url", &api] };
        let output = command.args(api).args(more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        application
    }

    /// The bodies and the answers' statuses of all token requests.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        let requests = self.sandbox.requests();
        let asked = requests.iter().filter(|request| request.path().ends_with("/token"));
        asked.map(|one| (String::from_utf8_lossy(one.body()).into_owned(), one.status().unwrap())).collect()
    }

    /// The calls that reached the API.
    pub(crate) fn calls(&self) -> Vec<Received> {
        self.sandbox.requests().into_iter().filter(|request| request.path().starts_with("/api/p/v1/")).collect()
    }
}

impl Running {
    /// Starts and waits for as many places as it is to listen at.
    pub(crate) fn start(world: &World, command: &mut Command, places: usize) -> Self {
        Self::with_input(world, command, places, None)
    }

    pub(crate) fn with_input(world: &World, command: &mut Command, places: usize, input: Option<&str>) -> Self {
        let stderr = tempfile::Builder::new().prefix("stderr").tempfile_in(world.home.path()).unwrap();
        let (file, stderr) = stderr.keep().unwrap();
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        if let Some(input) = input {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        }
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(places);
        let running = Self { places: lines.map_while(Result::ok).collect(), child, stderr };
        assert_eq!(running.places.len(), places, "{}", running.said());
        running
    }

    pub(crate) fn url(&self) -> &str {
        &self.places[0]
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(&format!("{}{path}", self.url()), &[])
    }

    /// What is on stderr until now.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until it said something.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) {
        within(|| self.said().contains(words), || format!("{words:?} in {:?}", self.said()));
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many threads it has now.
    #[cfg(target_os = "linux")]
    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The exit code, once it has ended.
    #[track_caller]
    pub(crate) fn code(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A call that knows no token.
pub(crate) fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    let agent: Agent =
        Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let request = headers.iter().fold(agent.get(url), |request, (name, value)| request.header(*name, *value));
    let mut answer = request.call().unwrap();
    Answer { status: answer.status().as_u16(), body: answer.body_mut().read_to_string().unwrap() }
}

#[track_caller]
pub(crate) fn within(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not so in time: {}", what());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Checks what holds for every failure: the code, nothing on stdout, two lines that no terminal obeys.
#[track_caller]
pub(crate) fn failed(command: &mut Command, code: i32) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
    assert_eq!(output.stdout, b"", "nothing on stdout");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert_plain(&stderr);
    stderr
}

pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
