//! Time of one run of each case, and of readers on two threads.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_bench::measure::time::id;
use alvys_auth_bench::probe::{Case, Probe, Work};
use alvys_auth_bench::work;
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    work::offer_all(&mut Timer(&mut criterion));
    for (kind, subject) in work::shared_subjects() {
        let id = id(&Case::new(Work::Cached, kind, subject), 2);
        let read = work::shared(subject);
        criterion.bench_function(&id, |bencher| bencher.iter_custom(|times| on_two_threads(times, &*read)));
    }
    criterion.final_summary();
}

struct Timer<'a>(&'a mut Criterion);

impl Probe for Timer<'_> {
    fn offer<T, W: FnMut() -> T>(&mut self, case: Case, prepare: impl FnOnce() -> W) {
        let mut work = prepare();
        self.0.bench_function(&id(&case, 1), |bencher| bencher.iter(&mut work));
    }
}

/// Both threads do the work as often: where nothing is shared, this takes as long as one thread alone.
fn on_two_threads(times: u64, work: &(dyn Fn() + Sync)) -> Duration {
    let repeat = || {
        for _ in 0..times {
            black_box(work)();
        }
    };
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(repeat);
        repeat();
    });
    started.elapsed()
}
