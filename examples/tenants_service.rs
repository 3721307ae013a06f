//! An axum service that serves several tenants of Alvys, each with credentials of its own.
//!
//! `cargo run --example tenants_service` starts a local Alvys, the service, and a few requests to it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::TenantProvider;
use alvys_auth_reqwest::{Api, Client, Credentials, ErrorKind, Flow, Tenants, redirects};
use alvys_auth_sandbox::{Application, Sandbox};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;

/// What the handlers share: a token for each tenant, and connections for all of them.
#[derive(Clone)]
struct Service {
    tenants: Tenants,
    http: reqwest::Client,
    api: Api,
}

async fn loads(
    State(service): State<Service>,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let refused = |error: alvys_auth_reqwest::Error| {
        let status = match error.kind() {
            ErrorKind::UnknownTenant => StatusCode::NOT_FOUND,
            ErrorKind::RateLimited | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        };
        (status, error.to_string())
    };
    let tokens = service.tenants.source(&tenant).await.map_err(refused)?;
    let alvys = Client::sharing(service.http, tokens, service.api);
    let answer = alvys.get("loads").send().await.map_err(refused)?;
    let failed = |error: reqwest::Error| (StatusCode::BAD_GATEWAY, error.without_url().to_string());
    answer.error_for_status().map_err(failed)?.json().await.map(Json).map_err(failed)
}

/// The tenants of this service; a real one would ask its database.
fn customers(sandbox: &Sandbox) -> impl TenantProvider + use<> {
    let mut known = HashMap::new();
    for (tenant, secret) in [("va336", "first-secret"), ("AB123", "second-secret")] {
        sandbox.add(Application::new(format!("client-of-{tenant}"), secret, tenant));
        known.insert(tenant, (format!("client-of-{tenant}"), secret.to_owned()));
    }
    // Somebody entered the wrong credentials for this one.
    known.insert("PB001", ("client-of-va336".to_owned(), "first-secret".to_owned()));
    let flow = Flow::current().endpoint(sandbox.token_url());
    move |tenant: &str| match known.get(tenant) {
        Some((client_id, secret)) => Ok(Some((flow.clone(), Credentials::new(client_id, secret)?))),
        None => Ok(None),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Arc::new(Sandbox::start()?);
    let tenants = Tenants::builder(customers(&sandbox)).capacity(1000).renew_in_background(4).build();
    // The local Alvys speaks plain http: a proxy that the environment names would see the tokens. Leave `no_proxy` out for the
    // real one.
    let http = reqwest::Client::builder().redirect(redirects()).read_timeout(Duration::from_secs(30)).no_proxy();
    let http = http.build()?;
    let state = Service { tenants, http, api: Api::at(&sandbox.api_url())? };
    let service = Router::new().route("/{tenant}/loads", get(loads)).with_state(state);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, service).await });

    for tenant in ["va336", "AB123", "va336", "PB001", "zz999"] {
        let answer = reqwest::get(format!("http://{address}/{tenant}/loads")).await?;
        println!("{tenant}: {} {}", answer.status().as_u16(), answer.text().await?);
    }
    println!("tokens issued: {}", sandbox.tokens_issued());
    Ok(())
}
