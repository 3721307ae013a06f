//! The processes of a fleet as the tests see them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, thread};

use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::eventually;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the processes of a fleet share their token through.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The URL of a server.
    pub(crate) redis: Option<String>,
    /// Whether through files, below the server if there is one.
    pub(crate) files: bool,
    /// How long a token request may take; a lease lasts half as long again.
    pub(crate) timeout: Duration,
}

impl Setup {
    pub(crate) fn files() -> Self {
        Self { redis: None, files: true, timeout: Duration::from_secs(30) }
    }

    pub(crate) fn redis(url: impl Into<String>) -> Self {
        Self { redis: Some(url.into()), files: false, ..Self::files() }
    }

    pub(crate) fn with_files_below(self) -> Self {
        Self { files: true, ..self }
    }
}

pub(crate) struct Fleet {
    pub(crate) sandbox: Sandbox,
    setup: Setup,
    /// Where the token is asked for.
    url: String,
    folder: tempfile::TempDir,
    workers: Vec<Worker>,
}

/// A token, or the kind of the failure.
pub(crate) type Answer = Result<String, String>;

impl Fleet {
    /// Starts so many processes, which do nothing yet.
    pub(crate) fn start(setup: &Setup, size: usize) -> Self {
        let sandbox = Sandbox::start().unwrap();
        let url = sandbox.token_url();
        let mut fleet = Self::empty(setup, sandbox, url);
        fleet.join(size);
        fleet
    }

    /// A fleet without processes, that asks for tokens at `url`.
    pub(crate) fn empty(setup: &Setup, sandbox: Sandbox, url: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Self { sandbox, setup: setup.clone(), url, folder, workers: Vec::new() };
        fleet.write_secret(fleet.sandbox.application().client_secret());
        fleet
    }

    /// Adds processes, and waits until they are ready.
    pub(crate) fn join(&mut self, more: usize) {
        let before = self.workers.len();
        for index in before..before + more {
            self.workers.push(self.worker(index, None));
        }
        self.workers[before..].iter().for_each(|worker| worker.wait_for("ready"));
    }

    /// Adds a process that is stopped at a step.
    pub(crate) fn join_halting(&mut self, driver: usize, step: &str) {
        let worker = self.worker(driver, Some(step));
        worker.wait_for("ready");
        self.workers.push(worker);
    }

    fn worker(&self, index: usize, halt: Option<&str>) -> Worker {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "worker::worker", "--ignored", "--nocapture", "--quiet"])
            .env("FLEET_DRIVER", ["reqwest", "ureq"][index % 2])
            .env("FLEET_URL", &self.url)
            .env("FLEET_ID", self.sandbox.application().client_id())
            .env("FLEET_SECRET", self.folder.path().join("secret"))
            .env("FLEET_TIMEOUT_MS", self.setup.timeout.as_millis().to_string())
            .envs(self.setup.redis.as_ref().map(|url| ("FLEET_REDIS", url)))
            .envs(self.setup.files.then(|| ("FLEET_FILES", self.directory())))
            .envs(halt.map(|step| ("FLEET_HALT", step)));
        Worker::spawn(command)
    }

    /// Where the files are that the token is shared through.
    pub(crate) fn directory(&self) -> std::path::PathBuf {
        self.folder.path().join("tokens")
    }

    pub(crate) fn write_secret(&self, secret: &str) {
        // In one step: a process may read it at this moment.
        let new = self.folder.path().join("secret.new");
        fs::write(&new, secret).unwrap();
        fs::rename(new, self.folder.path().join("secret")).unwrap();
    }

    pub(crate) fn size(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn worker_at(&mut self, index: usize) -> &mut Worker {
        &mut self.workers[index]
    }

    /// Lets these processes carry a command out at the same time.
    pub(crate) fn tell(&mut self, which: Range<usize>, command: &str) {
        self.workers[which].iter_mut().for_each(|worker| worker.tell(command));
    }

    pub(crate) fn answers(&self, which: Range<usize>) -> Vec<Answer> {
        self.workers[which].iter().map(Worker::answer).collect()
    }

    pub(crate) fn need(&mut self, which: Range<usize>, command: &str) -> Vec<Answer> {
        self.tell(which.clone(), command);
        self.answers(which)
    }

    /// All of them carry it out; nobody fails. Gives their tokens, and how many requests they have sent.
    pub(crate) fn all(&mut self, command: &str) -> (Vec<String>, usize) {
        let before = self.sandbox.token_requests();
        let answers = self.need(0..self.size(), command);
        let tokens = answers.into_iter().map(|answer| answer.unwrap_or_else(|kind| panic!("somebody failed: {kind}")));
        (tokens.collect(), self.sandbox.token_requests() - before)
    }

    /// All of them carry it out, and have one token afterwards, for exactly so many requests.
    pub(crate) fn all_share(&mut self, command: &str, requests: usize, what: &str) -> String {
        let (mut tokens, sent) = self.all(command);
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{what}: they have different tokens");
        assert_eq!(sent, requests, "{what}");
        assert!(!self.api_refuses(&tokens[0]), "{what}: the API refuses their token");
        tokens.swap_remove(0)
    }

    pub(crate) fn api_refuses(&self, token: &str) -> bool {
        let request = ureq::get(self.sandbox.me_url()).header("authorization", format!("Bearer {token}"));
        request.config().http_status_as_error(false).build().call().unwrap().status() == 401
    }

    /// Soon all of them have one token, without any request.
    pub(crate) fn agree(&mut self) {
        let before = self.sandbox.token_requests();
        eventually("all have the same token", || {
            let (tokens, _) = self.all("token");
            tokens.iter().all(|token| *token == tokens[0])
        });
        assert_eq!(self.sandbox.token_requests(), before, "to agree costs nothing");
    }

    /// All of them get a 401 of the API for the token that they hold.
    pub(crate) fn all_are_refused(&mut self, requests: usize, what: &str) -> String {
        self.sandbox.reject_tokens();
        self.all_share("refused", requests, what)
    }

    /// Whether each of them reaches the server.
    pub(crate) fn all_see_the_server(&mut self) -> bool {
        self.tell(0..self.size(), "look");
        // Everybody is heard, so that no answer is left for later.
        let seen: Vec<_> = self.workers.iter().map(|worker| worker.next(&["seen", "away"])).collect();
        seen.iter().all(|seen| seen == "seen")
    }
}

pub(crate) struct Worker {
    process: Child,
    commands: ChildStdin,
    reports: Receiver<String>,
}

impl Worker {
    fn spawn(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (commands, lines) = (process.stdin.take().unwrap(), BufReader::new(process.stderr.take().unwrap()).lines());
        let (sender, reports) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, commands, reports }
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The next report that begins with one of these words.
    fn next(&self, words: &[&str]) -> String {
        let mut heard = Vec::new();
        loop {
            let Ok(line) = self.reports.recv_timeout(PATIENCE) else {
                panic!("waited for {words:?} of process {} in vain; heard {heard:?}", self.process.id())
            };
            if words.iter().any(|word| line.split(' ').next() == Some(word)) {
                return line;
            }
            heard.push(line);
        }
    }

    pub(crate) fn wait_for(&self, word: &str) {
        self.next(&[word]);
    }

    fn answer(&self) -> Answer {
        let line = self.next(&["holds", "fails"]);
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "holds" { Ok(rest.to_owned()) } else { Err(rest.to_owned()) }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.process), Signal::STOP).unwrap();
    }

    /// Waits until all of its threads have stopped.
    pub(crate) fn wait_until_stopped(&self) {
        let (_, status) = waitpid(Some(Pid::from_child(&self.process)), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "it has ended: {status:?}");
    }

    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
