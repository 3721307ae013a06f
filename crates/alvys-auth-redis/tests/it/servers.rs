//! Servers of one test each, on free ports of the loopback interface.

use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use alvys_auth_core::Error;
use alvys_auth_core::share::{Id, Operation, Outcome};
use alvys_auth_redis::RedisStore;
use alvys_auth_store::{AsyncStore, BlockingStore, Name, SealedAnswer, SealedOperation, kit};
use redis::{Client, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    pub(crate) has_tls: bool,
}

impl Program {
    pub(crate) fn redis() -> Self {
        Self::find("redis-server", "REDIS_SERVER", true)
    }

    /// The one that comes as a Python package is built without TLS.
    pub(crate) fn valkey() -> Self {
        Self::find("valkey-server", "VALKEY_SERVER", false)
    }

    fn find(name: &str, variable: &str, has_tls: bool) -> Self {
        let path = env::var_os(variable).map(PathBuf::from).or_else(|| {
            let path = env::var_os("PATH")?;
            env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
        });
        let path = path.unwrap_or_else(|| panic!("there is no {name} on the path, and {variable} does not name it"));
        Self { path, has_tls }
    }
}

/// Makes a test for each server of a function that takes its program.
macro_rules! on_each_server {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::servers::Program;

            #[test]
            #[ignore = "needs redis-server; .ci/redis runs it"]
            fn redis() {
                super::$name(&Program::redis());
            }

            #[test]
            #[ignore = "needs valkey-server; .ci/redis runs it"]
            fn valkey() {
                super::$name(&Program::valkey());
            }
        }
    )*};
}
pub(crate) use on_each_server;

pub(crate) struct Server {
    command: Command,
    child: Child,
    pub(crate) port: u16,
    /// The second one, for TLS, where the settings name a certificate.
    pub(crate) tls_port: Option<u16>,
    pub(crate) directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(program: &Program, settings: &[&str]) -> Self {
        Self::with_files(program, settings, |_| {})
    }

    /// Lets `prepare` put files into the directory that the server starts in.
    pub(crate) fn with_files(program: &Program, settings: &[&str], prepare: impl FnOnce(&std::path::Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        // Another process may take a port between the look for it and its use.
        for _ in 0..10 {
            let port = free_port();
            let tls_port = settings.contains(&"--tls-cert-file").then(free_port);
            let mut command = Command::new(&program.path);
            command.current_dir(&directory).args(settings).args(["--port", &port.to_string()]);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.args(tls_port.iter().flat_map(|port| ["--tls-port".to_owned(), port.to_string()]));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            if is_up(&mut child, port) {
                return Self { command, child, port, tls_port, directory };
            }
        }
        panic!("{program:?} does not start with {settings:?}");
    }

    /// A sentinel that watches the primary as `alvys`.
    pub(crate) fn sentinel(program: &Program, primary: &Self) -> Self {
        Self::with_files(program, &["sentinel.conf", "--sentinel"], |directory| {
            let settings = format!(
                "sentinel monitor alvys 127.0.0.1 {} 1\nsentinel down-after-milliseconds alvys 500\n\
                 sentinel failover-timeout alvys 2000\n",
                primary.port
            );
            fs::write(directory.join("sentinel.conf"), settings).unwrap();
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::new(&self.url()).unwrap()
    }

    /// Sends a command as the administrator.
    pub(crate) fn tell<T: FromRedisValue>(&self, words: &str) -> T {
        self.try_tell(words).unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    pub(crate) fn try_tell<T: FromRedisValue>(&self, words: &str) -> redis::RedisResult<T> {
        let mut connection = Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.fold(&mut command, |command, word| command.arg(word)).query(&mut connection)
    }

    /// How many commands of that name were called.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let statistics: String = self.tell("INFO commandstats");
        let line = statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Stops answering, without closing anything.
    pub(crate) fn hang(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same port, with nothing in it.
    pub(crate) fn restart(&mut self) {
        let started = Instant::now();
        loop {
            self.child = self.command.spawn().unwrap();
            if is_up(&mut self.child, self.port) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not start again");
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn is_up(child: &mut Child, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        // Whether it asks for a password or not, it answers.
        let connection = Client::open(("127.0.0.1", port)).unwrap().get_connection_with_timeout(PATIENCE);
        if let Ok(mut connection) = connection {
            let answer = redis::cmd("PING").query::<String>(&mut connection);
            if answer.map_or_else(|error| error.code() == Some("NOAUTH"), |_| true) {
                return true;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The nodes of a cluster. There is one cluster at a time: a node takes a node of another cluster for its own when that has got
/// the port of one that was killed.
pub(crate) struct Cluster(
    Vec<Server>,
    #[allow(dead_code, reason = "held until the nodes are gone")] MutexGuard<'static, ()>,
);

impl Deref for Cluster {
    type Target = Vec<Server>;

    fn deref(&self) -> &Vec<Server> {
        &self.0
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Vec<Server> {
        &mut self.0
    }
}

/// Three nodes, each with a third of the slots.
pub(crate) fn cluster(program: &Program, settings: &[&str]) -> Cluster {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            let settings = [settings, &["--cluster-enabled", "yes", "--cluster-port", &bus]].concat();
            (Server::start(program, &settings), bus)
        })
        .collect();
    for (index, (node, _)) in nodes.iter().enumerate() {
        let (first, last) = (index * 5462, (index * 5462 + 5461).min(16383));
        node.tell::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        for (other, bus) in &nodes {
            // Where the nodes talk TLS among each other, they know each other by that port.
            let port = other.tls_port.unwrap_or(other.port);
            node.tell::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
    }
    let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
    eventually("the cluster is whole", || {
        nodes.iter().all(|node| {
            let info: String = node.tell("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    Cluster(nodes, alone)
}

pub(crate) fn cluster_url(nodes: &[Server]) -> String {
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    format!("redis+cluster://{}", hosts.join(","))
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "in vain waited until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

/// One of many names.
pub(crate) fn name(number: u32) -> Name {
    Name::parse(&format!("0123456789abcdef01234567{number:08x}-01ab")).unwrap()
}

pub(crate) fn claim(owner: u8) -> SealedOperation {
    Operation::Claim { owner: id(owner), unwanted: None, lease: Duration::from_secs(60) }
}

pub(crate) fn publish(owner: u8, generation: u8) -> SealedOperation {
    let (token, lifetime) = ("sealed".to_owned(), Duration::from_secs(3600));
    Operation::Publish { owner: id(owner), replaced: None, generation: id(generation), token, lifetime }
}

/// Carries an operation out under the first name.
pub(crate) fn run(store: &RedisStore, operation: SealedOperation) -> Result<SealedAnswer, Error> {
    BlockingStore::run(store, &name(0), operation)
}

pub(crate) fn outcome(store: &RedisStore, operation: SealedOperation) -> Outcome {
    run(store, operation).unwrap().outcome
}

/// The result of a future, without any runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

/// Tries all that a store promises, blocking and async.
pub(crate) fn check(store: &RedisStore) {
    kit::check(&|name, operation| BlockingStore::run(store, name, operation));
    kit::check(&|name, operation| block_on(AsyncStore::run(store, name, operation)));
}
