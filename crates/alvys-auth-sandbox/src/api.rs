//! The API that tokens are for: `/v1/me`, and the lists and items of each entity.

use axum::{extract::Path, response::Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{call::Call, reply};

/// The versions of the API, in every way that they are written.
const VERSIONS: [&str; 4] = ["1", "v1", "1.0", "2.0"];

/// Every list has this many items.
pub(crate) const TOTAL: u64 = 3;

/// The number of items on a page when the request does not set it.
const PAGE_SIZE: u64 = 100;

const ALL: &[&str] = &["read", "create", "update", "delete"];

/// The path of a resource, the entity in its scopes, and its actions.
const RESOURCES: [(&str, &str, &[&str]); 15] = [
    ("carriers", "carrier", ALL),
    ("customers", "customer", ALL),
    ("deductions", "deduction", &["read", "create", "delete"]),
    ("dispatch", "dispatch", &["read", "update"]),
    ("drivers", "driver", ALL),
    ("fuel", "fuel", ALL),
    ("invoices", "invoice", ALL),
    ("loads", "load", ALL),
    ("maintenance", "maintenance", ALL),
    ("tolls", "toll", ALL),
    ("trailers", "trailer", ALL),
    ("trips", "trip", ALL),
    ("trucks", "truck", ALL),
    ("users", "user", ALL),
    ("visibility", "visibility", ALL),
];

/// `GET /v1/me`
pub(crate) async fn me(call: Call) -> Response {
    let bearer = match call.admit("me", false) {
        Ok(bearer) => bearer,
        Err(refusal) => return *refusal,
    };
    let flow = match bearer.scopes {
        Some(_) => "current",
        None => "legacy",
    };
    reply::json(
        StatusCode::OK,
        &json!({
            "ClientId": bearer.client_id,
            "ClientName": bearer.client_name,
            "OrganizationId": bearer.organization_id,
            "TenantId": bearer.tenant,
            "Scopes": bearer.scopes.unwrap_or_default(),
            "Flow": flow,
        }),
    )
}

/// `/api/p/{version}/{resource}`
pub(crate) async fn collection(Path((version, resource)): Path<(String, String)>, call: Call) -> Response {
    answer(&call, &version, &resource, None).unwrap_or_else(|refusal| *refusal)
}

/// `/api/p/{version}/{resource}/{id}`; `POST` to the id `search` is a search
pub(crate) async fn item(Path((version, resource, id)): Path<(String, String, String)>, call: Call) -> Response {
    answer(&call, &version, &resource, Some(&id)).unwrap_or_else(|refusal| *refusal)
}

fn answer(call: &Call, version: &str, resource: &str, id: Option<&str>) -> Result<Response, Box<Response>> {
    let Some(&(_, entity, actions)) = RESOURCES.iter().find(|(path, ..)| *path == resource) else {
        return Err(call.problem(StatusCode::NOT_FOUND, "There is no such resource."));
    };
    check_version(call, version)?;
    let deed = Deed::of(call.method(), id)
        .filter(|deed| actions.contains(&deed.action()))
        .ok_or_else(|| call.wrong_method(&methods(id, actions)))?;
    let bearer = call.admit(resource, matches!(deed, Deed::List | Deed::Search))?;
    call.check_scope(&bearer, entity, deed.action())?;
    let body = match deed {
        Deed::Search | Deed::Create | Deed::Update => call.json_body()?,
        Deed::List | Deed::Read | Deed::Delete => Value::Null,
    };
    match deed {
        Deed::List | Deed::Search => page(call, &body, |number| json!({"Id": item_id(entity, number)})),
        Deed::Create => Ok(reply::json(StatusCode::CREATED, &json!({"Id": item_id(entity, TOTAL + 1)}))),
        Deed::Read | Deed::Update | Deed::Delete => {
            if !id.is_some_and(|id| exists(entity, id)) {
                return Err(call.problem(StatusCode::NOT_FOUND, "There is no item with this id."));
            }
            Ok(match deed {
                Deed::Delete => reply::empty(StatusCode::NO_CONTENT),
                _ => reply::json(StatusCode::OK, &json!({"Id": id})),
            })
        }
    }
}

/// Refuses an unknown version in the path or in the header.
pub(crate) fn check_version(call: &Call, version: &str) -> Result<(), Box<Response>> {
    if !VERSIONS.contains(&version) {
        return Err(call.problem(StatusCode::NOT_FOUND, "There is no such resource."));
    }
    if call.header("api-version").is_some_and(|version| !VERSIONS.contains(&version)) {
        return Err(call.problem(StatusCode::BAD_REQUEST, "There is no such api-version."));
    }
    Ok(())
}

/// The page of items that the query asks for, or the body of a search. Pages count from 0.
pub(crate) fn page(call: &Call, body: &Value, item: impl Fn(u64) -> Value) -> Result<Response, Box<Response>> {
    let page = number(call, "page", body).unwrap_or(0);
    let size = number(call, "pageSize", body).filter(|size| *size > 0).unwrap_or(PAGE_SIZE);
    let skipped = page.saturating_mul(size);
    if skipped >= TOTAL {
        return Err(call.problem(StatusCode::NOT_FOUND, "There is no such page."));
    }
    let last = skipped.saturating_add(size).min(TOTAL);
    let items: Vec<Value> = (skipped + 1..=last).map(item).collect();
    Ok(reply::json(StatusCode::OK, &json!({"Page": page, "PageSize": size, "Total": TOTAL, "Items": items})))
}

fn number(call: &Call, name: &str, body: &Value) -> Option<u64> {
    if let Some(members) = body.as_object() {
        let (_, value) = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        return value.as_u64();
    }
    form_urlencoded::parse(call.query().as_bytes())
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .and_then(|(_, value)| value.parse().ok())
}

/// The methods of a path, as in `Allow`.
fn methods(id: Option<&str>, actions: &[&str]) -> String {
    const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let takes = |method: &Method| Deed::of(method, id).filter(|d| actions.contains(&d.action()));
    let allowed: Vec<String> = METHODS.iter().filter(|method| takes(method).is_some()).map(Method::to_string).collect();
    allowed.join(", ")
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    List,
    Search,
    Read,
    Create,
    Update,
    Delete,
}

impl Deed {
    fn of(method: &Method, id: Option<&str>) -> Option<Self> {
        match (method.as_str(), id) {
            ("GET" | "HEAD", None) => Some(Self::List),
            ("POST", None) => Some(Self::Create),
            ("POST", Some("search")) => Some(Self::Search),
            (_, Some("search")) | (_, None) => None,
            ("GET" | "HEAD", Some(_)) => Some(Self::Read),
            ("PUT" | "PATCH", Some(_)) => Some(Self::Update),
            ("DELETE", Some(_)) => Some(Self::Delete),
            _ => None,
        }
    }

    /// The action in the scope that it needs.
    fn action(self) -> &'static str {
        match self {
            Self::List | Self::Search | Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The id of the item with this number, counted from 1.
pub(crate) fn item_id(entity: &str, number: u64) -> String {
    format!("{entity}-{number}")
}

/// Whether an item of this id is in the list.
pub(crate) fn exists(entity: &str, id: &str) -> bool {
    (1..=TOTAL).any(|number| item_id(entity, number) == id)
}
