//! Repeats one case, to run under callgrind: `instructions <index> <times>`. Without arguments, lists the cases.

use std::env;
use std::hint::black_box;

use alvys_auth_bench::probe::{Case, Probe};
use alvys_auth_bench::work;

fn main() {
    let mut arguments = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let chosen = arguments.next().zip(arguments.next());
    work::offer_all(&mut Repeater { chosen, index: 0 });
}

struct Repeater {
    chosen: Option<(usize, usize)>,
    index: usize,
}

impl Probe for Repeater {
    fn offer<T, W: FnMut() -> T>(&mut self, case: Case, prepare: impl FnOnce() -> W) {
        match self.chosen {
            None => println!("{}", serde_json::json!(case)),
            // What becomes of the result keeps this a call and not a jump, which callgrind would not see.
            Some((index, times)) if index == self.index => drop(black_box(measured(times, &mut prepare()))),
            Some(_) => {}
        }
        self.index += 1;
    }
}

/// The name that callgrind is told to collect in.
///
/// The work is lent: what it holds is taken down by the caller, or the threads and tables that go then would be counted.
#[inline(never)]
fn measured<T>(times: usize, work: &mut impl FnMut() -> T) -> usize {
    for _ in 0..times {
        black_box(work());
    }
    times
}
