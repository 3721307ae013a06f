//! The end of a proxy.

use std::time::{Duration, Instant};

use alvys_auth_proxy::Settings;
use alvys_auth_sandbox::{Fault, Route};
use tokio::net::TcpStream;

use crate::stage::Stage;

const LOADS: &str = "/api/p/v1/loads";

#[tokio::test]
async fn calls_under_way_are_finished_and_no_others_begun() {
    let stage = Stage::start().await;
    stage.tokens.token().await.unwrap();
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::from_millis(500)).once());
    let idle = TcpStream::connect(stage.address()).await.unwrap();
    let slow = tokio::spawn(stage.get(LOADS).send());
    let events = stage.post("/mcp").body(r#"{"events":5,"interval_ms":150}"#).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let Stage { running, sandbox, .. } = stage;
    let address = running.address();
    let stopped = tokio::spawn(running.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody else is let in");
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("load-1"));
    assert_eq!(events.text().await.unwrap().matches("data: ").count(), 5, "streams come to their end");
    assert_eq!(stopped.await.unwrap(), 0);
    drop((idle, sandbox));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let stage = Stage::with(Settings::new().drain_for(Duration::from_millis(300))).await;
    let mut events = stage.post("/mcp").body(r#"{"events":1000,"interval_ms":100}"#).send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    let began = Instant::now();
    let Stage { running, sandbox, .. } = stage;
    assert_eq!(running.stop().await, 1);
    assert!((250..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    while let Ok(Some(_)) = events.chunk().await {}
    drop(sandbox);
}
