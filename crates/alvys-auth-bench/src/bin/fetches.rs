//! Repeats one kind of uncached fetch, to run under callgrind: `fetches <kind> <times>`. Without arguments, names the kinds.

use std::env;
use std::process::ExitCode;

use alvys_auth_bench::measure::fetch::{KINDS, repeat};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let kind = arguments.first().and_then(|kind| KINDS.into_iter().find(|known| known == kind));
    let times = arguments.get(1).and_then(|times| times.parse().ok());
    let Some((kind, times)) = kind.zip(times) else {
        eprintln!("usage: fetches {} <times>", KINDS.join("|"));
        return ExitCode::FAILURE;
    };
    repeat(kind, |fetch| measured(times, fetch));
    ExitCode::SUCCESS
}

/// The name that callgrind is told to collect in.
#[inline(never)]
fn measured(times: usize, fetch: &mut dyn FnMut()) {
    for _ in 0..times {
        fetch();
    }
}
