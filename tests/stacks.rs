//! The stacks themselves: five ways to make the same calls.

use std::convert::Infallible;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use alvys_auth_core::{Api, Error};
use alvys_auth_store::{FileStore, Sealed};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::caller::{Body, Call, Caller, Failure, Reply, Setup};

/// Streams are sent in pieces of this many bytes.
const PIECE: usize = 64 * 1024;

/// An async stack, of which a call can be started and dropped.
pub trait AsyncCaller: Caller {
    /// Starts a call on the stack's runtime.
    fn start(&self, call: Call) -> JoinHandle<Result<Reply, Failure>>;
}

/// How an async stack sends; what runs it is the same for all.
trait Sender: Clone + Send + Sync + 'static {
    fn send(self, call: Call) -> impl Future<Output = Result<Reply, Failure>> + Send;
}

macro_rules! async_stack {
    ($name:ident, follows: $follows:literal, explains: $explains:literal) => {
        impl Caller for $name {
            const FOLLOWS: bool = $follows;
            const KEEPS_TOKEN: bool = true;
            const EXPLAINS: bool = $explains;

            fn build(setup: Setup) -> Self {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = Arc::new(runtime.expect("a runtime"));
                let sender = Self::sender(setup);
                Self { runtime, sender }
            }

            fn call(&self, call: Call) -> Result<Reply, Failure> {
                self.runtime.block_on(self.sender.clone().send(call))
            }
        }

        impl AsyncCaller for $name {
            fn start(&self, call: Call) -> JoinHandle<Result<Reply, Failure>> {
                self.runtime.spawn(self.sender.clone().send(call))
            }
        }
    };
}

fn async_tokens(setup: &Setup) -> alvys_auth_reqwest::TokenSource {
    let settings = setup.tokens.clone();
    let source = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials);
    let source = source.policy(settings.policy).patience(settings.patience);
    let source = match settings.store {
        Some(directory) => source.store(Arc::new(alvys_auth_reqwest::Blocking::new(files(&directory)))),
        None => source,
    };
    source.build().expect("acceptable settings")
}

fn blocking_tokens(setup: &Setup) -> alvys_auth_ureq::TokenSource {
    let settings = setup.tokens.clone();
    let source = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials);
    let source = source.policy(settings.policy).patience(settings.patience);
    let source = match settings.store {
        Some(directory) => source.store(Arc::new(files(&directory))),
        None => source,
    };
    source.build().expect("acceptable settings")
}

fn files(directory: &Path) -> Sealed<FileStore> {
    Sealed::new(FileStore::new(directory).expect("a directory"))
}

fn pieces(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect()
}

/// The whole URL, query included, for stacks that are given one.
fn url(api: &Api, call: &Call) -> Result<Uri, Failure> {
    let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    api.url(&format!("{}{mark}{}", call.path, query.join("&"))).map_err(Failure::Ours)
}

/// An error of this library, wherever the stack has put it.
fn boxed(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => Failure::Ours(*error),
        Err(error) => Failure::stacks(&*error),
    }
}

/// `alvys_auth_reqwest::Client`
#[derive(Debug)]
pub struct ReqwestClient {
    runtime: Arc<Runtime>,
    sender: alvys_auth_reqwest::Client,
}

async_stack!(ReqwestClient, follows: true, explains: true);

impl ReqwestClient {
    fn sender(setup: Setup) -> alvys_auth_reqwest::Client {
        let http = move || reqwest::Client::builder().read_timeout(setup.timeout);
        let client = alvys_auth_reqwest::Client::builder(async_tokens(&setup), setup.api).clock(setup.time).http(http);
        let client = if let Some(pace) = setup.pace { client.pace(pace) } else { client };
        client.build().expect("a client")
    }
}

impl Sender for alvys_auth_reqwest::Client {
    async fn send(self, call: Call) -> Result<Reply, Failure> {
        let request = self.request(call.method, &call.path);
        let request = if call.query.is_empty() { request } else { request.query(&call.query) };
        let request = match call.body {
            Body::Empty => request,
            Body::Json(json) => request.json(&json),
            Body::Bytes(bytes) => request.body(bytes),
            Body::Stream(bytes) => request.body(reqwest_stream(&bytes)),
        };
        let request = call.headers.iter().fold(request, |request, (name, value)| request.header(name, value.clone()));
        let request = request.require(call.required);
        let request = if call.idempotent { request.idempotent() } else { request };
        read(request.send().await.map_err(Failure::Ours)?).await
    }
}

fn reqwest_stream(bytes: &Bytes) -> reqwest::Body {
    reqwest::Body::wrap_stream(stream::iter(pieces(bytes).into_iter().map(Ok::<_, Infallible>)))
}

async fn read(answer: reqwest::Response) -> Result<Reply, Failure> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|error| Failure::stacks(&error))?;
    Ok(Reply { status, headers, body })
}

/// `alvys_auth_reqwest::Authorize`, for reqwest-middleware
#[derive(Debug)]
pub struct ReqwestMiddleware {
    runtime: Arc<Runtime>,
    sender: WithMiddleware,
}

#[derive(Debug, Clone)]
struct WithMiddleware {
    client: reqwest_middleware::ClientWithMiddleware,
    api: Api,
}

async_stack!(ReqwestMiddleware, follows: true, explains: false);

impl ReqwestMiddleware {
    fn sender(setup: Setup) -> WithMiddleware {
        let http = reqwest::Client::builder().read_timeout(setup.timeout).no_proxy();
        let http = http.redirect(alvys_auth_reqwest::redirects()).build().expect("a client");
        let authorize = alvys_auth_reqwest::Authorize::new(async_tokens(&setup), setup.api.clone());
        let authorize = authorize.clock(setup.time.clone());
        let authorize = if let Some(pace) = setup.pace { authorize.pace(pace) } else { authorize };
        WithMiddleware { client: reqwest_middleware::ClientBuilder::new(http).with(authorize).build(), api: setup.api }
    }
}

impl Sender for WithMiddleware {
    async fn send(self, call: Call) -> Result<Reply, Failure> {
        let (url, options) = (url(&self.api, &call)?, call.options());
        let request = self.client.request(call.method, url.to_string()).headers(call.headers);
        let request = match call.body {
            Body::Empty => request,
            Body::Json(json) => request.header(CONTENT_TYPE, "application/json").body(json.to_string()),
            Body::Bytes(bytes) => request.body(bytes),
            Body::Stream(bytes) => request.body(reqwest_stream(&bytes)),
        };
        match request.with_extension(options).send().await {
            Ok(answer) => read(answer).await,
            Err(reqwest_middleware::Error::Middleware(error)) => match error.downcast::<Error>() {
                Ok(error) => Err(Failure::Ours(error)),
                Err(error) => Err(Failure::Stacks(format!("{error:?}"))),
            },
            Err(error) => Err(Failure::stacks(&error)),
        }
    }
}

/// `alvys_auth_tower::AuthorizeLayer` around the client of hyper-util
#[derive(Debug)]
pub struct TowerLayer {
    runtime: Arc<Runtime>,
    sender: Layered,
}

type TowerStream = StreamBody<stream::Iter<std::vec::IntoIter<Result<http_body::Frame<Bytes>, Infallible>>>>;
type TowerBody = Either<Full<Bytes>, TowerStream>;
type Answer = Response<hyper::body::Incoming>;

#[derive(Debug, Clone)]
struct Layered {
    service: BoxCloneSyncService<Request<TowerBody>, Answer, alvys_auth_tower::BoxError>,
    api: Api,
}

async_stack!(TowerLayer, follows: false, explains: false);

impl TowerLayer {
    fn sender(setup: Setup) -> Layered {
        let http = legacy::Client::builder(TokioExecutor::new()).build_http();
        let authorize =
            alvys_auth_tower::AuthorizeLayer::copying(async_tokens(&setup), setup.api.clone(), |body: &TowerBody| {
                match body {
                    Either::Left(bytes) => Some(Either::Left(bytes.clone())),
                    Either::Right(_) => None,
                }
            });
        let authorize = authorize.clock(setup.time.clone());
        let authorize = if let Some(pace) = setup.pace { authorize.pace(pace) } else { authorize };
        // The limit takes no call that was not preceded by a wait for readiness, replays included.
        let service = ServiceBuilder::new().layer(authorize).layer(ConcurrencyLimitLayer::new(1000));
        let service = service.layer(TimeoutLayer::new(setup.timeout)).service(http);
        Layered { service: BoxCloneSyncService::new(service), api: setup.api }
    }
}

impl Sender for Layered {
    async fn send(mut self, call: Call) -> Result<Reply, Failure> {
        let mut request = Request::new(Either::Left(Full::default()));
        *request.uri_mut() = url(&self.api, &call)?;
        request.extensions_mut().insert(call.options());
        *request.method_mut() = call.method;
        *request.headers_mut() = call.headers;
        *request.body_mut() = match call.body {
            Body::Empty => Either::Left(Full::default()),
            Body::Json(json) => {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Either::Left(json.to_string().into())
            }
            Body::Bytes(bytes) => Either::Left(bytes.into()),
            Body::Stream(bytes) => {
                let frames: Vec<_> =
                    pieces(&bytes).into_iter().map(|piece| Ok(http_body::Frame::data(piece))).collect();
                Either::Right(StreamBody::new(stream::iter(frames)))
            }
        };
        let answer = self.service.ready().await.map_err(boxed)?.call(request).await.map_err(boxed)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| Failure::stacks(&error))?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}

/// `alvys_auth_ureq::Client`
#[derive(Debug)]
pub struct UreqClient(alvys_auth_ureq::Client);

fn agent(setup: &Setup) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_recv_response(Some(setup.timeout)).timeout_per_read(Some(setup.timeout))
}

impl Caller for UreqClient {
    const FOLLOWS: bool = true;
    const KEEPS_TOKEN: bool = false;
    const EXPLAINS: bool = true;

    fn build(setup: Setup) -> Self {
        let agent = agent(&setup).build();
        let client = alvys_auth_ureq::Client::builder(blocking_tokens(&setup), setup.api).clock(setup.time).http(agent);
        let client = if let Some(pace) = setup.pace { client.pace(pace) } else { client };
        Self(client.build().expect("a client"))
    }

    fn call(&self, call: Call) -> Result<Reply, Failure> {
        let mut request = self.0.request(call.method, &call.path).require(call.required);
        if call.idempotent {
            request = request.idempotent();
        }
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        let request = call.headers.iter().fold(request, |request, (name, value)| request.header(name, value.clone()));
        let request = match call.body {
            Body::Empty => request,
            Body::Json(json) => request.json(&json),
            Body::Bytes(bytes) => request.body(bytes),
            Body::Stream(bytes) => request.body(alvys_auth_ureq::Payload::stream(Cursor::new(bytes))),
        };
        read_blocking(request.send().map_err(Failure::Ours)?)
    }
}

fn read_blocking(answer: Response<ureq::Body>) -> Result<Reply, Failure> {
    let (parts, mut body) = answer.into_parts();
    let body = body.with_config().limit(u64::MAX).read_to_vec().map_err(|error| Failure::stacks(&error))?;
    Ok(Reply { status: parts.status, headers: parts.headers, body: body.into() })
}

/// `alvys_auth_ureq::Authorize`, a middleware of an agent
#[derive(Debug)]
pub struct UreqMiddleware {
    agent: ureq::Agent,
    api: Api,
}

impl Caller for UreqMiddleware {
    const FOLLOWS: bool = true;
    const KEEPS_TOKEN: bool = false;
    const EXPLAINS: bool = false;

    fn build(setup: Setup) -> Self {
        let plain = agent(&setup).build().into();
        let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&setup), setup.api.clone(), plain);
        let authorize = authorize.clock(setup.time.clone());
        let authorize = if let Some(pace) = setup.pace.clone() { authorize.pace(pace) } else { authorize };
        Self { agent: agent(&setup).middleware(authorize).build().into(), api: setup.api }
    }

    fn call(&self, call: Call) -> Result<Reply, Failure> {
        let mut request = Request::new(());
        *request.uri_mut() = url(&self.api, &call)?;
        request.extensions_mut().insert(call.options());
        *request.method_mut() = call.method;
        *request.headers_mut() = call.headers;
        let answer = match call.body {
            Body::Empty => self.agent.run(request),
            Body::Json(json) => {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.agent.run(request.map(|()| json.to_string()))
            }
            Body::Bytes(bytes) => self.agent.run(request.map(|()| bytes.to_vec())),
            Body::Stream(bytes) => {
                self.agent.run(request.map(|()| ureq::SendBody::from_owned_reader(Cursor::new(bytes))))
            }
        };
        match answer {
            Ok(answer) => read_blocking(answer),
            Err(ureq::Error::Other(error)) => Err(boxed(error)),
            Err(error) => Err(Failure::stacks(&error)),
        }
    }
}
