//! The legacy token endpoint: one path per tenant, and answers in the format of ASP.NET.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json};

use crate::{
    fields::{Fields, Refusal},
    reply,
    server::Server,
};

pub(crate) async fn token(
    State(server): State<Arc<Server>>,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields = match Fields::read(&headers, &body) {
        Ok(fields) => fields,
        Err(Refusal::MediaType) => {
            return reply::problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be application/x-www-form-urlencoded or application/json.",
                uri.path(),
            );
        }
        Err(Refusal::Body(reason)) => {
            let errors = Map::from_iter([("$".to_owned(), json!([reason]))]);
            return invalid(errors, uri.path());
        }
    };
    let errors = validate(&fields, &tenant);
    if !errors.is_empty() {
        return invalid(errors, uri.path());
    }
    let text = |name| fields.value(name).unwrap_or_default();
    let application = server
        .authenticate(text("client_id"), text("client_secret"))
        .filter(|application| application.tenant() == tenant)
        .filter(|application| application.allows_client_credentials());
    let Some(application) = application else {
        return reply::problem(StatusCode::FORBIDDEN, "The credentials are not valid for this tenant.", uri.path());
    };
    let life = server.lifespan();
    server.log().token_issued();
    reply::json(
        StatusCode::OK,
        &json!({
            "access_token": server.issuer().legacy(&application, life),
            "expires_in": life.seconds(),
            "token_type": "Bearer",
        }),
    )
}

/// What is wrong with the fields, by the name of the field.
fn validate(fields: &Fields, tenant: &str) -> Map<String, Value> {
    let mut errors = Map::new();
    for name in ["client_id", "client_secret", "grant_type"] {
        if fields.value(name).is_none() {
            let message = format!("The {name} field is required.");
            errors.insert(name.to_owned(), json!([message]));
        }
    }
    if fields.value("grant_type").is_some_and(|grant| grant != "client_credentials") {
        let message = "The grant_type field must be client_credentials.";
        errors.insert("grant_type".to_owned(), json!([message]));
    }
    if fields.value("tenant_id").is_some_and(|id| id != tenant) {
        let message = "The tenant_id field must match the tenant in the path.";
        errors.insert("tenant_id".to_owned(), json!([message]));
    }
    errors
}

fn invalid(errors: Map<String, Value>, path: &str) -> Response {
    let members = Map::from_iter([
        ("Title".to_owned(), json!("One or more validation errors occurred.")),
        ("Errors".to_owned(), Value::Object(errors)),
    ]);
    reply::problem_with(StatusCode::BAD_REQUEST, "The request is not valid.", path, members)
}
