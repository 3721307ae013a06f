//! Where a token may go, and which URLs are made of a base and a path.

use alvys_auth_core::{Api, CallOptions, Environment, Error, ErrorKind};
use http::{HeaderMap, Method, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::cases;

mod support;

const PRODUCTION: &str = "https://integrations.alvys.com/api/p/v1";

/// Whether a token may go there; a URL that cannot be parsed takes none anywhere.
fn permitted(api: &Api, url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| api.permits(&uri).is_ok())
}

fn configuration_error(result: Result<impl std::fmt::Debug, Error>) -> Error {
    let error = result.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    error
}

#[test]
fn tokens_go_to_the_documented_hosts_and_to_this_machine() {
    for url in [
        "https://integrations.alvys.com/api/p/v1/loads",
        "https://integration.alvys.com/v1/me",
        "https://api.alvys.com/api/p/v1/loads",
        "https://mcp.alvys.com/mcp",
        "https://qaapi.alvys.net/api/p/v1/loads",
        "https://integrations.alvys.com:443/",
        "HTTPS://Integrations.ALVYS.com/",
        "http://localhost:8080/loads",
        "http://LOCALHOST/",
        "https://localhost:1/",
        "http://127.0.0.1/",
        "http://127.255.3.4:65535/",
        "http://[::1]:8080/",
        "http://[0:0:0:0:0:0:0:1]/",
    ] {
        assert!(permitted(&Api::production(), url), "{url}");
    }
}

#[test]
fn tokens_go_nowhere_else_however_the_url_is_spelt() {
    for url in [
        "http://integrations.alvys.com/",
        "http://integrations.alvys.com:443/",
        "https://integrations.alvys.com:8443/",
        "https://integrations.alvys.com:80/",
        "https://integrations.alvys.com:/",
        "https://integrations.alvys.com:0/",
        "https://integrations.alvys.com./",
        "https://integrations.alvys.com.evil.example/",
        "https://evilintegrations.alvys.com/",
        "https://x.integrations.alvys.com/",
        "https://alvys.com/",
        "https://auth.alvys.com/",
        "https://qaapi.alvys.com/",
        "https://evil.example/integrations.alvys.com",
        "https://evil.example?integrations.alvys.com",
        "https://evil.example#@integrations.alvys.com",
        "https://integrations.alvys.com@evil.example/",
        "https://evil.example@integrations.alvys.com/",
        "https://user:secret@integrations.alvys.com/",
        "https://@integrations.alvys.com/",
        r"https://integrations.alvys.com\.evil.example/",
        r"https://evil.example\@integrations.alvys.com/",
        r"https:\\integrations.alvys.com/",
        "https://integrations%2ealvys.com/",
        "https://integrations.alvys.com%2eevil.example/",
        "https://integrations.alvys.com%00.evil.example/",
        "https://integrations.alvys.com%2f.evil.example/",
        "https://integrations。alvys。com/",
        "https://integrations.alvys.com\u{ff0f}.evil.example/",
        "https:///integrations.alvys.com/",
        "ws://integrations.alvys.com/",
        "wss://integrations.alvys.com/",
        "ftp://integrations.alvys.com/",
        "ws://localhost/",
        "http://localhost:0/",
        "//integrations.alvys.com/loads",
        "/api/p/v1/loads",
        "integrations.alvys.com:443",
        "http://localhost.evil/",
        "http://localhost./",
        "http://notlocalhost/",
        "http://user@localhost/",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1.nip.io/",
        "http://127.1/",
        "http://0x7f.0.0.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0.0.0.0/",
        "http://128.0.0.1/",
        "http://[::]/",
        "http://[::2]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1%25lo]/",
        "http://[::1%lo]/",
        "http://[::1].evil.example/",
        "http://[fe80::1%25eth0]/",
        "http://[::1]evil.example/",
    ] {
        assert!(!permitted(&Api::production(), url), "{url}");
    }
}

#[test]
fn a_refused_destination_is_named_with_its_port_and_without_its_secrets() {
    for (url, named) in [
        ("https://files.example.net/pod.pdf?signature=s3cret", "must not go to files.example.net;"),
        ("https://integrations.alvys.com:8443/", "must not go to integrations.alvys.com:8443;"),
        ("http://integrations.alvys.com/", "must not go to integrations.alvys.com over plain http;"),
        ("https://s3cret:s3cret@integrations.alvys.com/", "user information"),
        ("/loads?key=s3cret", "only go to a full http or https URL"),
    ] {
        let error = Api::production().permits(&url.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Destination, "{url}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn another_origin_is_allowed_only_explicitly_and_as_a_whole() {
    let api =
        Api::production().allow("https://Gateway.example.com").unwrap().allow("https://[2001:db8::1]:8443").unwrap();
    for url in [
        "https://gateway.example.com/anything",
        "https://GATEWAY.example.com:443/",
        "https://[2001:DB8::1]:8443/",
        "https://integrations.alvys.com/",
    ] {
        assert!(permitted(&api, url), "{url}");
    }
    for url in [
        "http://gateway.example.com/",
        "http://gateway.example.com:443/",
        "https://gateway.example.com:8443/",
        "https://gateway.example.com.evil.example/",
        "https://[2001:db8::1]/",
        "https://[2001:db8::2]:8443/",
    ] {
        assert!(!permitted(&api, url), "{url}");
    }
    for bad in
        ["http://gateway.example.com", "gateway.example.com", "https://user@gateway.example.com", "https://<host>", ""]
    {
        configuration_error(Api::production().allow(bad));
    }
}

#[test]
fn a_base_of_ones_own_is_allowed_and_the_known_ones_are_documented() {
    let api = Api::at("https://gateway.example.com:8443/alvys/v1/").unwrap();
    assert_eq!(api.base(), "https://gateway.example.com:8443/alvys/v1");
    assert!(permitted(&api, "https://gateway.example.com:8443/"));
    assert!(!permitted(&api, "https://gateway.example.com/"));
    assert_eq!(Api::at("http://127.0.0.1:4000").unwrap().url("loads").unwrap(), "http://127.0.0.1:4000/loads");
    for bad in
        ["http://gateway.example.com", "https://gateway.example.com?x=1", "https://gateway.example.com/?", "/v1", ""]
    {
        configuration_error(Api::at(bad));
    }
    for (api, base) in [
        (Api::production(), PRODUCTION),
        (Api::qa(), "https://qaapi.alvys.net/api/p/v1"),
        (Api::of(Environment::Production), PRODUCTION),
        (Api::of(Environment::Qa), "https://qaapi.alvys.net/api/p/v1"),
    ] {
        assert_eq!(api.base(), base);
        assert!(permitted(&api, base));
    }
}

#[test]
fn a_request_with_an_authorization_of_its_own_is_left_alone() {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Basic eDp5".parse().unwrap());
    for url in [PRODUCTION, "https://elsewhere.example/", "http://elsewhere.example/"] {
        let call = Api::production().call(&Method::GET, &url.parse().unwrap(), &headers, CallOptions::new());
        assert!(call.unwrap().is_none(), "{url}");
    }
    let elsewhere = "https://elsewhere.example/".parse().unwrap();
    let call = Api::production().call(&Method::GET, &elsewhere, &HeaderMap::new(), CallOptions::new());
    assert_eq!(call.unwrap_err().kind(), ErrorKind::Destination);
}

#[test]
fn a_path_is_put_below_the_base_and_a_full_url_taken_as_it_is() {
    let api = Api::production();
    for (path, url) in [
        ("loads", "https://integrations.alvys.com/api/p/v1/loads"),
        ("/loads/4711?page=2&q=a..b", "https://integrations.alvys.com/api/p/v1/loads/4711?page=2&q=a..b"),
        ("/api/p/v1/loads?page=2", "https://integrations.alvys.com/api/p/v1/loads?page=2"),
        ("/api/p/v1", "https://integrations.alvys.com/api/p/v1"),
        ("api/p/v1/", "https://integrations.alvys.com/api/p/v1/"),
        ("/api/p/v1?x=1", "https://integrations.alvys.com/api/p/v1?x=1"),
        ("api/p/v1/loads", "https://integrations.alvys.com/api/p/v1/loads"),
        ("//api/p/v1//loads", "https://integrations.alvys.com/api/p/v1/loads"),
        ("/api/p/v1/api/p/v1/loads", "https://integrations.alvys.com/api/p/v1/api/p/v1/loads"),
        ("?x=1", "https://integrations.alvys.com/api/p/v1/?x=1"),
        ("api/p/v1.5/loads", "https://integrations.alvys.com/api/p/v1/api/p/v1.5/loads"),
        ("/api/p/v1x/loads", "https://integrations.alvys.com/api/p/v1/api/p/v1x/loads"),
        ("loads?from=../x", "https://integrations.alvys.com/api/p/v1/loads?from=../x"),
        ("loads/a..b/.hidden/...", "https://integrations.alvys.com/api/p/v1/loads/a..b/.hidden/..."),
        ("", "https://integrations.alvys.com/api/p/v1/"),
        ("//evil.example/x", "https://integrations.alvys.com/api/p/v1/evil.example/x"),
        ("@evil.example", "https://integrations.alvys.com/api/p/v1/@evil.example"),
        ("/https://evil.example", "https://integrations.alvys.com/api/p/v1/https://evil.example"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ("HTTPS://elsewhere.example/x", "https://elsewhere.example/x"),
    ] {
        assert_eq!(api.url(path).unwrap_or_else(|error| panic!("{path}: {error}")), url, "{path}");
    }
}

#[test]
fn what_clients_spell_in_different_ways_is_percent_encoded() {
    for (path, url) in [
        ("caf\u{e9}?\u{e9}=\u{e9}", "https://integrations.alvys.com/api/p/v1/caf%C3%A9?%C3%A9=%C3%A9"),
        (r"a\b?c\d", "https://integrations.alvys.com/api/p/v1/a%5Cb?c%5Cd"),
        (r#""[]^{|}'?[]'"#, "https://integrations.alvys.com/api/p/v1/%22%5B%5D%5E%7B%7C%7D'?%5B%5D%27"),
        ("a%2fb%5c%zz?a+b&c%20d", "https://integrations.alvys.com/api/p/v1/a%2fb%5c%zz?a+b&c%20d"),
        ("https://elsewhere.example/\u{e9}'?'", "https://elsewhere.example/%C3%A9'?%27"),
    ] {
        assert_eq!(Api::production().url(path).map_err(|error| format!("{path}: {error}")).unwrap(), url);
    }
}

#[test]
fn a_url_inside_of_the_query_does_not_make_a_path_a_full_url() {
    let url = Api::production().url("loads?callback=https://hooks.example.com/x").unwrap();
    assert_eq!(url, "https://integrations.alvys.com/api/p/v1/loads?callback=https://hooks.example.com/x");
}

#[test]
fn a_path_that_leaves_the_base_is_refused() {
    for path in [
        "..",
        "../admin",
        "loads/../../../admin",
        "/./loads",
        "loads/.",
        r"loads\..\..\admin",
        "loads/%2e%2e/admin",
        "loads/.%2E/admin",
        "loads/..?page=2",
        "loads#fragment",
        "loads/..#",
        "https://elsewhere.example/../x",
        "https://elsewhere.example/x/%2E%2e",
    ] {
        let error = configuration_error(Api::production().url(path));
        assert!(error.to_string().contains("leaves the API base, or has a fragment"), "{path}: {error}");
    }
    for path in [
        "loads/a b",
        "loads/\t..",
        "loads/\r\nX: y",
        "http://elsewhere.example/",
        "https://u@elsewhere.example/",
        "x://y",
    ] {
        configuration_error(Api::production().url(path));
    }
}

#[test]
fn an_escaped_slash_does_not_hide_a_way_out_of_the_base() {
    for path in [
        "loads/..%2f..%2fadmin",
        "loads%2F%2e%2e%2Fadmin",
        "..%5c..%5cadmin",
        "loads/x%2f..",
        "loads/%252e%252e%252fadmin",
        "loads/%25252e%25252e/admin",
        "loads/..;/admin",
        "loads/..%3bx=1/admin",
        "loads/%2e%2e%00/admin",
        "loads/..%09/admin",
        "loads/x%255c..%255cadmin",
        &format!("loads/%{}2e/admin", "25".repeat(40)),
        "loads/.%20./admin",
        "loads/%20.%09.%20/admin",
        "loads/%uff0e%uff0e/admin",
        "loads/%U002E%u002e%u002fadmin",
        "loads/.%uFF0E%uff3cadmin",
        "loads/%EF%BC%8E%ef%bc%8e%ef%bc%8fadmin",
        "loads/\u{ff0e}\u{2024}/admin",
        "loads/..\u{ff3c}..\u{ff0f}admin",
        "loads/%c0%ae%C0%AE%c0%afadmin",
        "loads/%c0%ae.%c1%9cadmin",
        "loads/%25uff0e./admin",
    ] {
        configuration_error(Api::production().url(path));
        let full = format!("https://integrations.alvys.com/api/p/v1/{path}");
        assert!(!permitted(&Api::production(), &full), "{full}");
    }
    for path in ["loads/a%5cb", "loads/a%2F%5Cb", "loads/a%uff0eb", "loads/a.%20.b", "loads/.%20.%20.", "loads/%2fa"] {
        assert!(Api::production().url(path).is_ok(), "{path}");
        assert!(permitted(&Api::production(), &format!("https://integrations.alvys.com/api/p/v1/{path}")), "{path}");
    }
    for path in ["loads/a%2fb", "loads/..a;..", "loads/100%25", "loads/x.y", "loads?path=%2e%2e%2f..;/../"] {
        let url = Api::production().url(path).unwrap();
        assert!(Api::production().permits(&url).is_ok(), "{path}");
    }
}

#[test]
fn an_address_in_brackets_is_not_followed_by_another_host() {
    for url in ["https://[::1]integrations.alvys.com:443/", "http://[::1]evil.example:80/"] {
        assert!(!permitted(&Api::production(), url), "{url}");
        configuration_error(Api::at(url));
    }
}

/// Pieces of a URL that are easily mistaken for one another.
fn url() -> impl Strategy<Value = String> {
    let pieces = r"integrations.alvys.com qaapi.alvys.net INTEGRATION.alvys.com localhost 127.0.0.1 [::1] evil.example user \
        @ : . / \ ? # [ ] - ; é %2f %2e %40 %00 :443 :80 :8443 :0443";
    let schemes = r"https:// http:// HTTPS:// https:/ https:\\ //";
    let any_of = |words: &'static str| select(words.split_whitespace().collect::<Vec<_>>());
    (any_of(schemes), vec(any_of(pieces), 1..6)).prop_map(|(scheme, pieces)| scheme.to_owned() + &pieces.concat())
}

/// Where the most lenient reader of URLs would send this: scheme, host and port, no user information.
fn read_leniently(url: &str) -> Option<(String, String, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '\\', '?', '#']).next()?.to_lowercase();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host.to_owned(), Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    Some((scheme.to_lowercase(), host, port))
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn no_spelling_takes_a_token_to_a_host_that_is_not_allowed(url in url()) {
        if permitted(&Api::production(), &url) {
            let (scheme, host, port) = read_leniently(&url).expect("what is permitted is a URL");
            let documented = ["integrations.alvys.com", "integration.alvys.com", "qaapi.alvys.net"].contains(&host.as_str());
            let here = ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str());
            prop_assert!(here || documented && scheme == "https" && port.is_none_or(|port| port == 443), "{}", url);
        }
    }

    #[test]
    fn no_path_leaves_the_base(
        pieces in vec(select(r"/ \ . .. %2e %2F %5c ? # @ : x :// https: evil.example é api/p/v1".split(' ').collect::<Vec<_>>()), 0..9),
    ) {
        let path = pieces.concat();
        if let Ok(url) = Api::production().url(&path) {
            let url = url.to_string();
            let full = path.starts_with("https://");
            let rest = url.strip_prefix(PRODUCTION).unwrap_or("elsewhere");
            prop_assert!(full || rest.is_empty() || rest.starts_with(['/', '?']), "{} became {}", path, url);
            let below = url.split('?').next().unwrap_or_default().to_lowercase();
            let below = below.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
            prop_assert!(full || !below.split('/').any(|segment| segment == ".." || segment == "."), "{}", url);
        }
    }
}
