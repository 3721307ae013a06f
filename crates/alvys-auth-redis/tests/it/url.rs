//! What a URL may say, and that no error and no Debug repeats a password.

use alvys_auth_core::{Error, ErrorKind};
use alvys_auth_redis::RedisStore;
use proptest::prelude::*;

fn shown(url: &str) -> String {
    format!("{:?}", RedisStore::new(url).unwrap_or_else(|error| panic!("{url}: {error}")))
}

fn refused(url: &str) -> Error {
    RedisStore::new(url).expect_err(url)
}

#[test]
fn each_way_to_name_a_store_is_understood() {
    for (url, address) in [
        ("redis://host", "redis://host:6379"),
        ("redis://host/", "redis://host:6379"),
        ("redis://host:7000/3", "redis://host:7000/3"),
        ("valkey://127.0.0.1", "redis://127.0.0.1:6379"),
        ("redis://[::1]:7000", "redis://[::1]:7000"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("rediss://host", "rediss://host:6379"),
        ("valkeys://host", "rediss://host:6379"),
        ("redis+cluster://a,b:7001,c", "redis+cluster://a:6379,b:7001,c:6379"),
        ("rediss+cluster://a", "rediss+cluster://a:6379"),
        ("redis+sentinel://a,b:26380/alvys", "redis+sentinel://a:26379,b:26380/alvys"),
        ("rediss+sentinel://a/alvys/2", "rediss+sentinel://a:26379/alvys/2"),
        ("redis://user:p%40ss%2Fword@host", "redis://host:6379"),
        ("redis://:p@ss@host", "redis://host:6379"),
    ] {
        assert_eq!(shown(url), format!("RedisStore {{ url: {address}, prefix: \"\", .. }}"), "{url}");
    }
    assert!(shown("redis://host?prefix=staging:").contains("prefix: \"staging:\""));
}

#[test]
fn a_wrong_url_is_told_with_what_to_write() {
    for (url, what) in [
        ("", "has no scheme"),
        ("localhost:6379", "has no scheme"),
        ("http://host", "has an unknown scheme"),
        ("redis+ring://host", "has an unknown scheme"),
        ("redis://", "has no host"),
        ("redis://:6379", "has no host"),
        ("redis://a b", "has no host, or one that cannot be one"),
        ("redis+cluster://a,,b", "has no host"),
        ("redis://host:port", "has a port that is not a number"),
        ("redis://host:99999", "has a port that is not a number"),
        ("redis://host/first", "has a database that is not a number"),
        ("redis://a,b", "names several servers"),
        ("redis+cluster://a/1", "names a database of a cluster"),
        ("redis+sentinel://a", "names no service"),
        ("redis+sentinel://a/0/1/2", "has a database that is not a number"),
        ("redis://user@host", "has a user and no password"),
        ("redis://:%ff@host", "is not UTF-8"),
        ("redis://:pass#word@host", "contains the character #"),
        ("redis://:pass/word@host", "contains an @ after the first slash"),
        ("redis://host?prefx=a", "has an unknown setting"),
        ("redis://host?sentinel-user=a", "has an unknown setting"),
        ("redis://host?prefix=a&prefix=b", "has a setting twice"),
        ("redis://host?prefix={a}", "has a prefix with characters that are not allowed"),
        ("redis://host?cert=Cargo.toml&key=Cargo.toml", "has certificates and no TLS"),
        ("rediss://host?cert=Cargo.toml", "has one of cert and key only"),
    ] {
        let error = refused(url);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.what().contains(what), "{url}: {error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_holds_no_certificate_is_named() {
    let error = refused("rediss://host?ca=/nowhere/ca.pem");
    assert!(error.to_string().contains("/nowhere/ca.pem") && error.to_string().contains("setting ca"), "{error}");
    let error = refused("rediss://host?ca=Cargo.toml");
    assert!(error.to_string().contains("has no certificate"), "{error}");
    let error = refused("rediss://host?cert=Cargo.toml&key=Cargo.toml");
    assert!(error.to_string().contains("certificate"), "{error}");
}

proptest! {
    /// Wherever a password that is not encoded takes the URL apart.
    #[test]
    fn no_error_and_no_debug_repeats_a_password(
        scheme in "redis|rediss|redis\\+cluster|redis\\+sentinel|http",
        user in "[a-z]{0,4}",
        password in "([:/?#@,&=%+ \\[\\]{}.]|QZ|[0-9]){1,12}QZ([:/?#@,&=%+ \\[\\]{}.]|QZ|[0-9]){0,12}",
        rest in "@host|@host:6379/0|@a,b/alvys|@host\\?prefix=x",
    ) {
        // The other way to give one is as the sentinels' password.
        for url in [
            format!("{scheme}://{user}:{password}{rest}"),
            format!("redis+sentinel://host/alvys?sentinel-password={password}"),
        ] {
            let told = match RedisStore::new(&url) {
                Ok(store) => format!("{store:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!told.contains("QZ"), "{}: {}", url, told);
        }
    }
}
