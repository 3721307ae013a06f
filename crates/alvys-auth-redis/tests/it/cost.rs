//! What an operation costs on the loopback interface. Run it alone, in a release build, and read what it prints.

use std::time::{Duration, Instant};

use alvys_auth_core::share::Operation;
use alvys_auth_store::{AsyncStore, BlockingStore};

use crate::servers::{Program, Server, block_on, claim, id, name};

#[test]
#[ignore = "it measures, and proves nothing"]
fn cost_of_a_claim() {
    for program in [Program::redis(), Program::valkey()] {
        println!("{program:?}");
        let server = Server::start(&program, &[]);
        let store = server.store();
        let started = Instant::now();
        BlockingStore::run(&store, &name(0), claim(1)).unwrap();
        println!("the first one, with the connection: {:?}", started.elapsed());
        report("claim, blocking", |number| drop(BlockingStore::run(&store, &name(number), claim(1)).unwrap()));
        report("claim, async", |number| drop(block_on(AsyncStore::run(&store, &name(number), claim(2))).unwrap()));
        report("publish 2,000 bytes", |number| {
            let (token, lifetime) = ("x".repeat(2000), Duration::from_secs(60));
            let publish = Operation::Publish { owner: id(1), replaced: None, generation: id(2), token, lifetime };
            BlockingStore::run(&store, &name(number), publish).unwrap();
        });
    }
}

fn report(what: &str, run: impl Fn(u32)) {
    let took = |number| {
        let started = Instant::now();
        run(number);
        started.elapsed()
    };
    let mut took: Vec<_> = (0..5000).map(took).collect();
    took.sort_unstable();
    println!("{what}: median {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
}
