//! What is refused before anything is sent, what the refusal says, and what is accepted.

use alvys_auth_core::{Credentials, Encoding, Environment, Error, ErrorKind, Flow, Scope, TokenRequest};

use crate::support::{credentials, request};

mod support;

const PLACEHOLDERS: [&str; 10] = [
    "<client-id>",
    "<>",
    "{client_id}",
    "{}",
    "YOUR_CLIENT_ID",
    "your_client_secret",
    "Your-Tenant-Id",
    "YOUR_",
    "REPLACE_WITH_CLIENT_ID",
    "replace-with-your-secret",
];

fn checked(flow: Flow) -> Result<TokenRequest, Error> {
    TokenRequest::new(flow, credentials())
}

/// A refusal that cannot be retried and whose one line holds `words`.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, words: &str) {
    let error = result.expect_err(words);
    let line = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{line}");
    assert!(!error.is_retryable(), "{line}");
    assert!(line.contains(words), "{line:?} does not say {words:?}");
    assert!(!line.contains(['\n', '\r']), "{line:?} is more than one line");
    assert!(line.ends_with(error.hint()) && !error.hint().is_empty(), "{line:?} does not end in its hint");
    assert!(error.status().is_none() && error.retry_after().is_none() && error.oauth_code().is_none());
}

/// Every way to give one of the checked values, with the name its refusals use.
fn every_value(value: &str) -> [(&'static str, Result<TokenRequest, Error>); 5] {
    let with = |id: &str, secret: &str| TokenRequest::new(Flow::current(), Credentials::new(id, secret)?);
    [
        ("client id", with(value, "s3cret")),
        ("client secret", with("my-client", value)),
        ("tenant", checked(Flow::legacy(value))),
        ("audience", checked(Flow::current().audience(value))),
        ("expected organization", checked(Flow::current().expect_organization(value))),
    ]
}

#[test]
fn an_empty_value_is_refused() {
    for value in ["", " ", "\t", "\n", "\r\n", "\u{a0}\u{2003}"] {
        for (name, result) in every_value(value) {
            assert_refused(result, &format!("the {name} is empty"));
        }
    }
}

#[test]
fn a_trailing_line_break_is_refused_by_name() {
    for value in ["va336\n", "va336\r\n", "va336\r", " va336\n"] {
        for (name, result) in every_value(value) {
            assert_refused(result, &format!("the {name} ends in a line break"));
        }
    }
}

#[test]
fn white_space_around_a_value_is_refused() {
    for value in [" va336", "va336 ", "\tva336", "\nva336", "va336\u{a0}"] {
        for (name, result) in every_value(value) {
            assert_refused(result, &format!("the {name} begins or ends with white space"));
        }
    }
}

#[test]
fn every_shape_of_placeholder_is_refused() {
    for value in PLACEHOLDERS.iter().copied().chain(["YOUR_CLIENT_ID_1"]) {
        for (name, result) in every_value(value) {
            assert_refused(result, &format!("the {name} is still a placeholder"));
        }
    }
}

#[test]
fn what_only_resembles_a_placeholder_is_accepted() {
    for value in [
        "your-client-7",
        "YOURS",
        "yourclient",
        "<open",
        "close>",
        "a{b}",
        "replace_me",
        "🚚",
        "a b",
        "a\nb",
        "x",
        "\"",
    ] {
        for (name, result) in every_value(value) {
            assert!(result.is_ok(), "{name} {value:?}: {result:?}");
        }
    }
}

#[test]
fn quotes_round_a_value_are_refused() {
    for value in ["\"va336\"", "'va336'", "\"\"", "\u{201c}va336\u{201d}", "\"${SECRET}\""] {
        for (name, result) in every_value(value) {
            assert_refused(result, &format!("the {name} is wrapped in quotes; remove the quotes"));
        }
    }
}

#[test]
fn a_reference_that_nobody_resolved_is_refused_by_its_name() {
    for (value, words) in [
        ("@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s/)", "an Azure Key Vault reference"),
        ("@microsoft.keyvault(VaultName=v;SecretName=s)", "managed identity"),
        ("@Microsoft.AppConfiguration(Endpoint=https://c.azconfig.io; Key=k)", "an Azure App Configuration reference"),
        ("${ALVYS_CLIENT_SECRET}", "a variable that was not expanded"),
        ("${ALVYS_CLIENT_SECRET:-}", "a variable that was not expanded"),
        ("${env:SECRET}", "a variable that was not expanded"),
        ("$(ALVYS_CLIENT_SECRET)", "a variable that was not expanded"),
        ("%ALVYS_CLIENT_SECRET%", "a variable that was not expanded"),
        ("$ALVYS_CLIENT_SECRET", "a variable that was not expanded"),
        ("$env:ALVYS_CLIENT_SECRET", "a variable that was not expanded"),
        ("null", "what a program writes in place of a value"),
        ("undefined", "what a program writes in place of a value"),
        ("None", "what a program writes in place of a value"),
        ("[object Object]", "what a program writes in place of a value"),
        ("{{CLIENT_ID}}", "a template that was not filled in"),
        ("{{ .Values.alvys.secret }}", "a template that was not filled in"),
        ("{{resolve:secretsmanager:alvys:SecretString:s}}", "a template that was not filled in"),
        ("${{ secrets.ALVYS }}", "a template that was not filled in"),
        ("#{AlvysSecret}", "a template that was not filled in"),
        ("op://vault/alvys/secret", "a 1Password reference"),
        ("vault:secret/data/alvys#secret", "a HashiCorp Vault reference"),
        ("arn:aws:secretsmanager:us-east-1:1:secret:alvys", "the ARN of an AWS secret"),
        ("arn:aws-us-gov:ssm:us-gov-west-1:1:parameter/alvys", "the ARN of an AWS secret"),
        ("projects/p/secrets/alvys", "a Google Cloud secret"),
        ("projects/1/secrets/alvys/versions/latest", "a Google Cloud secret"),
        ("sm://p/alvys", "a Google Cloud secret"),
        ("ref+awsssm://alvys/secret", "a reference for vals"),
        ("ENC[AES256_GCM,data:YQ==,type:str]", "is encrypted; decrypt"),
        ("$ANSIBLE_VAULT;1.1;AES256", "is encrypted; decrypt"),
        ("/run/secrets/alvys", "the path of a file"),
        ("file:///run/secrets/alvys", "the path of a file"),
    ] {
        for (name, result) in every_value(value) {
            assert!(
                result.as_ref().is_err_and(|error| error.to_string().contains(&format!("the {name} is "))),
                "{value}"
            );
            assert_refused(result, words);
        }
    }
}

#[test]
fn what_only_resembles_a_reference_is_accepted() {
    for value in [
        "$HOME!",
        "pa$$word",
        "$5.00",
        "nullable",
        "undefined1",
        "100%",
        "%",
        "%%",
        "%a!b%",
        "${",
        "${}",
        "$()",
        "a${B}c",
        "{{",
        "op:/x",
        "vaults",
        "arn:aws:s3:::b",
        "projects",
        "projects/p",
        "projects/p/secret/s",
        "secrets/s",
        "#{}",
        "'",
        "it's",
        "'a",
        "ENC",
        "@Microsoft",
    ] {
        for (name, result) in every_value(value) {
            assert!(result.is_ok(), "{name} {value:?}: {result:?}");
        }
    }
}

#[test]
fn a_secret_of_64_printable_characters_is_accepted_however_it_begins_and_ends() {
    let printable: Vec<char> = ('!'..='~').collect();
    for first in &printable {
        for last in &printable {
            // Letters, digits and signs between: what a generator makes, whatever stands at its ends.
            let middle: String = (0..62).map(|at| printable[(at * 37 + 11) % printable.len()]).collect();
            let secret = format!("{first}{middle}{last}");
            assert_eq!(secret.len(), 64);
            assert!(Credentials::new("my-client", secret.as_str()).is_ok(), "{secret}");
        }
    }
}

#[test]
fn a_refused_value_is_never_repeated() {
    for value in [
        "tr0ub4dor\n",
        " tr0ub4dor",
        "<tr0ub4dor>",
        "YOUR_troubador",
        "'tr0ub4dor'",
        "${tr0ub4dor}",
        "{{ tr0ub4dor }}",
        "op://tr0ub4dor",
        "projects/p/secrets/tr0ub4dor",
        "@Microsoft.KeyVault(tr0ub4dor)",
    ] {
        for (_, result) in every_value(value) {
            let error = result.expect_err(value);
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(!shown.contains("tr0ub4dor") && !shown.contains("troubador"), "{shown}");
        }
    }
}

#[test]
fn an_endpoint_that_leaks_or_misleads_is_refused() {
    let unencrypted = "would send secrets unencrypted";
    for (url, words) in [
        ("http://auth.alvys.com/oauth/token", unencrypted),
        ("http://localhost.evil.com/token", unencrypted),
        ("http://127.0.0.1.evil.com/token", unencrypted),
        ("http://localhost./token", unencrypted),
        ("http://0x7f.1/token", "malformed"),
        ("http://127.1/token", "malformed"),
        ("http://2130706433/token", "malformed"),
        ("http://0177.0.0.1/token", "malformed"),
        ("http://0.0.0.0/token", unencrypted),
        ("http://10.0.0.1/token", unencrypted),
        ("http://[::]/token", unencrypted),
        ("http://[fe80::1]/token", unencrypted),
        ("ftp://auth.alvys.com/token", unencrypted),
        ("https://1.2.3.999/token", "malformed"),
        ("https://auth.alvys.com:99999/token", "malformed"),
        ("https://user@auth.alvys.com/token", "user information"),
        ("https://user:word@auth.alvys.com/token", "user information"),
        ("https://auth.alvys.com@evil.com/token", "user information"),
        ("http://localhost@evil.com/token", "user information"),
        ("https://auth.alvys.com/oauth/token#top", "fragment"),
        ("https://auth.alvys.com/oauth/token#", "fragment"),
        ("/oauth/token", "not a full URL"),
        ("auth.alvys.com", "not a full URL"),
        ("auth.alvys.com/oauth/token", "not a URL"),
        ("", "not a URL"),
        ("https://", "not a URL"),
        (" https://auth.alvys.com/oauth/token", "not a URL"),
        ("https://auth.alvys.com/oauth/token\n", "not a URL"),
        ("https://evil.com\\@auth.alvys.com/token", "not a URL"),
        ("https://auth.alvys.com/{tenant_id}/token", "placeholder"),
        ("https://<host>/oauth/token", "placeholder"),
        ("{TOKEN_URL}", "placeholder"),
    ] {
        assert_refused(checked(Flow::current().endpoint(url)), words);
    }
}

#[test]
fn an_endpoint_that_nobody_can_connect_to_is_refused() {
    for url in [
        "https:///oauth/token",
        "https:oauth/token",
        "https://:443/oauth/token",
        "https://auth.alvys.com:/oauth/token",
        "https://auth.alvys.com:0/oauth/token",
        "https://auth.alvys.com:65536/oauth/token",
        "https://auth.alvys.com:https/oauth/token",
        "https://auth%2ealvys.com/oauth/token",
        "https://[::1/oauth/token",
        "https://[alvys]/oauth/token",
        "https://auth.alvys.com,evil.com/oauth/token",
    ] {
        let error = checked(Flow::current().endpoint(url)).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
    }
}

#[test]
fn only_the_tenant_is_filled_into_a_legacy_endpoint() {
    let legacy = |url: &str| checked(Flow::legacy("va336").endpoint(url));
    assert!(legacy("https://gateway.example/{tenant_id}/token").is_ok());
    assert_refused(legacy("https://gateway.example/{tenant}/token"), "placeholder");
    assert_refused(legacy("https://gateway.example/{tenant_id}/{version}"), "placeholder");
    assert_refused(legacy("http://gateway.example/{tenant_id}/token"), "unencrypted");
}

#[test]
fn a_legacy_endpoint_must_name_the_tenant() {
    let legacy = |url: &str| Flow::legacy("va336").endpoint(url);
    assert_refused(checked(legacy("https://gateway.example/token")), "does not contain the tenant");
    assert_refused(checked(legacy("https://gateway.example/ab123/token")), "does not contain the tenant");
    assert!(checked(legacy("https://gateway.example/va336/token")).is_ok());
    assert!(checked(legacy("https://gateway.example/token").tenant_in_body()).is_ok());
}

#[test]
fn plain_http_reaches_this_machine_only() {
    for url in [
        "http://localhost/token",
        "http://LOCALHOST:8080/token",
        "http://127.0.0.1/token",
        "http://127.0.0.1:9/token",
        "http://127.8.8.8:8080/token",
        "http://[::1]/token",
        "http://[::1]:8080/token",
        "http://localhost:8080",
        "https://auth.alvys.com",
        "https://10.0.0.1/token",
        "https://[2001:db8::1]:8443/token?v=1",
    ] {
        let result = checked(Flow::current().endpoint(url));
        assert!(result.is_ok(), "{url}: {result:?}");
    }
}

#[test]
fn a_tenant_cannot_climb_out_of_its_path() {
    for tenant in [".", ".."] {
        assert_refused(checked(Flow::legacy(tenant)), "dots");
    }
    assert!(checked(Flow::legacy("...")).is_ok());
}

#[test]
fn an_option_of_the_current_flow_is_refused_in_the_legacy_one() {
    assert_refused(checked(Flow::legacy("va336").audience("https://api.alvys.com/public/")), "no audience");
    assert_refused(checked(Flow::legacy("va336").scopes([Scope::LOAD_READ])), "no scopes");
    assert_refused(checked(Flow::legacy("va336").environment(Environment::Qa)), "no QA endpoint");
    assert!(checked(Flow::legacy("va336").scopes(Vec::<Scope>::new())).is_ok());
}

#[test]
fn a_malformed_scope_is_refused() {
    for scope in ["", "load:read trip:read", " load:read", "load:read\n", "a\"b", "a\\b", "läd:read", "a\tb"] {
        assert_refused(checked(Flow::current().scopes([scope])), "is not one scope");
        let second = [Scope::LOAD_READ, Scope::from(scope)];
        assert_refused(checked(Flow::current().scopes(second)), "is not one scope");
    }
    for scope in Scope::DOCUMENTED {
        assert!(checked(Flow::current().scopes([scope.clone()])).is_ok(), "{scope}");
    }
}

#[test]
fn only_the_legacy_flow_is_deprecated() {
    assert_eq!(Flow::current().deprecation(), None);
    assert!(Flow::legacy("va336").deprecation().unwrap().contains("2025-07-31"));
    assert_eq!(Flow::current().tenant(), None);
    assert_eq!(Flow::legacy("va336").tenant(), Some("va336"));
}

#[test]
fn debug_shows_everything_but_the_secret() {
    assert_eq!(
        format!("{:?}", credentials()),
        r#"Credentials { client_id: "my-client", client_secret: "[redacted]" }"#
    );
    assert_eq!(
        format!("{:?}", request(Flow::current())),
        "TokenRequest { url: https://auth.alvys.com/oauth/token, \
         flow: Flow { settings: Settings { kind: Current, encoding: Json, environment: Production, endpoint: None, \
         audience: None, scopes: [], rendered: yes }, organization: None }, client_id: \"my-client\" }"
    );
    let error = Credentials::new("", "s3cret").unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "Error { kind: Configuration, \
         message: \"the client id is empty; set it to the value shown on the application's page in Alvys\", \
         retryable: false, source: None }"
    );
}

#[test]
fn flows_that_share_what_they_have_in_common_stay_what_they_are() {
    let own = || Flow::current().endpoint("https://example.com/token").expect_organization("va336");
    let (first, mut other) = (own(), own().expect_organization("AB123"));
    let sent = |flow: &Flow| {
        let http = request(flow.clone()).to_http();
        (http.uri().clone(), http.headers().clone(), http.into_body())
    };
    let before = sent(&other);
    sent(&first);
    other.share(&first);
    assert_eq!((sent(&other), other.expected_organization()), (before.clone(), Some("AB123")));
    assert_ne!(first, other);

    let mut legacy = Flow::legacy("va336");
    let unlike = sent(&legacy);
    legacy.share(&first);
    assert_eq!(sent(&legacy), unlike, "nothing in common");

    let changed = other.clone().encoding(Encoding::Form).endpoint("https://example.com/other");
    assert_eq!(sent(&other), before, "a copy that is changed changes nothing else");
    let (uri, headers, _) = sent(&changed);
    assert_eq!(
        (uri.path(), &headers["content-type"]),
        ("/other", &"application/x-www-form-urlencoded".parse().expect("a value"))
    );
    let back = changed.encoding(Encoding::Json).endpoint("https://example.com/token");
    assert_eq!(sent(&back), before, "and is rendered anew each time");
}
