//! The connection to the server, to the cluster, or to the primary that the sentinels name.

use std::io;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::address::{Address, Kind, Login};
use crate::script::Request;

/// How long a connection may take to be made, with the look-up of names, TLS, the password, and the search for the primary.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the server may take for an answer.
const RESPONSE: Duration = Duration::from_secs(1);

/// The client's connection manager would go on with a connection that has fallen silent, and with a primary that is one no
/// more. So a connection that has failed is replaced here, in the same way for one server, a cluster and sentinels.
pub(crate) struct Link(Mutex<Slot>);

struct Slot {
    target: Target,
    connection: Option<Connection>,
    /// How many connections were made. The number distinguishes them.
    made: u64,
    /// When the last one could not be made, and why.
    failed: Option<(Instant, RedisError)>,
}

enum Target {
    Single(Client),
    Cluster(ClusterClient),
    Sentinel(SentinelClient),
}

#[derive(Clone)]
enum Connection {
    Direct(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(crate) fn new(address: &Address) -> RedisResult<Self> {
        let target = Target::new(address)?;
        Ok(Self(Mutex::new(Slot { target, connection: None, made: 0, failed: None })))
    }

    /// Runs the script. When the connection is lost or the answer is late, it is run once more over another connection: an
    /// operation that was carried out already does no harm when it is repeated.
    pub(crate) async fn run(&self, request: &Request) -> RedisResult<Value> {
        let (mut connection, number) = self.connection().await?;
        let first = connection.run(request).await;
        if !first.as_ref().is_err_and(is_of_connection) {
            return first;
        }
        self.give_up(number).await;
        let (mut connection, number) = self.connection().await?;
        let result = connection.run(request).await;
        if result.as_ref().is_err_and(is_of_connection) {
            self.give_up(number).await;
        }
        result
    }

    async fn connection(&self) -> RedisResult<(Connection, u64)> {
        let asked = Instant::now();
        self.0.lock().await.connection(asked).await
    }

    /// Drops the connection with this number, unless another operation has replaced it already.
    async fn give_up(&self, number: u64) {
        let mut slot = self.0.lock().await;
        if slot.made == number {
            slot.connection = None;
        }
    }
}

impl Slot {
    async fn connection(&mut self, asked: Instant) -> RedisResult<(Connection, u64)> {
        if let Some(connection) = &self.connection {
            return Ok((connection.clone(), self.made));
        }
        // An operation that has waited for another operation's attempt to connect gets its failure.
        if let Some((at, error)) = &self.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let started = Instant::now();
        match timeout(CONNECT, self.target.connect()).await.unwrap_or_else(|_| Err(late())) {
            Ok(connection) => {
                self.made += 1;
                self.connection = Some(connection.clone());
                Ok((connection, self.made))
            }
            Err(error) => {
                // For several nodes, the client gives the error of one as text.
                let waited = error.is_io_error() && started.elapsed() >= RESPONSE;
                let error = if waited { late() } else { error };
                self.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

impl Target {
    fn new(address: &Address) -> RedisResult<Self> {
        let addresses = || {
            address.hosts.iter().cloned().map(|(host, port)| match address.tls {
                Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
                None => ConnectionAddr::Tcp(host, port),
            })
        };
        let servers = || addresses().map(|server| connection_info(server, &address.login, address.database));
        Ok(match &address.kind {
            Kind::Single => {
                let server = servers().next().unwrap_or_else(|| Err(nowhere()))?;
                Self::Single(match &address.tls {
                    Some(tls) => Client::build_with_tls(server, tls.clone())?,
                    None => Client::open(server)?,
                })
            }
            Kind::Cluster => {
                let mut cluster = ClusterClient::builder(servers().collect::<RedisResult<Vec<_>>>()?)
                    .connection_timeout(CONNECT)
                    .response_timeout(RESPONSE)
                    .retries(3)
                    .min_retry_wait(10)
                    .max_retry_wait(200);
                if let Some(tls) = &address.tls {
                    cluster = cluster.tls(TlsMode::Secure).certs(tls.clone());
                }
                Self::Cluster(cluster.build()?)
            }
            Kind::Sentinel { service, login } => {
                let mut sentinels = SentinelClientBuilder::new(addresses(), service, SentinelServerType::Master)?
                    .set_client_to_redis_db(address.database);
                if let Some(user) = &address.login.user {
                    sentinels = sentinels.set_client_to_redis_username(user);
                }
                if let Some(password) = &address.login.password {
                    sentinels = sentinels.set_client_to_redis_password(password.as_str());
                }
                if let Some(user) = &login.user {
                    sentinels = sentinels.set_client_to_sentinel_username(user);
                }
                if let Some(password) = &login.password {
                    sentinels = sentinels.set_client_to_sentinel_password(password.as_str());
                }
                if let Some(tls) = &address.tls {
                    sentinels = sentinels
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(tls.clone())
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_certificates(tls.clone());
                }
                Self::Sentinel(sentinels.build()?)
            }
        })
    }

    async fn connect(&mut self) -> RedisResult<Connection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(RESPONSE));
        Ok(match self {
            Self::Single(client) => {
                Connection::Direct(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
            Self::Sentinel(client) => Connection::Direct(client.get_async_connection_with_config(&config).await?),
        })
    }
}

impl Connection {
    async fn run(&mut self, request: &Request) -> RedisResult<Value> {
        match self.query(&request.by_hash).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&request.with_text).await
            }
            result => result,
        }
    }

    async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Direct(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

fn connection_info(server: ConnectionAddr, login: &Login, database: i64) -> RedisResult<ConnectionInfo> {
    // Servers before 7.2 do not know the commands that tell the library's name, and they would need a right of their own.
    let mut settings = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password.as_str());
    }
    Ok(server.into_connection_info()?.set_redis_settings(settings))
}

/// Whether another connection may help. A primary that has become a replica is looked up again.
fn is_of_connection(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(ServerErrorKind::ReadOnly)
    )
}

fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn nowhere() -> RedisError {
    (ErrorKind::InvalidClientConfig, "no server is named").into()
}
