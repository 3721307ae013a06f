//! Eight processes that share one token through Redis, while things go wrong.
//!
//! `cargo run --example fleet` starts a local Alvys, a `redis-server` if there is one, and the processes. Then it kills, stops
//! and rotates, and shows after each step who holds which token and how many tokens were bought. Without a `redis-server` the
//! processes share through files.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use alvys_auth_config::FileProvider;
use alvys_auth_redis::RedisStore;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_store::{Fallback, FileStore, Sealed};
use alvys_auth_ureq::alvys_auth_driver::BlockingSharing;
use alvys_auth_ureq::{Change, Flow, Policy, TokenSource};

const WORKERS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    match env::var("FLEET_STORE") {
        Ok(store) => work(&store),
        Err(_) => show(),
    }
}

/// One process of the fleet: it needs a token whenever it is told to, and reports what it has.
fn work(store: &str) -> Result<()> {
    let files = FileStore::new(env::var("FLEET_FILES")?)?;
    let store: Arc<dyn BlockingSharing> = match store {
        "files" => Arc::new(Sealed::new(files)),
        // While Redis is away, the processes of a host share through files.
        redis => Arc::new(Sealed::new(Fallback::new(RedisStore::new(redis)?, files))),
    };
    let secret = FileProvider::secret(env::var("FLEET_ID")?, env::var("FLEET_SECRET")?);
    let tokens = TokenSource::provided_by(Flow::current().endpoint(env::var("FLEET_URL")?), secret)?
        .policy(Policy::new().request_timeout(Duration::from_secs(2)).rejection_grace(Duration::ZERO))
        .store(store)
        .on_change(|change| match change {
            Change::Obtained(_) | Change::Renewed(_) => println!("bought"),
            Change::Adopted(_) => println!("taken"),
            _ => {}
        })
        .build()?;
    let mut held = None;
    for command in std::io::stdin().lines() {
        if command? == "refused"
            && let Some(token) = held.take()
        {
            // As a client of the API does that was answered 401.
            let _ = tokens.reject(&token);
        }
        match tokens.token() {
            Ok(token) => {
                println!("holds {}", token.access_token());
                held = Some(token);
            }
            Err(error) => println!("fails {error}"),
        }
    }
    Ok(())
}

/// A process as the parent sees it.
struct Worker {
    process: Child,
    commands: ChildStdin,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    token: String,
    /// Where that came from: bought, taken, or nothing new.
    how: &'static str,
    answers: usize,
}

struct Fleet {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
    store: String,
    workers: Vec<Worker>,
    /// A letter for each token, in the order of their appearance.
    letters: BTreeMap<String, char>,
}

fn show() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let folder = tempfile::tempdir()?;
    let mut redis = Redis::start(folder.path())?;
    let store = match &redis {
        Some(redis) => redis.url(),
        None => "files".to_owned(),
    };
    match &redis {
        Some(_) => println!("Eight processes share a token through a redis-server of their own."),
        None => println!(
            "There is no redis-server (Debian: apt-get install redis-server; macOS: brew install redis).\n\
             Eight processes share a token through files instead."
        ),
    }
    println!(
        "A letter is a token, a column a process. In capitals: the process that has asked for the token. .: it needs none\n\
         at this moment. †: it was killed.\n"
    );
    println!("{:<44}{:<20}token requests", "", "processes");
    fs::write(folder.path().join("secret"), sandbox.application().client_secret())?;
    let mut fleet = Fleet { sandbox, folder, store, workers: Vec::new(), letters: BTreeMap::new() };
    for _ in 0..WORKERS {
        let worker = fleet.worker()?;
        fleet.workers.push(worker);
    }
    fleet.all_need("token", "all start at the same time")?;
    fleet.all_need("token", "all need it again: nobody asks")?;
    fleet.sandbox.reject_tokens();
    fleet.all_need("refused", "the API refuses the token: 8 × 401")?;

    fleet.replace(2)?;
    fleet.replace(5)?;
    fleet.all_need("token", "two processes are killed and start anew")?;

    // The answer to the first one never arrives. The others wait until its lease ends, which is here after three seconds.
    fleet.sandbox.reject_tokens();
    fleet.sandbox.inject(Route::Token, Fault::hang().once());
    let asked = fleet.sandbox.token_requests();
    fleet.tell(0..1, "refused")?;
    while fleet.sandbox.token_requests() == asked {
        thread::sleep(Duration::from_millis(20));
    }
    fleet.tell(1..WORKERS, "refused")?;
    fleet.workers[0].process.kill()?;
    fleet.show(1..WORKERS, asked, "the one that asks is killed meanwhile")?;
    fleet.replace(0)?;
    fleet.need(0..1, "token", "it starts anew")?;

    if cfg!(unix) {
        let stopped = fleet.workers[0].process.id();
        fleet.sandbox.reject_tokens();
        signal("STOP", stopped)?;
        fleet.need(1..WORKERS, "refused", "one is stopped, the others get a 401")?;
        signal("CONT", stopped)?;
        fleet.need(0..1, "refused", "it goes on, and gets its 401 now")?;
    }

    let client_id = fleet.sandbox.application().client_id().to_owned();
    fleet.sandbox.rotate_secret(&client_id, "the next secret");
    fs::write(fleet.folder.path().join("secret"), "the next secret")?;
    fleet.sandbox.reject_tokens();
    fleet.all_need("refused", "the secret is rotated, 8 × 401")?;

    if let Some(redis) = &mut redis {
        redis.stop()?;
        fleet.sandbox.reject_tokens();
        fleet.all_need("refused", "Redis is gone, 8 × 401: they share in files")?;
        redis.restart()?;
        // A server that did not answer is left alone for some seconds.
        thread::sleep(Duration::from_secs(6));
        fleet.sandbox.reject_tokens();
        fleet.all_need("refused", "Redis is back, and empty: 8 × 401")?;
        redis.stop()?;
    }
    let requests = fleet.sandbox.token_requests();
    println!("\n{requests} token requests. Without a store it would have been one of each process each time.");
    for worker in &mut fleet.workers {
        worker.process.kill()?;
        worker.process.wait()?;
    }
    Ok(())
}

impl Fleet {
    fn worker(&self) -> Result<Worker> {
        let mut process = Command::new(env::current_exe()?)
            .env("FLEET_STORE", &self.store)
            .env("FLEET_FILES", self.folder.path().join("tokens"))
            .env("FLEET_URL", self.sandbox.token_url())
            .env("FLEET_ID", self.sandbox.application().client_id())
            .env("FLEET_SECRET", self.folder.path().join("secret"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(commands), Some(reports)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let heard = Arc::clone(&seen);
        thread::spawn(move || {
            for line in BufReader::new(reports).lines().map_while(std::result::Result::ok) {
                let Ok(mut seen) = heard.lock() else { return };
                match line.split_once(' ').unwrap_or((&line, "")) {
                    ("bought", _) => seen.how = "bought",
                    ("taken", _) => seen.how = "taken",
                    ("holds", token) => {
                        seen.token = token.to_owned();
                        seen.answers += 1;
                    }
                    (_, why) => {
                        println!("a process failed: {why}");
                        seen.token.clear();
                        seen.answers += 1;
                    }
                }
            }
        });
        Ok(Worker { process, commands, seen })
    }

    /// Kills a process, and starts another one in its place.
    fn replace(&mut self, index: usize) -> Result<()> {
        self.workers[index].process.kill()?;
        self.workers[index].process.wait()?;
        self.workers[index] = self.worker()?;
        Ok(())
    }

    fn all_need(&mut self, command: &str, what: &str) -> Result<()> {
        self.need(0..WORKERS, command, what)
    }

    /// Lets these processes do it at the same time, and shows what each of them has then.
    fn need(&mut self, which: Range<usize>, command: &str, what: &str) -> Result<()> {
        let before = self.sandbox.token_requests();
        self.tell(which.clone(), command)?;
        self.show(which, before, what)
    }

    fn tell(&mut self, which: Range<usize>, command: &str) -> Result<()> {
        for worker in &mut self.workers[which] {
            if let Ok(mut seen) = worker.seen.lock() {
                (seen.how, seen.answers) = ("", 0);
            }
            writeln!(worker.commands, "{command}")?;
        }
        Ok(())
    }

    /// Waits until each of them has a token, and shows it. There were `before` token requests until then.
    fn show(&mut self, which: Range<usize>, before: usize, what: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let answered = |worker: &Worker| worker.seen.lock().is_ok_and(|seen| seen.answers > 0);
        while !self.workers[which.clone()].iter().all(answered) {
            if Instant::now() > deadline {
                return Err("a process has not answered within a minute".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut picture = String::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if !which.contains(&index) {
                picture.push_str(if worker.process.try_wait()?.is_some() { "† " } else { ". " });
                continue;
            }
            let Ok(seen) = worker.seen.lock() else { continue };
            let next = char::from(b'a' + u8::try_from(self.letters.len() % 26)?);
            let letter = *self.letters.entry(seen.token.clone()).or_insert(next);
            let shown = if seen.how == "bought" { letter.to_ascii_uppercase() } else { letter };
            picture.push(shown);
            picture.push(' ');
        }
        println!("{what:<44}{picture:<20}{}", self.sandbox.token_requests() - before);
        Ok(())
    }
}

fn signal(signal: &str, process: u32) -> Result<()> {
    // The shell has it built in, where there is no program of that name.
    Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status()?;
    Ok(())
}

/// A redis-server of this example's own.
struct Redis {
    server: Child,
    port: u16,
    folder: std::path::PathBuf,
}

impl Redis {
    /// Starts one; none where there is no such program.
    fn start(folder: &Path) -> Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        match Self::launch(port, folder) {
            Ok(server) => {
                let redis = Self { server, port, folder: folder.to_owned() };
                redis.wait()?;
                Ok(Some(redis))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn launch(port: u16, folder: &Path) -> std::io::Result<Child> {
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
    }

    /// Waits until it answers.
    fn wait(&self) -> Result<()> {
        for _ in 0..500 {
            if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) {
                connection.write_all(b"PING\r\n")?;
                let mut answer = [0; 5];
                if connection.read_exact(&mut answer).is_ok() && &answer == b"+PONG" {
                    return Ok(());
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("the redis-server does not answer".into())
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.server = Self::launch(self.port, &self.folder)?;
        self.wait()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
