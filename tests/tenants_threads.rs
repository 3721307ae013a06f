//! The threads of background renewal, which are counted; alone in its process, so that they are its own.
#![cfg(target_os = "linux")]

use std::fs;

use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::{Settings, eventually};
use alvys_auth_ureq::Tenants;

/// How many threads of this process renew tokens; the system keeps the first 15 characters of a name.
fn workers() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("the threads of this process").flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("alvys-auth-rene")).count()
}

#[test]
fn as_many_threads_as_asked_for_end_with_the_tenants() {
    let sandbox = Sandbox::start().expect("a sandbox");
    let Settings { flow, credentials, .. } = Settings::current(&sandbox);
    let provider = move |_: &str| Ok(Some((flow.clone(), credentials.clone())));
    let tenants = Tenants::builder(provider).without_organization_guard().renew_in_background(3).build();
    assert_eq!(workers(), 0, "nobody is used yet");
    for number in 0..20 {
        tenants.token(&number.to_string()).expect("a token");
    }
    eventually("as many workers as asked for", || workers() == 3);
    drop(tenants);
    eventually("no workers any more, although they would sleep for a minute", || workers() == 0);
}
