//! Several tenants behind one proxy.

use std::collections::HashMap;

use alvys_auth_proxy::{Api, Error, Limit, NotServed, PerTenant, RateLimits, Settings};
use alvys_auth_sandbox::{Application, Fault, Sandbox};

use crate::stage::{Running, Stage, client, problem, tokens};

const LOADS: &str = "/api/p/v1/loads";

struct Two {
    sandbox: Sandbox,
    url: String,
    _running: Running,
}

async fn two() -> Two {
    within(None).await
}

async fn within(limits: Option<RateLimits>) -> Two {
    let sandbox = Sandbox::start().unwrap();
    let applications = ["AB123", "va336"].map(|tenant| Application::new(format!("app-{tenant}"), "s3cret", tenant));
    let sources: HashMap<String, _> = applications
        .into_iter()
        .map(|application| {
            sandbox.add(application.clone());
            (application.tenant().to_owned(), tokens(&sandbox, &application))
        })
        .chain([("refused".to_owned(), tokens(&sandbox, &Application::new("app-AB123", "another", "AB123")))])
        .collect();
    let accounts = PerTenant::new(move |tenant| {
        let found = match tenant.as_str() {
            "broken" => Err(Error::timed_out("the credentials did not arrive in time").into()),
            "unset" => Err(Error::configuration("there are no credentials", "set them").into()),
            "gone" => Err(Error::unknown_tenant("gone").into()),
            _ => sources.get(&tenant).cloned().ok_or(NotServed::Unknown),
        };
        async { found }
    });
    let settings = Settings::new().mcp(sandbox.mcp_url()).hand_out_tokens();
    let api = Api::at(&sandbox.api_url()).unwrap().patience(std::time::Duration::ZERO);
    let running = Running::start(accounts.limits(limits), api, settings).await;
    Two { sandbox, url: format!("http://{}", running.address()), _running: running }
}

impl Two {
    fn last_tenant(&self) -> String {
        let requests = self.sandbox.requests();
        let header = requests.last().unwrap().header("authorization").unwrap().to_owned();
        let claims = header.split('.').nth(1).unwrap();
        let json = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&json).unwrap();
        claims["org_name"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn each_tenant_has_its_own_token() {
    let two = two().await;
    for tenant in ["AB123", "va336", "AB123"] {
        let answer = client().get(format!("{}/t/{tenant}{LOADS}?page=0", two.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(two.last_tenant(), tenant);
        let received = two.sandbox.requests().pop().unwrap();
        assert_eq!((received.path(), received.query()), (LOADS, Some("page=0")));

        let answer = client().get(format!("{}{LOADS}", two.url)).header("x-alvys-tenant", tenant).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(two.last_tenant(), tenant);
        assert_eq!(two.sandbox.requests().pop().unwrap().header("x-alvys-tenant"), None);
    }
    assert_eq!(two.sandbox.tokens_issued(), 2);
}

#[tokio::test]
async fn everything_is_there_below_the_prefix() {
    let two = two().await;
    let url = format!("{}/t/va336", two.url);
    let mcp = client().post(format!("{url}/mcp")).header("content-type", "application/json").body(r#"{"events":1}"#);
    assert_eq!(mcp.send().await.unwrap().status(), 200);
    assert_eq!(two.last_tenant(), "va336");
    let token = client().get(format!("{url}/token")).header("x-alvys-token-request", "true").send().await.unwrap();
    assert_eq!(token.status(), 200);
    assert_eq!(client().get(format!("{url}/healthz")).send().await.unwrap().status(), 200);
    two.sandbox.inject_at(LOADS, Fault::redirect(303, format!("{}/load-1", two.sandbox.api_url())).once());
    let answer = client().get(format!("{url}{LOADS}")).send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/t/va336/api/p/v1/load-1");
}

#[tokio::test]
async fn nobody_gets_the_token_of_another_tenant() {
    let two = two().await;
    let status = |path: String, header: Option<&'static str>| {
        let mut request = client().get(format!("{}{path}", two.url)).header("x-alvys-token-request", "true");
        if let Some(tenant) = header {
            request = request.header("x-alvys-tenant", tenant);
        }
        async move { problem(request.send().await.unwrap()).await.0 }
    };
    for path in [LOADS, "/mcp", "/token"] {
        assert_eq!(status(path.to_owned(), None).await, 400, "no tenant: {path}");
        assert_eq!(status(format!("/t/zz999{path}"), None).await, 404, "an unknown one: {path}");
        assert_eq!(status(path.to_owned(), Some("zz999")).await, 404);
        assert_eq!(status(path.to_owned(), Some("VA336")).await, 404, "names are taken as they are");
        assert_eq!(status(format!("/t/va336{path}"), Some("AB123")).await, 400, "two of them");
        for bad in ["", "va%33%336", "a*b", &"x".repeat(65)] {
            assert_eq!(status(format!("/t/{bad}{path}"), None).await, 400, "{bad}");
        }
        for bad in ["", "a/b", "va336 AB123"] {
            assert_eq!(status(path.to_owned(), Some(bad)).await, 400, "{bad}");
        }
    }
    let twice =
        client().get(format!("{}{LOADS}", two.url)).header("x-alvys-tenant", "va336").header("x-alvys-tenant", "va336");
    assert_eq!(problem(twice.send().await.unwrap()).await.0, 400);
    assert_eq!(status("/t/va336".to_owned(), None).await, 400);
    assert_eq!(status(format!("/t/broken{LOADS}"), None).await, 504);
    assert_eq!(status(format!("/t/unset{LOADS}"), None).await, 500, "known, and set up wrongly");
    assert_eq!(status(format!("/t/gone{LOADS}"), None).await, 404);
    assert!(two.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_for_one_application_takes_no_tenant() {
    let stage = Stage::start().await;
    assert_eq!(problem(stage.get(&format!("/t/va336{LOADS}")).send().await.unwrap()).await.0, 404);
    let named = stage.get(LOADS).header("x-alvys-tenant", "va336").send().await.unwrap();
    assert_eq!(problem(named).await.0, 404);
    assert!(stage.received().is_empty());
}

#[tokio::test]
async fn the_pages_tell_of_every_tenant_in_use() {
    let two = two().await;
    assert_eq!(client().get(format!("{}/readyz", two.url)).send().await.unwrap().status(), 200);
    client().get(format!("{}/t/AB123{LOADS}", two.url)).send().await.unwrap();
    let page = client().get(format!("{}/status", two.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("AB123") && !page.contains("va336"), "{page}");
    let metrics = client().get(format!("{}/metrics", two.url)).send().await.unwrap().text().await.unwrap();
    let expiry = metrics.lines().find_map(|line| line.strip_prefix("alvys_proxy_token_expiry_seconds ")).unwrap();
    assert!(expiry.parse::<f64>().unwrap() > 3000.0, "{expiry}");
    assert!(!metrics.contains("AB123"), "tenants are no labels");
}

#[tokio::test]
async fn each_tenant_is_ready_or_not_and_the_page_says_why() {
    let two = two().await;
    for (tenant, expected) in [("AB123", 200), ("refused", 503), ("broken", 503), ("gone", 404), ("nobody", 404)] {
        let answer = client().get(format!("{}/t/{tenant}/readyz", two.url)).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{tenant}");
        let named = client().get(format!("{}/readyz", two.url)).header("x-alvys-tenant", tenant).send().await.unwrap();
        assert_eq!(named.status(), expected, "{tenant}");
    }
    let all = client().get(format!("{}/readyz", two.url)).send().await.unwrap();
    assert_eq!(all.status(), 200, "those that are in trouble do not stand for all");
    let page = client().get(format!("{}/status", two.url)).send().await.unwrap().text().await.unwrap();
    for row in [
        "AB123</th><td>usable for",
        "refused</th><td>none is held; ",
        "broken</th><td>cannot be served: the credentials did not arrive in time",
    ] {
        assert!(page.contains(row), "{row} is not in {page}");
    }
    assert!(page.contains("last failure: the token endpoint refused"), "{page}");
    assert!(!page.contains("nobody") && !page.contains("gone") && !page.contains("va336"), "{page}");
}

#[tokio::test]
async fn each_tenant_has_its_own_rate_limits() {
    let limit = Limit::new(1, std::time::Duration::from_secs(60));
    let two = within(Some(RateLimits::none().lists([limit]))).await;
    for (tenant, expected) in [("AB123", 200), ("AB123", 429), ("va336", 200), ("va336", 429), ("AB123", 429)] {
        let answer = client().get(format!("{}/t/{tenant}{LOADS}", two.url)).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{tenant}");
    }
}

#[tokio::test]
async fn the_status_page_counts_the_calls_of_each_tenant() {
    let two = within(Some(RateLimits::published())).await;
    for tenant in ["AB123", "va336"] {
        client().get(format!("{}/t/{tenant}{LOADS}", two.url)).send().await.unwrap();
    }
    let page = client().get(format!("{}/status", two.url)).send().await.unwrap().text().await.unwrap();
    for tenant in ["AB123", "va336"] {
        let row = format!("{tenant}</th><td>GET loads</td><td>1</td><td>5 in 60s, 1 in 1s</td><td>0</td>");
        assert!(page.contains(&row), "{row} is not in {page}");
    }
}
