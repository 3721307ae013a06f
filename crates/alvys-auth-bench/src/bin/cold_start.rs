//! The CPU time of making a source and a client, each in a process of its own, because what they share is made once in a
//! process: `cold_start <pairs>`. Each run stands beside one that makes a plain client of the same library.

use std::env;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use alvys_auth_bench::input;
use alvys_auth_bench::measure::{Result, median};
use alvys_auth_core::{Api, Flow};
use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let argument = env::args().nth(1).unwrap_or_default();
    let told = match argument.parse() {
        Ok(pairs) => pairs_of(pairs),
        Err(_) => made(&argument),
    };
    told.map_or_else(
        |error| {
            eprintln!("{error}; usage: cold_start <pairs>");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Starts this program anew for each run and tells the medians.
fn pairs_of(pairs: usize) -> Result<()> {
    let mut columns = ["reqwest", "plain-reqwest", "ureq", "plain-ureq"].map(|kind| (kind, Vec::with_capacity(pairs)));
    for _ in 0..pairs {
        for (kind, micros) in &mut columns {
            let output = Command::new(env::current_exe()?).arg(*kind).output()?;
            micros.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()?);
        }
    }
    for (kind, mut micros) in columns {
        println!("{kind}: {:.2} ms", median(&mut micros) / 1e3);
    }
    Ok(())
}

/// Makes one kind of client in this process and prints what that took, in microseconds.
fn made(kind: &str) -> Result<()> {
    let (flow, credentials, api) = (Flow::current(), input::credentials(), Api::production());
    let before = cpu_micros();
    match kind {
        "reqwest" => {
            let tokens = alvys_auth_reqwest::TokenSource::new(flow, credentials)?;
            black_box(alvys_auth_reqwest::Client::new(tokens, api)?);
        }
        "plain-reqwest" => drop(black_box(reqwest::Client::builder().build()?)),
        "ureq" => {
            let tokens = alvys_auth_ureq::TokenSource::new(flow, credentials)?;
            black_box(alvys_auth_ureq::Client::new(tokens, api)?);
        }
        "plain-ureq" => drop(black_box(ureq::Agent::new_with_defaults())),
        _ => return Err("unknown kind".into()),
    }
    println!("{}", cpu_micros() - before);
    Ok(())
}

/// What this process has used of the processors, in the program and in the system.
fn cpu_micros() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e6 + used.tv_nsec as f64 / 1e3
}
