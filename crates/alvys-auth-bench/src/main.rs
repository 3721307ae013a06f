//! One command per table; see the README.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use alvys_auth_bench::measure::{allocations, crates, fetch, instructions, recovery, requests, sharing, tenants, time};
use alvys_auth_bench::results::Results;
use alvys_auth_bench::{check, report};

const USAGE: &str =
    "usage: alvys-auth-bench allocations|instructions|time|requests|recovery|fetch|tenants|sharing|crates|report|check
Add --features peers before the -- to measure the public peers too.";

fn main() -> ExitCode {
    let command = env::args().nth(1).unwrap_or_default();
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str) -> Result<(), Box<dyn Error>> {
    match command {
        "allocations" => Results::store("allocations", &allocations::measure()?),
        "instructions" => Results::store("instructions", &instructions::measure()?),
        "time" => Results::store("time", &time::measure()?),
        "requests" => Results::store("requests", &requests::measure()),
        "recovery" => Results::store("recovery", &recovery::measure()),
        "fetch" => Results::store("fetch", &fetch::measure()),
        "tenants" => Results::store("tenants", &tenants::measure()?),
        "sharing" => Results::store("sharing", &sharing::measure()?),
        "crates" => Results::store("crates", &crates::measure()?),
        "report" => report::write(),
        "check" => check::run(),
        _ => Err(USAGE.into()),
    }
}
