//! One of many processes that share a token: `sharing <driver> <token url> <client id> <store>`, where the store is a URL of a
//! server, a directory, or a hyphen for none. Gets a token once its input says so, and prints after how many microseconds.

use std::env;
use std::sync::Arc;
use std::time::Instant;

use alvys_auth_core::{Credentials, Flow};
use alvys_auth_redis::RedisStore;
use alvys_auth_reqwest::Blocking;
use alvys_auth_store::{FileStore, Sealed};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [driver, url, client_id, store] = arguments.as_slice() else { panic!("four arguments") };
    let flow = Flow::current().endpoint(url);
    let credentials = Credentials::new(client_id, "s3cret").expect("acceptable credentials");
    let (network, none) = (store.contains("://"), store == "-");
    let redis = || RedisStore::new(store).expect("a store");
    let files = || FileStore::new(store).expect("a store");
    if driver == "reqwest" {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let builder = alvys_auth_reqwest::TokenSource::builder(flow, credentials);
        let builder = match (none, network) {
            (true, _) => builder,
            (_, true) => builder.store(Arc::new(Sealed::new(redis()))),
            (_, false) => builder.store(Arc::new(Blocking::new(Sealed::new(files())))),
        };
        let source = builder.build().expect("a source");
        told(|| drop(runtime.block_on(source.token()).expect("a token")));
    } else {
        let builder = alvys_auth_ureq::TokenSource::builder(flow, credentials);
        let builder = match (none, network) {
            (true, _) => builder,
            (_, true) => builder.store(Arc::new(Sealed::new(redis()))),
            (_, false) => builder.store(Arc::new(Sealed::new(files()))),
        };
        let source = builder.build().expect("a source");
        told(|| drop(source.token().expect("a token")));
    }
}

/// Says that it is ready, and what the work takes once it is to begin.
fn told(work: impl FnOnce()) {
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).expect("a line");
    let started = Instant::now();
    work();
    println!("{}", started.elapsed().as_micros());
}
