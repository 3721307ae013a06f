//! The proxies of the environment: which one a URL takes, and why.

use alvys_auth_core::ErrorKind;
use alvys_auth_driver::{Proxies, Scheme};
use http::Uri;

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Proxies::read(move |name| variables.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone()))
}

#[track_caller]
fn way(proxies: &Proxies, url: &str) -> String {
    proxies.way(&url.parse::<Uri>().expect("a URL")).expect("a way").to_string()
}

/// The way of a URL that is no exception.
#[track_caller]
fn leads(variables: &[(&str, &str)]) -> String {
    way(&proxies(variables), "https://auth.alvys.com/oauth/token")
}

const PROXY: (&str, &str) = ("HTTPS_PROXY", "http://proxy:3128");

#[test]
fn the_schemes_variable_counts_before_the_general_one_and_lower_case_first() {
    assert_eq!(leads(&[]), "directly: neither HTTPS_PROXY nor ALL_PROXY is set");
    assert_eq!(leads(&[("ALL_PROXY", "http://all:1")]), "through http://all:1, which ALL_PROXY names");
    assert_eq!(
        leads(&[("all_proxy", "http://all:1"), ("ALL_PROXY", "http://b:2")]),
        "through http://all:1, which all_proxy names"
    );
    assert_eq!(leads(&[("ALL_PROXY", "http://all:1"), PROXY]), "through http://proxy:3128, which HTTPS_PROXY names");
    assert_eq!(leads(&[PROXY, ("https_proxy", "http://low:1")]), "through http://low:1, which https_proxy names");
}

#[test]
fn an_empty_variable_hides_no_other_one() {
    assert_eq!(leads(&[("https_proxy", ""), PROXY]), "through http://proxy:3128, which HTTPS_PROXY names");
    assert_eq!(
        leads(&[("HTTPS_PROXY", " "), ("https_proxy", "low:1")]),
        "through http://low:1, which https_proxy names"
    );
    assert_eq!(
        leads(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://all:1")]),
        "through http://all:1, which ALL_PROXY names"
    );
    let listed = proxies(&[PROXY, ("no_proxy", ""), ("NO_PROXY", "alvys.com")]);
    assert_eq!(way(&listed, "https://auth.alvys.com/"), "directly: NO_PROXY lists alvys.com");
}

#[test]
fn plain_http_takes_no_proxy_and_its_variables_are_not_read() {
    let all = proxies(&[PROXY, ("ALL_PROXY", "http://all:1"), ("HTTP_PROXY", "ftp://x"), ("http_proxy", "ftp://x")]);
    assert_eq!(way(&all, "http://127.0.0.1:8080/oauth/token"), "directly: plain http never takes a proxy");
    assert_eq!(leads(&[("HTTP_PROXY", "http://p:1"), ("http_proxy", "http://p:1")]), leads(&[]));
}

#[test]
fn a_proxy_has_a_scheme_a_port_and_a_user() {
    let cases = [
        ("proxy", Scheme::Http, "proxy", 80, None),
        ("proxy.:3128/", Scheme::Http, "proxy.", 3128, None),
        ("HTTP://Proxy", Scheme::Http, "proxy", 80, None),
        ("https://proxy", Scheme::Https, "proxy", 443, None),
        ("http://[::1]:3128", Scheme::Http, "::1", 3128, None),
        ("http://[::1]", Scheme::Http, "::1", 80, None),
        ("socks4://10.0.0.1", Scheme::Socks4, "10.0.0.1", 1080, None),
        ("socks4a://proxy", Scheme::Socks4a, "proxy", 1080, None),
        ("socks5://proxy:9", Scheme::Socks5, "proxy", 9, None),
        ("socks5h://u:p@my_proxy", Scheme::Socks5h, "my_proxy", 1080, Some(("u", "p"))),
        ("http://DOMAIN\\user:pw@proxy:3128", Scheme::Http, "proxy", 3128, Some(("DOMAIN\\user", "pw"))),
        ("user@proxy:1", Scheme::Http, "proxy", 1, Some(("user", ""))),
        ("http://us%40er:p%3Aw:1@2@proxy", Scheme::Http, "proxy", 80, Some(("us@er", "p:w:1@2"))),
        ("http://user:100%@proxy", Scheme::Http, "proxy", 80, Some(("user", "100%"))),
        ("http://user:p\u{fc}@proxy", Scheme::Http, "proxy", 80, Some(("user", "p\u{fc}"))),
    ];
    for (value, scheme, host, port, user) in cases {
        let proxies = proxies(&[("HTTPS_PROXY", value)]);
        let proxy = proxies.proxy().unwrap_or_else(|| panic!("{value} is understood"));
        assert_eq!((proxy.scheme(), proxy.host(), proxy.port(), proxy.user()), (scheme, host, port, user), "{value}");
    }
}

#[test]
fn the_url_of_a_proxy_escapes_what_could_be_misread() {
    let proxies = proxies(&[("HTTPS_PROXY", "http://DOMAIN\\user:p%2F@[::1]:3128")]);
    assert_eq!(proxies.proxy().expect("a proxy").url(), "http://DOMAIN%5Cuser:p%2F@[::1]:3128");
}

#[test]
fn a_scheme_that_says_too_little_is_told_with_those_to_write() {
    for value in ["socks://proxy:1080", "SOCKS://user:canary@proxy"] {
        let error =
            proxies(&[("ALL_PROXY", value)]).way(&Uri::from_static("https://auth.alvys.com/")).expect_err(value);
        assert!(error.what().starts_with("ALL_PROXY names no proxy that can be used: write its scheme as socks5h, or"));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_the_variable_and_shows_nothing() {
    let values = [
        "http://exa mple:80",
        "http//host",
        "ftp://host",
        "socks://host",
        "socks6://host",
        "://host",
        "http://",
        "http://:3128",
        "http://host:",
        "http://host:0",
        "http://host:65536",
        "http://host:port",
        "http://::1:3128",
        "http://[::1",
        "http://[fe80::1%25eth0]:3128",
        "http://1.2.3:80",
        "http://999.1.1.1:80",
        "http://a..b",
        "http://host/path",
        "http://user:p/canary@host",
        "http://user:p#canary@host",
        "http://user:%FFcanary@host",
        "http://user:canary%0D%0A@host",
        "socks4://canary@host",
        "socks5://canary@host",
        "socks5h://:canary@host",
        "http://h\u{fffd}st",
    ];
    for value in values {
        let proxies = proxies(&[("all_proxy", value)]);
        let error = proxies.way(&Uri::from_static("https://auth.alvys.com/")).expect_err(value);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{value}");
        let told = format!("{error} {error:?} {proxies:?}");
        assert!(told.contains("all_proxy") && !told.contains("canary"), "{value}: {told}");
        assert!(proxies.proxy().is_none(), "{value}");
        assert_eq!(way(&proxies, "http://127.0.0.1/"), "directly: plain http never takes a proxy");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_no_reason_to_take_another_one_or_none() {
    let both = proxies(&[("HTTPS_PROXY", "ftp://host"), ("ALL_PROXY", "http://all:1")]);
    let error = both.way(&Uri::from_static("https://auth.alvys.com/")).expect_err("no way");
    assert!(error.to_string().starts_with("HTTPS_PROXY names no proxy that can be used"), "{error}");
    let listed = proxies(&[("HTTPS_PROXY", "ftp://host"), ("NO_PROXY", "*")]);
    assert_eq!(way(&listed, "https://auth.alvys.com/"), "directly: NO_PROXY lists *");
}

#[test]
fn neither_debug_nor_display_shows_a_password() {
    let proxies = proxies(&[("HTTPS_PROXY", "http://user:canary@proxy")]);
    let url = Uri::from_static("https://auth.alvys.com/");
    let shown =
        format!("{proxies:?} {:?} {} {:?}", proxies.way(&url), proxies.way(&url).expect("a way"), proxies.proxy());
    assert!(!shown.contains("canary") && !shown.contains("user"), "{shown}");
}

#[test]
fn exceptions_are_domains_addresses_and_networks_with_or_without_a_port() {
    let cases: [(&str, &[&str], &[&str]); 15] = [
        (
            "example.com",
            &["example.com", "a.example.com", "a.b.EXAMPLE.com", "example.com.", "example.com:8443"],
            &["badexample.com", "example.com.evil.net", "com"],
        ),
        (".example.com", &["example.com", "a.example.com"], &["badexample.com"]),
        ("*.example.com", &["example.com", "a.example.com"], &["badexample.com"]),
        ("Example.COM.", &["example.com"], &["example.org"]),
        ("example.com:8443", &["example.com:8443", "a.example.com:8443"], &["example.com", "example.com:443"]),
        ("example.com:443", &["example.com", "example.com:443"], &["example.com:8443"]),
        ("*", &["example.com", "10.0.0.1", "[::1]:8443"], &[]),
        ("10.0.0.1", &["10.0.0.1", "10.0.0.1:8443", "[::ffff:10.0.0.1]"], &["10.0.0.10", "a.10.0.0.1.example.com"]),
        ("10.0.0.0/8", &["10.255.255.255"], &["11.0.0.0", "[::a00:1]", "example.com"]),
        ("10.1.2.128/25", &["10.1.2.200"], &["10.1.2.127"]),
        ("0.0.0.0/0", &["8.8.8.8"], &["[2001:db8::1]", "example.com"]),
        ("2001:db8::/32", &["[2001:db8:1::1]"], &["[2001:db9::1]", "32.1.13.184"]),
        ("::1", &["[::1]", "[::1]:8443"], &["[::2]"]),
        ("[::1]:8443", &["[::1]:8443"], &["[::1]"]),
        ("10.0.0.0/33 10.0.0.0/x .. : *.", &[], &["10.0.0.1", "example.com"]),
    ];
    for (list, excepted, proxied) in cases {
        let proxies = proxies(&[PROXY, ("no_proxy", list)]);
        for host in excepted {
            let way = way(&proxies, &format!("https://{host}/path"));
            assert_eq!(way, format!("directly: no_proxy lists {list}"), "{host}");
        }
        for host in proxied {
            assert!(
                way(&proxies, &format!("https://{host}/path")).starts_with("through"),
                "{list} does not list {host}"
            );
        }
    }
}

#[test]
fn exceptions_are_separated_by_commas_and_spaces() {
    let proxies = proxies(&[PROXY, ("NO_PROXY", " a.example ,b.example\tc.example,,  10.0.0.0/8 ")]);
    for (host, entry) in [
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("x.c.example", "c.example"),
        ("10.9.9.9", "10.0.0.0/8"),
    ] {
        assert_eq!(way(&proxies, &format!("https://{host}/")), format!("directly: NO_PROXY lists {entry}"));
    }
    assert!(way(&proxies, "https://d.example/").starts_with("through"));
}
