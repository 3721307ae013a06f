//! What a path tells: its name, its scope, and whether it lists.

use alvys_auth_core::{Endpoint, Scope};
use http::{Method, Uri};
use proptest::prelude::*;

use crate::support::cases;

mod support;

fn endpoint(method: &str, url: &str) -> Endpoint {
    Endpoint::of(&method.parse::<Method>().expect("a method"), &url.parse::<Uri>().expect("a URL"))
}

#[test]
fn an_endpoint_is_named_by_method_and_path_without_its_ids() {
    let base = "https://integrations.alvys.com/api/p";
    for (method, path, name) in [
        ("GET", "/v1/loads", "GET loads"),
        ("GET", "/v1/Loads/", "GET loads"),
        ("GET", "/V1/loads?page=2", "GET loads"),
        ("GET", "/1/loads", "GET loads"),
        ("GET", "/1.0/loads", "GET loads"),
        ("GET", "/v2.0/loads", "GET loads"),
        ("HEAD", "//v1//loads", "HEAD loads"),
        ("GET", "/v1/loads/4711", "GET loads/{id}"),
        ("GET", "/v1/loads/5", "GET loads/{id}"),
        ("GET", "/v1/loads/v2", "GET loads/{id}"),
        ("GET", "/v1/loads/L-77/notes/9f3b", "GET loads/{id}/notes/{id}"),
        ("GET", "/v1/loads/abcdefghijklmnopqrstuvwxyzabcdefghijklmnop", "GET loads/{id}"),
        (
            "GET",
            "/v1/loads/abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
            "GET loads/abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
        ),
        ("POST", "/v1/loads/Search", "POST loads/search"),
        ("PATCH", "/v1", "PATCH "),
    ] {
        assert_eq!(endpoint(method, &format!("{base}{path}")).name(), name, "{path}");
    }
    // No version: the whole path counts. What has too many digits or too large a number is no version.
    for (url, name) in [
        ("http://localhost/health", "GET health"),
        ("http://localhost/loads/4711", "GET loads/{id}"),
        ("http://localhost/loads/256", "GET loads/{id}"),
        ("http://localhost/loads/12/notes", "GET loads/{id}/notes"),
        ("http://localhost/alvys/v1/loads", "GET loads"),
        ("http://localhost/loads/1.2.3", "GET loads/{id}"),
        ("http://localhost/loads/v", "GET loads/v"),
        ("http://localhost/", "GET "),
    ] {
        assert_eq!(endpoint("GET", url).name(), name, "{url}");
    }
}

#[test]
fn the_scope_follows_from_resource_and_method() {
    for (method, path, scope) in [
        ("GET", "loads", Some(Scope::LOAD_READ)),
        ("HEAD", "loads/4711", Some(Scope::LOAD_READ)),
        ("GET", "Loads", Some(Scope::LOAD_READ)),
        ("GET", "load", Some(Scope::LOAD_READ)),
        ("POST", "loads", Some(Scope::LOAD_CREATE)),
        ("PUT", "loads/4711", Some(Scope::LOAD_UPDATE)),
        ("PATCH", "loads/4711", Some(Scope::LOAD_UPDATE)),
        ("DELETE", "loads/4711", Some(Scope::LOAD_DELETE)),
        ("POST", "loads/search", Some(Scope::LOAD_READ)),
        ("POST", "trips/4711/SEARCH", Some(Scope::TRIP_READ)),
        ("PUT", "loads/search", Some(Scope::LOAD_UPDATE)),
        ("GET", "fuel", Some(Scope::FUEL_READ)),
        ("PATCH", "dispatch/4711", Some(Scope::DISPATCH_UPDATE)),
        ("POST", "dispatch", None),
        ("PATCH", "deductions/1", None),
        ("GET", "maintenance", Some(Scope::MAINTENANCE_READ)),
        ("GET", "visibility", Some(Scope::VISIBILITY_READ)),
        ("OPTIONS", "loads", None),
        ("TRACE", "loads", None),
        ("GET", "parrots", None),
        ("GET", "s", None),
        ("GET", "loadss", None),
        ("GET", "me", None),
        ("GET", "4711/loads", None),
        ("GET", "", None),
    ] {
        let endpoint = endpoint(method, &format!("https://integrations.alvys.com/api/p/v1/{path}"));
        assert_eq!(endpoint.scope(), scope.as_ref(), "{method} {path}");
    }
}

#[test]
fn a_search_or_a_collection_is_a_list() {
    for (method, path, list) in [
        ("GET", "/api/p/v1/loads", true),
        ("HEAD", "/v1/loads", true),
        ("POST", "/v1/loads/search", true),
        ("POST", "/loads/search", true),
        ("GET", "/v1/loads/search", false),
        ("GET", "/v1/loads/4711", false),
        ("GET", "/v1/loads/4711/notes", false),
        ("POST", "/v1/loads", false),
        ("POST", "/v1/search/loads", false),
        ("DELETE", "/v1/loads", false),
        ("GET", "/v1/me", false),
        ("GET", "/v1", false),
        ("GET", "/health", false),
    ] {
        assert_eq!(endpoint(method, &format!("https://api.alvys.com{path}")).is_list(), list, "{method} {path}");
    }
}

#[test]
fn me_is_no_list_in_any_case() {
    assert!(!endpoint("GET", "https://api.alvys.com/v1/Me").is_list());
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn every_path_has_a_name_without_digits(path in "(/[a-zA-Z0-9.%~-]{0,50}){0,6}", method in "[A-Z]{1,9}") {
        if let Ok(uri) = format!("https://api.alvys.com{path}").parse::<Uri>() {
            let endpoint = Endpoint::of(&method.parse().unwrap(), &uri);
            prop_assert!(!endpoint.name().bytes().any(|byte| byte.is_ascii_digit()), "{}", endpoint.name());
            prop_assert!(endpoint.scope().is_none_or(|scope| Scope::DOCUMENTED.contains(scope)));
        }
    }
}
