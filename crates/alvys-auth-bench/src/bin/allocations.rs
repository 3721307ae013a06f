//! Counts the allocations of each case and prints them, a JSON object a line.

use std::hint::black_box;

use alvys_auth_bench::measure::allocations::Record;
use alvys_auth_bench::probe::{Case, Probe};
use alvys_auth_bench::work;

fn main() {
    work::offer_all(&mut Counter);
}

struct Counter;

impl Probe for Counter {
    fn offer<T, W: FnMut() -> T>(&mut self, case: Case, prepare: impl FnOnce() -> W) {
        let mut work = prepare();
        // The first runs fill what is filled once: thread-local slots, lazily shared buffers.
        for _ in 0..10 {
            black_box(work());
        }
        let counted = allocation_counter::measure(|| {
            black_box(work());
        });
        let record = Record { case, allocations: counted.count_total, bytes: counted.bytes_total };
        println!("{}", serde_json::json!(record));
    }
}
