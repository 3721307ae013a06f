//! The current token endpoint: OAuth 2.0 client credentials in the body, and answers like those of
//! Auth0.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::{
    application::Application,
    fields::{Fields, Refusal},
    reply,
    server::Server,
};

/// The `expires_in` of an opaque token, in seconds.
const OPAQUE_LIFETIME: u32 = 86_400;

pub(crate) async fn token(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    grant(&server, &headers, &body).unwrap_or_else(Refused::into_response)
}

fn grant(server: &Server, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refused> {
    let fields = Fields::read(headers, body).map_err(unreadable)?;
    let client_id = client_credentials_of(&fields)?;
    let secret = fields.value("client_secret").unwrap_or_default();
    let application = server
        .authenticate(client_id, secret)
        .ok_or_else(|| refuse(StatusCode::UNAUTHORIZED, "access_denied", "Unauthorized"))?;
    if !application.allows_client_credentials() {
        return Err(Refused {
            see: Some("https://auth0.com/docs/clients/client-grant-types"),
            ..refuse(
                StatusCode::FORBIDDEN,
                "unauthorized_client",
                "Grant type 'client_credentials' not allowed for the client.",
            )
        });
    }
    let Some(audience) = fields.value("audience") else {
        return without_audience(server);
    };
    check_audience(server, &application, audience)?;
    check_scopes(&application, fields.value("scope").unwrap_or_default())?;
    Ok(granted(server, &application))
}

/// The client id of a request with the grant type `client_credentials`.
fn client_credentials_of(fields: &Fields) -> Result<&str, Refused> {
    match fields.value("grant_type") {
        Some("client_credentials") => {}
        None => {
            return Err(refuse(StatusCode::BAD_REQUEST, "invalid_request", "Missing required parameter: grant_type"));
        }
        Some(other) => {
            let description = format!("Unsupported grant type: {other}");
            return Err(refuse(StatusCode::NOT_IMPLEMENTED, "unsupported_grant_type", description));
        }
    }
    fields.value("client_id").ok_or_else(|| refuse(StatusCode::UNAUTHORIZED, "invalid_client", "Missing client_id"))
}

/// The answer to a request without an audience. The real server has done both; a setting of the
/// sandbox decides.
fn without_audience(server: &Server) -> Result<Response, Refused> {
    if !server.settings().opaque_tokens {
        let description = "Non-global clients are not allowed access to APIv1";
        return Err(refuse(StatusCode::FORBIDDEN, "access_denied", description));
    }
    server.log().token_issued();
    Ok(reply::token_json(
        StatusCode::OK,
        &json!({
            "access_token": server.issuer().opaque(),
            "expires_in": OPAQUE_LIFETIME,
            "token_type": "Bearer",
        }),
    ))
}

fn check_audience(server: &Server, application: &Application, audience: &str) -> Result<(), Refused> {
    if application.audience() == audience && application.is_granted() {
        return Ok(());
    }
    let description = if server.serves_audience(audience) {
        format!(
            "Client is not authorized to access \"{audience}\". You need to create a \
             \"client-grant\" associated to this API. See: \
             https://auth0.com/docs/api/v2#!/Client_Grants/post_client_grants"
        )
    } else {
        format!("Service not enabled within domain: {audience}")
    };
    Err(refuse(StatusCode::FORBIDDEN, "access_denied", description))
}

fn check_scopes(application: &Application, requested: &str) -> Result<(), Refused> {
    let missing: Vec<&str> = requested
        .split_whitespace()
        .filter(|scope| !application.scopes().iter().any(|granted| granted == scope))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let description = format!("Client has not been granted scopes: {}", missing.join(", "));
    Err(refuse(StatusCode::FORBIDDEN, "access_denied", description))
}

/// The answer with a token. It has all granted scopes, whatever the request asked for.
fn granted(server: &Server, application: &Application) -> Response {
    let life = server.lifespan();
    server.log().token_issued();
    reply::token_json(
        StatusCode::OK,
        &json!({
            "access_token": server.issuer().current(application, life),
            "expires_in": life.seconds(),
            "scope": application.scopes().join(" "),
            "token_type": "Bearer",
        }),
    )
}

fn unreadable(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::MediaType => refuse(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "The body must be application/json or application/x-www-form-urlencoded",
        ),
        Refusal::Body(description) => refuse(StatusCode::BAD_REQUEST, "invalid_request", description),
    }
}

/// An error answer.
struct Refused {
    status: StatusCode,
    error: &'static str,
    description: String,
    see: Option<&'static str>,
}

impl Refused {
    fn into_response(self) -> Response {
        let mut body = json!({"error": self.error, "error_description": self.description});
        if let Some(see) = self.see {
            body["error_uri"] = json!(see);
        }
        reply::token_json(self.status, &body)
    }
}

fn refuse(status: StatusCode, error: &'static str, description: impl Into<String>) -> Refused {
    Refused { status, error, description: description.into(), see: None }
}
