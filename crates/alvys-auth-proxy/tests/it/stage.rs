//! A sandbox, a proxy in front of it, and ways to talk to the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use alvys_auth_proxy::{Account, Accounts, Api, Listen, Proxy, Server, Settings, TokenSource};
use alvys_auth_reqwest::{Builder, Credentials, Flow, Policy};
use alvys_auth_sandbox::{Application, Received, Sandbox};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Everything that takes longer than this hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) tokens: TokenSource,
    pub(crate) running: Running,
    pub(crate) client: Client,
}

/// A proxy that runs until it is told to stop.
pub(crate) struct Running {
    pub(crate) places: Vec<Listen>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<usize>,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(Settings::new()).await
    }

    /// A proxy for the sandbox's own application, which sends requests as they come.
    pub(crate) async fn with(settings: Settings) -> Self {
        let sandbox = Sandbox::start().unwrap();
        let tokens = tokens(&sandbox, &sandbox.application());
        let settings = settings.mcp(sandbox.mcp_url());
        let api = Api::at(&sandbox.api_url()).unwrap();
        let running = Running::start(Account::new(tokens.clone()).unpaced(), api, settings).await;
        Self { sandbox, tokens, running, client: client() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header("content-type", "application/json")
    }

    /// What arrived at the API, without the token requests.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.sandbox.requests().into_iter().filter(|received| !received.path().ends_with("/token")).collect()
    }

    /// Waits until as many calls of this path have arrived at the API, answered or not.
    pub(crate) async fn called(&self, path: &str, times: usize) {
        let arrived = async {
            while self.received().iter().filter(|received| received.path() == path).count() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, arrived).await.expect("the calls arrive");
    }

    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("a request arrived")
    }
}

impl Running {
    pub(crate) async fn start(accounts: impl Accounts, api: Api, settings: Settings) -> Self {
        let server = Server::new(Proxy::new(accounts, api, settings).unwrap());
        Self::serve(server.listen(&Listen::loopback(0)).await.unwrap())
    }

    pub(crate) fn serve(server: Server) -> Self {
        let places = server.places().to_vec();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { places, stop, ended }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.places[0] {
            Listen::Tcp(address) => *address,
            place => panic!("{place} is no port"),
        }
    }

    /// Begins the shutdown and waits for its end; gives how many connections were cut.
    pub(crate) async fn stop(self) -> usize {
        let _ = self.stop.send(());
        tokio::time::timeout(SOON, self.ended).await.expect("the shutdown ends").unwrap()
    }
}

/// A client that neither follows redirects nor reads the environment.
pub(crate) fn client() -> Client {
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(SOON).build().unwrap()
}

/// Tokens of an application; refused ones are renewed at any age.
pub(crate) fn tokens(sandbox: &Sandbox, application: &Application) -> TokenSource {
    token_builder(sandbox, application).build().unwrap()
}

pub(crate) fn token_builder(sandbox: &Sandbox, application: &Application) -> Builder {
    let credentials = Credentials::new(application.client_id(), application.client_secret()).unwrap();
    let policy = Policy::new()
        .rejection_grace(Duration::ZERO)
        .request_timeout(Duration::from_secs(5))
        .backoff(Duration::from_millis(20), Duration::from_millis(50))
        .cool_down(Duration::from_millis(50), Duration::from_millis(100));
    let flow = Flow::current().endpoint(sandbox.token_url());
    TokenSource::builder(flow, credentials).policy(policy).patience(Duration::from_secs(4))
}

/// Writes bytes as they are, and reads all that comes back until the other side closes.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer in raw bytes.
pub(crate) fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// The problem document of an answer, and its status.
pub(crate) async fn problem(answer: reqwest::Response) -> (u16, Value) {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let status = answer.status().as_u16();
    let document: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(document["status"], status);
    assert!(document["detail"].is_string() && document["hint"].is_string(), "{document}");
    (status, document)
}
