//! Documents: their lists, pre-signed links to the document host, and bodies of any size.

use std::convert::Infallible;

use aws_lc_rs::digest;
use axum::{body::Body, extract::Path, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use crate::{
    api::{self, TOTAL},
    call::Call,
    reply,
    server::Server,
    signing,
};

/// The longest document in either direction, in bytes.
pub(crate) const LONGEST: usize = 64 * 1024 * 1024;

/// The length of a document when the request does not set it, in bytes.
const USUAL: usize = 1024;

/// `GET /api/p/{version}/loads/{id}/documents`
pub(crate) async fn of_load(Path((version, id)): Path<(String, String)>, call: Call) -> Response {
    let listed = || {
        read_access(&call, &version, "load documents", true)?;
        check_exists(&call, "load", &id)?;
        api::page(&call, &Value::Null, |number| {
            let id = api::item_id("document", number);
            json!({"Id": id, "DownloadUrl": link(call.server(), &id)})
        })
    };
    listed().unwrap_or_else(|refusal| *refusal)
}

/// `POST /api/p/{version}/documents`
pub(crate) async fn create(Path(version): Path<String>, call: Call) -> Response {
    let created = || {
        api::check_version(&call, &version)?;
        let bearer = call.admit("documents", false)?;
        call.check_scope(&bearer, "load", "create")?;
        Ok(reply::json(
            StatusCode::CREATED,
            &json!({
                "Id": api::item_id("document", TOTAL + 1),
                "Length": call.body().len(),
                "Sha256": signing::hex(digest::digest(&digest::SHA256, call.body()).as_ref()),
            }),
        ))
    };
    created().unwrap_or_else(|refusal: Box<Response>| *refusal)
}

/// `GET /api/p/{version}/documents/{id}`
pub(crate) async fn read(Path((version, id)): Path<(String, String)>, call: Call) -> Response {
    let content = || {
        read_access(&call, &version, "documents", false)?;
        check_exists(&call, "document", &id)?;
        content(call.query()).map_err(|reason| call.problem(StatusCode::BAD_REQUEST, &reason))
    };
    content().unwrap_or_else(|refusal| *refusal)
}

/// `GET /api/p/{version}/documents/{id}/download`
pub(crate) async fn download(Path((version, id)): Path<(String, String)>, call: Call) -> Response {
    let redirect = || {
        read_access(&call, &version, "document downloads", false)?;
        check_exists(&call, "document", &id)?;
        let mut response = reply::empty(StatusCode::FOUND);
        response.headers_mut().insert(header::LOCATION, reply::value(&link(call.server(), &id)));
        Ok(response)
    };
    redirect().unwrap_or_else(|refusal: Box<Response>| *refusal)
}

/// `GET /storage/{name}`: the document host. It checks the signature of the link. Like object
/// stores, it refuses a request that also has an `Authorization` header.
pub(crate) async fn stored(uri: Uri, headers: HeaderMap) -> Response {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if headers.contains_key(header::AUTHORIZATION) {
        let detail = "Only one way to authenticate is allowed: the signature or the Authorization header.";
        return reply::problem(StatusCode::BAD_REQUEST, detail, path);
    }
    if parameter(query, "signature").is_none_or(|signature| signature.is_empty()) {
        return reply::problem(StatusCode::FORBIDDEN, "The link is not signed.", path);
    }
    content(query).unwrap_or_else(|reason| reply::problem(StatusCode::BAD_REQUEST, &reason, path))
}

fn read_access(call: &Call, version: &str, name: &str, list: bool) -> Result<(), Box<Response>> {
    api::check_version(call, version)?;
    let bearer = call.admit(name, list)?;
    call.check_scope(&bearer, "load", "read")
}

fn check_exists(call: &Call, entity: &str, id: &str) -> Result<(), Box<Response>> {
    if api::exists(entity, id) {
        Ok(())
    } else {
        Err(call.problem(StatusCode::NOT_FOUND, "There is no item with this id."))
    }
}

/// A new pre-signed link to a document.
fn link(server: &Server, id: &str) -> String {
    format!("{}/storage/{id}?signature={}", server.document_host(), signing::hex(&signing::random::<16>()))
}

/// As many bytes as the query asks for. They are made while they are sent; byte n is n modulo 251.
fn content(query: &str) -> Result<Response, String> {
    let length = match parameter(query, "bytes") {
        Some(text) => text
            .parse()
            .ok()
            .filter(|length| *length <= LONGEST)
            .ok_or_else(|| format!("The parameter bytes must be a whole number of up to {LONGEST}."))?,
        None => USUAL,
    };
    // A chunk repeats 0 to 250 a whole number of times, so the next chunk continues the pattern.
    let chunk = Bytes::from(Vec::from_iter(0..=250).repeat(256));
    let chunks = stream::unfold(length, move |left| {
        let next = chunk.slice(..chunk.len().min(left));
        async move { (left > 0).then(|| (Ok::<_, Infallible>(next.clone()), left - next.len())) }
    });
    let mut response = reply::typed(StatusCode::OK, "application/octet-stream", Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
