//! What the path of a call shows: the scope that the call needs, and the rate limit that it counts against.

use http::{Method, Uri};

use crate::Scope;

/// An endpoint of the API, read from the method and the path of a call.
///
/// ```
/// use alvys_auth_core::Endpoint;
/// use http::{Method, Uri};
///
/// let endpoint = Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads/4711/notes"));
/// assert_eq!(endpoint.name(), "GET loads/{id}/notes");
/// assert_eq!(endpoint.scope().unwrap().as_str(), "load:read");
/// assert!(!endpoint.is_list());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    name: String,
    scope: Option<Scope>,
    list: bool,
}

impl Endpoint {
    /// Reads the endpoint from the method and the path. The path's prefix up to the version, such as `/api/p/v1`, is ignored.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let version = (0..segments.len()).find(|at| is_version(&segments, *at));
        let path = segments.get(version.map_or(0, |at| at + 1)..).unwrap_or_default();
        let named: Vec<&str> = path.iter().map(|segment| if is_id(segment) { "{id}" } else { segment }).collect();
        let search = *method == Method::POST && named.last().is_some_and(|last| last.eq_ignore_ascii_case("search"));
        let reads = search || matches!(*method, Method::GET | Method::HEAD);
        Self {
            name: format!("{method} {}", named.join("/").to_ascii_lowercase()),
            scope: named.first().and_then(|resource| scope(resource, method, reads)),
            list: search
                || reads && version.is_some() && matches!(named[..], [only] if !only.eq_ignore_ascii_case("me")),
        }
    }

    /// The method and the path, with `{id}` in place of ids. Rate limits count calls by this name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scope that the endpoint most likely needs. None when the documents of Alvys do not tell.
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Whether the endpoint lists or searches items. Alvys documents lower rate limits for those.
    pub fn is_list(&self) -> bool {
        self.list
    }
}

/// Whether the segment is a version: `v1`, `1`, `1.0` or `2.0`. A bare number is one only where it cannot be an id.
fn is_version(segments: &[&str], at: usize) -> bool {
    let Some(segment) = segments.get(at) else { return false };
    let marked = segment.starts_with(['v', 'V']);
    let number = if marked { segment.get(1..).unwrap_or_default() } else { segment };
    let placed =
        at.checked_sub(1).and_then(|before| segments.get(before)).is_none_or(|before| matches!(*before, "api" | "p"));
    let numeric = number.split('.').all(|part| part.parse::<u8>().is_ok());
    numeric && number.len() <= 4 && (marked || placed)
}

/// Whether the segment is the id of an item: it contains a digit, or it is too long for the name of a resource.
fn is_id(segment: &str) -> bool {
    segment.bytes().any(|byte| byte.is_ascii_digit()) || segment.len() > 40
}

/// The scope for a resource: `loads` needs `load:…`. `fuel`, `dispatch`, `maintenance` and `visibility` have no plural.
fn scope(resource: &str, method: &Method, reads: bool) -> Option<Scope> {
    let action = match *method {
        _ if reads => "read",
        Method::POST => "create",
        Method::PUT | Method::PATCH => "update",
        Method::DELETE => "delete",
        _ => return None,
    };
    let resource = resource.to_ascii_lowercase();
    [resource.as_str(), resource.strip_suffix('s').unwrap_or_default()]
        .into_iter()
        .map(|entity| format!("{entity}:{action}"))
        .find_map(|name| Scope::DOCUMENTED.iter().find(|scope| scope.as_str() == name).cloned())
}
