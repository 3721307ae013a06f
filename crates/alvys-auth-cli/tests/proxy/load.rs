//! The proxy under a load generator in another process, while tokens end, are revoked and cannot be had for a while.
//!
//! Takes a minute and `oha` or `wrk`, so it runs when asked for: `.ci/load`. So does the measurement of a start.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Fault, Route};
use serde_json::Value;

use crate::support::{Running, World};

const CONNECTIONS: &str = "32";
const SECOND: Duration = Duration::from_secs(1);

/// What became of the requests: how many were sent, and the failures by status or in the generator's words.
#[derive(Debug)]
struct Load {
    requests: u64,
    failures: BTreeMap<String, u64>,
}

#[test]
#[ignore = "takes a minute and a load generator: run .ci/load"]
fn no_call_fails_that_the_rules_say_must_not_fail() {
    let Some(generator) = ["oha", "wrk"].into_iter().find(|name| is_there(name)) else {
        println!("skipped: there is neither oha nor wrk here; `cargo install oha` or `apt-get install wrk`");
        return;
    };
    let world = World::new();
    world.sandbox.set_lifetime(30 * SECOND);
    let file = world.file("secret", &world.secret());
    let proxy = Running::start(&world, &mut world.proxy(&["--secret-file", &file]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    let url = format!("{}/api/p/v1/loads", proxy.url());

    let began = Instant::now();
    let load = thread::scope(|scope| {
        let loading = scope.spawn(|| generate(generator, 60, &url));
        let at = |seconds: u32| thread::sleep((seconds * SECOND).saturating_sub(began.elapsed()));
        at(12); // The first token is older than the grace of a rejection: all calls under way see 401.
        world.sandbox.reject_tokens();
        at(18);
        world.sandbox.inject(Route::Api, Fault::status(429).retry_after(SECOND).times(40));
        world.sandbox.inject(Route::Api, Fault::status(503).retry_after(SECOND).times(40));
        at(24); // Met by the renewal in the margin, between 36 and 39.
        world.sandbox.inject(Route::Token, Fault::unavailable().times(2));
        at(48);
        world.rotate("the-next-secret-0123456789");
        world.file("secret", "the-next-secret-0123456789");
        world.sandbox.inject(Route::Token, Fault::delay(2 * SECOND).once());
        at(53); // Nobody has a token then, for two seconds.
        world.sandbox.reject_tokens();
        loading.join().unwrap()
    });
    let (tokens, asked) = (world.sandbox.tokens_issued(), world.sandbox.token_requests());
    println!(
        "{generator}: {} requests, failures {:?}; {tokens} tokens by {asked} requests",
        load.requests, load.failures
    );
    let metrics = proxy.get("/metrics").body;
    let told = ["alvys_proxy_replays_total", "alvys_proxy_waits_total", "alvys_proxy_tokens_total"];
    metrics.lines().filter(|line| told.iter().any(|name| line.starts_with(name))).for_each(|line| println!("{line}"));
    assert!(load.requests > 1000, "{load:?}");
    assert!(load.failures.is_empty(), "{load:?}");
    // The first, one for each of two rejections, one in a margin; and the two refusals in that margin.
    assert_eq!((tokens, asked), (4, 6));

    // A connection that breaks may have done its work: such a call is not repeated, and no other one suffers.
    world.sandbox.inject(Route::Api, Fault::reset().times(10));
    let load = generate(generator, 5, &url);
    println!("{generator}: {} requests, 10 of which met a reset; failures {:?}", load.requests, load.failures);
    assert_eq!(load.failures.values().sum::<u64>(), 10, "{load:?}");
}

#[test]
#[ignore = "a measurement: run .ci/load"]
fn the_time_to_the_first_answer_is_told() {
    let world = World::new();
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let began = Instant::now();
            let proxy = Running::start(&world, &mut world.complete(&[]), 1);
            assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("from the start of the process to the first answer of the API, token included: median {:?}", times[7]);
}

fn is_there(program: &str) -> bool {
    let ran = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    !matches!(ran, Err(error) if error.kind() == ErrorKind::NotFound)
}

fn generate(generator: &str, seconds: u32, url: &str) -> Load {
    let mut command = Command::new(generator);
    let time = format!("{seconds}s");
    match generator {
        "oha" => command.args(["-z", &time, "-w", "-c", CONNECTIONS, "--no-tui", "--output-format", "json", url]),
        _ => command.args(["-d", &time, "-c", CONNECTIONS, "-t", "2", "--timeout", "20s", url]),
    };
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    if generator == "oha" { of_oha(&told) } else { of_wrk(&told) }
}

fn of_oha(told: &str) -> Load {
    let told: Value = serde_json::from_str(told).unwrap();
    let counts = |name: &str| {
        let counts = told[name].as_object().unwrap().iter();
        counts.map(|(what, count)| (what.clone(), count.as_u64().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let mut failures = counts("statusCodeDistribution");
    let requests = failures.values().sum();
    failures.remove("200");
    failures.extend(counts("errorDistribution"));
    Load { requests, failures }
}

/// `wrk` counts answers that are no success, and four kinds of errors, and mentions what there was.
fn of_wrk(told: &str) -> Load {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let requests = told.lines().find_map(|line| number(line.split_once(" requests in ")?.0)).unwrap();
    let after = |name: &str| told.lines().find_map(|line| line.trim().strip_prefix(name));
    let statuses = after("Non-2xx or 3xx responses:").and_then(number);
    let errors = after("Socket errors:").into_iter().flat_map(|errors| errors.split(','));
    let mut failures: BTreeMap<String, u64> = errors
        .filter_map(|error| error.trim().split_once(' '))
        .map(|(what, count)| (what.to_owned(), number(count).unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect();
    failures.extend(statuses.map(|count| ("statuses".to_owned(), count)));
    Load { requests, failures }
}
