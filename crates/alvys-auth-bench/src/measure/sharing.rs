//! Processes that share a token: how often they ask for one, how long they wait, and what that costs at the store.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use alvys_auth_core::share::{Id, Operation, Subject};
use alvys_auth_core::{Error, Flow};
use alvys_auth_driver::BlockingSharing;
use alvys_auth_redis::RedisStore;
use alvys_auth_store::{
    AsyncStore, BlockingStore, FileStore, Key, MemoryStore, Name, Sealed, SealedAnswer, SealedOperation, StoreFuture,
};
use serde::{Deserialize, Serialize};

use super::{Result, binary, instructions, median};
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::probe::Work;

/// One line of one of the tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Record {
    /// Processes that need a token at the same moment.
    Crowd(Crowd),
    /// How often the store is asked.
    Operations(Operations),
    /// The time of one run, in microseconds.
    Took {
        /// Of what.
        what: String,
        /// How long.
        micros: f64,
    },
    /// Instructions of one run.
    Counted(instructions::Record),
}

/// How often the store is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operations {
    /// For what.
    pub what: String,
    /// How often.
    pub operations: u64,
    /// How many of these were claims.
    pub claims: u64,
}

/// Processes that need a token at the same moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crowd {
    /// Through what they share it.
    pub store: String,
    /// How many.
    pub processes: usize,
    /// How many token requests they have sent.
    pub requests: usize,
    /// How long the process in the middle has waited, in milliseconds.
    pub p50_ms: f64,
    /// How long all but one in a hundred have waited at most, in milliseconds.
    pub p99_ms: f64,
}

const PROCESSES: usize = 50;
const ROUNDS: usize = 10;
/// How long the server takes for a token.
const LATENCY: Duration = Duration::from_millis(100);
/// How often an operation is timed.
const TIMES: usize = 2_000;
const USES: usize = 1_000;

/// Measures all of it. Without a redis-server, that is left out.
///
/// # Errors
/// When the binary cannot be built, or valgrind is not there.
///
/// # Panics
/// When the loopback server fails.
pub fn measure() -> Result<Vec<Record>> {
    let (binary, directory, redis) = (binary("sharing")?, tempfile::tempdir()?, Redis::start()?);
    let files = directory.path().join("tokens");
    let files_text = files.display().to_string();
    let mut stores = vec![("none: each for itself", "-"), ("files", &files_text)];
    stores.extend(redis.as_ref().map(|redis| ("Redis", redis.url.as_str())));
    let mut records = Vec::new();
    for (name, store) in stores {
        records.push(Record::Crowd(crowd(&binary, name, store, ROUNDS)?));
    }
    records.extend(operations()?.into_iter().map(Record::Operations));
    let request = input::request();
    records.push(took("the name and the key of an entry", || drop(black_box(Key::of(&request)))));
    records.push(claims("memory", Sealed::new(MemoryStore::new())));
    records.push(claims("files", Sealed::new(FileStore::new(&files)?)));
    if let Some(redis) = &redis {
        records.push(claims("Redis", Sealed::new(RedisStore::new(&redis.url)?)));
    }
    records.extend(instructions::measure_those(|case| case.work == Work::Share)?.into_iter().map(Record::Counted));
    Ok(records)
}

/// What can be counted exactly, for the guard.
///
/// # Errors
/// When the binary cannot be built.
///
/// # Panics
/// When the loopback server fails.
pub fn counted() -> Result<BTreeMap<String, u64>> {
    let directory = tempfile::tempdir()?;
    let files = directory.path().join("tokens").display().to_string();
    let crowd = crowd(&binary("sharing")?, "files", &files, 1)?;
    let mut counted =
        BTreeMap::from([(format!("token requests of {PROCESSES} processes, files"), crowd.requests as u64)]);
    for Operations { what, operations, claims } in operations()? {
        counted.insert(format!("operations, {what}"), operations);
        counted.insert(format!("claims, {what}"), claims);
    }
    Ok(counted)
}

/// All processes wait at their start, and then need a token at once; each round for an application of its own.
fn crowd(binary: &Path, name: &str, store: &str, rounds: usize) -> Result<Crowd> {
    let (mut requests, mut waits) = (0, Vec::new());
    for round in 0..rounds {
        let server = Loopback::start(Reply::token(input::LIFETIME).after(LATENCY));
        let client_id = format!("application-{round}");
        let start = |index: usize| {
            let driver = ["reqwest", "ureq"][index % 2];
            let mut command = Command::new(binary);
            command
                .args([driver, &server.url(), &client_id, store])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut processes: Vec<Child> = (0..PROCESSES).map(start).collect::<io::Result<_>>()?;
        let mut answers = Vec::new();
        for process in &mut processes {
            let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
            lines.next().ok_or("a process has ended")??;
            answers.push(lines);
        }
        for process in &mut processes {
            process.stdin.take().ok_or("no input")?.write_all(b"\n")?;
        }
        for mut lines in answers {
            let micros: f64 = lines.next().ok_or("a process has ended")??.parse()?;
            waits.push(micros / 1e3);
        }
        processes.iter_mut().try_for_each(|process| process.wait().map(drop))?;
        requests = requests.max(server.requests());
    }
    waits.sort_by(f64::total_cmp);
    let at = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)].round();
    Ok(Crowd { store: name.to_owned(), processes: PROCESSES, requests, p50_ms: at(50), p99_ms: at(99) })
}

/// How often the store is asked, with each driver; the more of both.
fn operations() -> Result<Vec<Operations>> {
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let flow = || Flow::current().endpoint(server.url());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (with_futures, blocking) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let source = |store: &Arc<Counting>| {
        let store = Arc::new(Sealed::new(Arc::clone(store)));
        alvys_auth_reqwest::TokenSource::builder(flow(), input::credentials()).store(store).build()
    };
    let (first, second) = (source(&with_futures)?, source(&with_futures)?);
    let counts = [
        with_futures.counted(|| runtime.block_on(first.token()))?,
        with_futures.counted(|| runtime.block_on(second.token()))?,
        with_futures.counted(|| (0..USES).try_for_each(|_| runtime.block_on(first.token()).map(drop)))?,
    ];
    let source = |store: &Arc<Counting>| {
        let store = Arc::new(Sealed::new(Arc::clone(store)));
        alvys_auth_ureq::TokenSource::builder(flow(), input::credentials()).store(store).build()
    };
    let (first, second) = (source(&blocking)?, source(&blocking)?);
    let others = [
        blocking.counted(|| first.token())?,
        blocking.counted(|| second.token())?,
        blocking.counted(|| (0..USES).try_for_each(|_| first.token().map(drop)))?,
    ];
    let what = ["a token is bought", "a token is taken", "1,000 uses of a held token"];
    let rows = what.into_iter().zip(counts.into_iter().zip(others)).map(|(what, (one, other))| {
        let [operations, claims] = [0, 1].map(|kind| one[kind].max(other[kind]));
        Operations { what: what.to_owned(), operations, claims }
    });
    Ok(rows.collect())
}

/// A store in memory that counts its operations, and the claims among them.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    operations: AtomicUsize,
    claims: AtomicUsize,
}

impl Counting {
    fn counted<T>(&self, work: impl FnOnce() -> std::result::Result<T, Error>) -> Result<[u64; 2]> {
        let read = || [&self.operations, &self.claims].map(|count| count.load(Ordering::Relaxed) as u64);
        let before = read();
        work()?;
        let after = read();
        Ok([after[0] - before[0], after[1] - before[1]])
    }
}

impl BlockingStore for Counting {
    fn run(&self, name: &Name, operation: SealedOperation) -> std::result::Result<SealedAnswer, Error> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.claims.fetch_add(usize::from(matches!(operation, Operation::Claim { .. })), Ordering::Relaxed);
        BlockingStore::run(&self.store, name, operation)
    }
}

impl AsyncStore for Counting {
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a> {
        Box::pin(async move { BlockingStore::run(self, name, operation) })
    }
}

fn claims(store: &str, sealed: impl BlockingSharing) -> Record {
    let (subject, owner) = (Subject::from(input::request()), Id::from_bytes([1; 16]));
    took(&format!("a claim, {store}"), || {
        let claim = Operation::Claim { owner, unwanted: None, lease: Duration::from_secs(15) };
        sealed.share(&subject, claim).expect("a store that is there");
    })
}

/// The median of many runs.
fn took(what: &str, mut work: impl FnMut()) -> Record {
    let mut one = || {
        let started = Instant::now();
        work();
        started.elapsed().as_nanos() as f64 / 1e3
    };
    // The first one makes the connection.
    one();
    let mut times: Vec<f64> = (0..TIMES).map(|_| one()).collect();
    Record::Took { what: what.to_owned(), micros: (median(&mut times) * 10.0).round() / 10.0 }
}

/// A redis-server of this measurement's own.
struct Redis {
    server: Child,
    url: String,
}

impl Redis {
    /// Starts one; none where there is no such program.
    fn start() -> Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let server = match command.stdout(Stdio::null()).spawn() {
            Ok(server) => server,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let redis = Self { server, url: format!("redis://127.0.0.1:{port}") };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(Some(redis));
            }
            sleep(Duration::from_millis(20));
        }
        Err("the redis-server does not answer".into())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
