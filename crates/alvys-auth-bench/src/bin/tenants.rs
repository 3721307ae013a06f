//! Fills a process with tenants and prints what that takes, a JSON object: `tenants <driver> <number>`.
//!
//! A binary of its own, because counting live bytes replaces the allocator of the whole program.

use std::alloc::System;
use std::env;
use std::hint::black_box;
use std::thread::sleep;
use std::time::Instant;

use alvys_auth_bench::crowd::{Crowd, REST, Reqwest, Ureq, names};
use alvys_auth_bench::input;
use alvys_auth_bench::loopback::{Loopback, Reply};
use alvys_auth_bench::measure::tenants::{Filled, resident};
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const LOOKUPS: usize = 1_000_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let tenants = arguments.get(1).and_then(|number| number.parse().ok()).expect("how many tenants");
    let filled = match arguments[0].as_str() {
        Reqwest::NAME => fill::<Reqwest>(tenants),
        _ => fill::<Ureq>(tenants),
    };
    println!("{}", serde_json::json!(filled));
}

fn fill<C: Crowd>(number: usize) -> Filled {
    // Lives longer than it takes to ask for all of them.
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let names = names(number);
    let crowd = C::new(&server, 0);
    // What is made once for all tenants does not count.
    crowd.fetch("first");
    sleep(REST);
    let (live, in_memory) = (ALLOCATOR.allocated(), resident());
    for name in &names {
        crowd.fetch(name);
    }
    sleep(REST);
    let beyond =
        |before: usize, after: usize| (after - before) as f64 / number as f64 - input::access_token().len() as f64;
    let bytes = beyond(live, ALLOCATOR.allocated());
    let resident = in_memory.zip(resident()).map(|(before, after)| beyond(before, after));

    let single = crowd.lend_single("first");
    let mut place = 0;
    let lookup = nanos(|| {
        // Each place once, in an order that no cache foresees.
        place = (place + 618_033) % number;
        crowd.with_token(&names[place], |token| token.header().len())
    });
    let hot = nanos(|| crowd.with_token("first", |token| token.header().len()));
    let single = nanos(single);
    Filled { subject: C::NAME.to_owned(), tenants: number, bytes, resident, lookup, hot, single }
}

/// The time of one run, the best of five tries.
fn nanos(mut work: impl FnMut() -> Option<usize>) -> f64 {
    let tries = (0..5).map(|_| {
        let started = Instant::now();
        for _ in 0..LOOKUPS {
            black_box(work().expect("a token"));
        }
        started.elapsed().as_nanos() as f64 / LOOKUPS as f64
    });
    tries.fold(f64::MAX, f64::min)
}
