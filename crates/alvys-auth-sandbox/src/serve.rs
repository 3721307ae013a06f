//! The routes of the server, and the thread that runs it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
};

use axum::{
    Router,
    extract::State,
    middleware,
    response::Response,
    routing::{any, get, post},
    serve::Listener as _,
};
use http::StatusCode;
use tokio::{runtime, sync::oneshot};

use crate::{
    api, documents, gate, legacy, mcp, reply,
    server::Server,
    token_endpoint,
    wire::{Cut, Door},
};

/// Serves until `stop` is sent or its sender is dropped. Sends the result of the start to `ready`.
pub(crate) fn run(address: SocketAddr, ready: &mpsc::Sender<io::Result<Arc<Server>>>, stop: oneshot::Receiver<()>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(ready, Err(error)),
    };
    runtime.block_on(async {
        let door = match Door::open(address) {
            Ok(door) => door,
            Err(error) => return report(ready, Err(error)),
        };
        let server = match door.local_addr() {
            Ok(address) => Arc::new(Server::new(address)),
            Err(error) => return report(ready, Err(error)),
        };
        let service = router(Arc::clone(&server)).into_make_service_with_connect_info::<Cut>();
        let serve = axum::serve(door, service);
        tokio::spawn(async move { serve.await });
        report(ready, Ok(server));
        // An error means that the sender was dropped, which is a stop too.
        let _ = stop.await;
    });
    // Dropping the runtime closes the listener and all connections, whatever they wait for.
}

fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/oauth/token", post(token_endpoint::token))
        .route("/api/authentication/{tenant}/token", post(legacy::token))
        .route("/api/p/authentication/{tenant}/token", post(legacy::token))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/v1/me", get(api::me))
        .route("/mcp", post(mcp::events))
        .route("/storage/{name}", get(documents::stored))
        .route("/api/p/{version}/documents", post(documents::create))
        .route("/api/p/{version}/documents/{id}", get(documents::read))
        .route("/api/p/{version}/documents/{id}/download", get(documents::download))
        .route("/api/p/{version}/loads/{id}/documents", get(documents::of_load))
        .route("/api/p/{version}/{resource}", any(api::collection))
        .route("/api/p/{version}/{resource}/{id}", any(api::item))
        .fallback(gate::unknown_path)
        .method_not_allowed_fallback(gate::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&server), gate::pass))
        .with_state(server)
}

async fn jwks(State(server): State<Arc<Server>>) -> Response {
    reply::json(StatusCode::OK, &server.issuer().jwks())
}

/// Sends the result of the start. It is ignored when nobody waits for it any more.
fn report(ready: &mpsc::Sender<io::Result<Arc<Server>>>, outcome: io::Result<Arc<Server>>) {
    let _ = ready.send(outcome);
}
