//! The store.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use alvys_auth_core::Error;
use alvys_auth_driver::Time;
use alvys_auth_store::{AsyncStore, BlockingStore, Name, SealedAnswer, SealedOperation, StoreFuture};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::address::Address;
use crate::breaker::Breaker;
use crate::failure::{self, explained};
use crate::link::Link;
use crate::script::{self, Request};

/// How long an operation may take, with its repetition.
const OPERATION: Duration = Duration::from_secs(4);

/// A store in Redis or Valkey, for the processes of a fleet. It is async and blocking, and has a connection and a thread of its
/// own, which any number of runtimes and threads share.
///
/// A URL says where it is:
///
/// | URL | what is used |
/// | --- | --- |
/// | `redis://user:password@host:6379/0` | one server |
/// | `rediss://host` | one server, with TLS |
/// | `redis+cluster://a:6379,b:6379` | a cluster, found through any of these nodes; `rediss+cluster` with TLS |
/// | `redis+sentinel://a:26379,b:26379/service` | the primary that the sentinels name; `rediss+sentinel` with TLS |
///
/// `valkey` may stand in place of `redis`. Settings follow a question mark, such as `?prefix=staging:&ca=/etc/redis-ca.pem`:
/// `prefix` goes in front of every key; `ca` is a file with the authority's certificate, in place of the system's; `cert` and
/// `key` are files with a client's certificate; `sentinel-user` and `sentinel-password` are for the sentinels.
///
/// Nothing is connected before the first operation. An operation ends within four seconds: a connection may take two,
/// an answer one, and an operation is repeated once over another connection when its answer is late or the connection
/// is lost. After an operation has waited and got no answer, operations fail at once for five seconds; then one of them
/// tries again.
///
/// ```no_run
/// use std::time::Duration;
///
/// use alvys_auth_core::share::{Id, Operation, Outcome};
/// use alvys_auth_core::{Credentials, Flow, TokenRequest};
/// use alvys_auth_redis::RedisStore;
/// use alvys_auth_store::{BlockingStore, Key};
///
/// let store = RedisStore::new("rediss://alvys:s3cret@redis.example:6379?prefix=staging:")?;
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let claim = Operation::Claim { owner: Id::from_bytes([1; 16]), unwanted: None, lease: Duration::from_secs(15) };
/// assert_eq!(BlockingStore::run(&store, Key::of(&request)?.name(), claim)?.outcome, Outcome::Claimed);
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
pub struct RedisStore {
    shared: Arc<Shared>,
    /// Set until the store is dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    address: Address,
    link: Link,
    breaker: Breaker,
}

impl RedisStore {
    /// The store at this URL.
    ///
    /// # Errors
    /// When the URL, or a file that it names, cannot be read. The error repeats no part of the URL except the file's
    /// name.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_clock(url, Time::boot())
    }

    /// The store at that URL, with a clock of your own, by which operations fail at once for a while.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(url: &str, time: impl Into<Time>) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        if address.tls.is_some() && CryptoProvider::get_default().is_none() {
            // The client panics where it finds two. Somebody else may be faster, and is as right.
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let link = Link::new(&address).map_err(|error| failure::unusable(&address, &error))?;
        let mut runtime = Builder::new_multi_thread();
        runtime.worker_threads(1).max_blocking_threads(4).thread_name("alvys-auth-redis").enable_all();
        let runtime = runtime.build().map_err(|error| {
            Error::configuration(format!("no thread for the store can be started: {error}"), "allow more threads")
        })?;
        let breaker = Breaker::new(time.into());
        Ok(Self { shared: Arc::new(Shared { address, link, breaker }), runtime: Some(runtime) })
    }

    /// Begins an operation on the store's own thread. It goes on even if nobody waits for it any more.
    fn start(
        &self,
        name: &Name,
        operation: SealedOperation,
        done: impl FnOnce(Result<SealedAnswer, Error>) + Send + 'static,
    ) {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move { done(shared.run(&name, operation).await) });
        }
    }
}

impl Shared {
    async fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let request = Request::new(&self.address.prefix, name, &operation)
            .ok_or_else(|| Error::configuration("the store does not know this operation", "update alvys-auth-redis"))?;
        self.breaker.pass()?;
        let result = match timeout(OPERATION, self.link.run(&request)).await {
            Ok(Ok(value)) => script::answer(value).ok_or_else(|| failure::nonsense(&self.address)),
            Ok(Err(error)) => Err(explained(&self.address, &error)),
            Err(_) => Err(failure::late(&self.address)),
        };
        self.breaker.tell(&result);
        result
    }
}

impl BlockingStore for RedisStore {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.start(name, operation, move |answer| drop(sender.send(answer)));
        receiver.recv().unwrap_or_else(|_| Err(failure::broken(&self.shared.address)))
    }
}

impl AsyncStore for RedisStore {
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a> {
        Box::pin(async move {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            self.start(name, operation, move |answer| drop(sender.send(answer)));
            receiver.await.unwrap_or_else(|_| Err(failure::broken(&self.shared.address)))
        })
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        // A runtime must not be waited for inside of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Shows where the store is: the URL without user, passwords and settings.
impl fmt::Display for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.shared.address, f)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { prefix, .. } = &self.shared.address;
        f.debug_struct("RedisStore")
            .field("url", &format_args!("{}", self.shared.address))
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}
