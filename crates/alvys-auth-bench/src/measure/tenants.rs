//! Many tenants in one process: what each takes, what looking one up costs, and all of them expiring together.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Result, binary, instructions, output};
use crate::crowd::{Crowd, REST, Reqwest, Ureq, names};
use crate::loopback::{Loopback, Reply};
use crate::probe::{Case, Kind, Work};

/// One line of one of the tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Record {
    /// A process full of tenants with live tokens.
    Filled(Filled),
    /// Instructions of a look-up, or of the same without one.
    Lookup(instructions::Record),
    /// All tokens due for renewal together.
    Renewed(Renewed),
}

/// A process full of tenants with live tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Filled {
    /// Who.
    pub subject: String,
    /// How many.
    pub tenants: usize,
    /// Live bytes of each beyond the text of its token.
    pub bytes: f64,
    /// The same of the memory that the system counts, where it does.
    pub resident: Option<f64>,
    /// Nanoseconds to lend the token of any tenant.
    pub lookup: f64,
    /// Nanoseconds to lend the token of the same tenant each time.
    pub hot: f64,
    /// Nanoseconds to lend the token of a source at hand.
    pub single: f64,
}

/// All tokens due for renewal together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renewed {
    /// Who.
    pub subject: String,
    /// How many tenants.
    pub tenants: usize,
    /// How many token requests are allowed at a time.
    pub concurrency: usize,
    /// How long the server takes for each, in milliseconds.
    pub latency_ms: u64,
    /// How many there were at a time.
    pub peak: usize,
    /// How many were sent.
    pub requests: usize,
    /// How many tenants were without a token when the old ones had expired.
    pub lapsed: usize,
    /// From the first request until the last was answered, in milliseconds.
    pub wall_ms: f64,
}

/// A wave of renewals.
struct Wave {
    tenants: usize,
    concurrency: usize,
    latency: Duration,
    lifetime: Duration,
}

const MANY: usize = 100_000;
/// Takes 2.5 s in the margin of 4 s, of which jitter takes up to two.
const WAVE: Wave =
    Wave { tenants: 1_000, concurrency: 20, latency: Duration::from_millis(50), lifetime: Duration::from_secs(20) };
/// What the guard in CI has time for.
const FEW: usize = 2_000;
const RIPPLE: Wave =
    Wave { tenants: 200, concurrency: 10, latency: Duration::from_millis(30), lifetime: Duration::from_secs(5) };

/// Measures all of it.
///
/// # Errors
/// When a binary cannot be built, or valgrind is not there.
///
/// # Panics
/// When the loopback server fails.
pub fn measure() -> Result<Vec<Record>> {
    let mut records: Vec<Record> = filled(MANY)?.into_iter().map(Record::Filled).collect();
    let ours = |case: &Case| case.kind == Kind::Ours && [Work::Cached, Work::Tenant].contains(&case.work);
    records.extend(instructions::measure_those(ours)?.into_iter().map(Record::Lookup));
    records.push(Record::Renewed(renewed::<Reqwest>(&WAVE)));
    records.push(Record::Renewed(renewed::<Ureq>(&WAVE)));
    Ok(records)
}

/// The same with fewer tenants, for the guard; the look-up is among its instructions anyway.
///
/// # Errors
/// When the binary cannot be built.
///
/// # Panics
/// When the loopback server fails.
pub fn measure_few() -> Result<(Vec<Filled>, [Renewed; 2])> {
    Ok((filled(FEW)?, [renewed::<Reqwest>(&RIPPLE), renewed::<Ureq>(&RIPPLE)]))
}

/// A process for each driver.
fn filled(tenants: usize) -> Result<Vec<Filled>> {
    let binary = binary("tenants")?;
    [Reqwest::NAME, Ureq::NAME]
        .into_iter()
        .map(|driver| {
            let (line, _) = output(Command::new(&binary).args([driver, &tenants.to_string()]))?;
            Ok(serde_json::from_str(&line)?)
        })
        .collect()
}

fn renewed<C: Crowd>(wave: &Wave) -> Renewed {
    let Wave { tenants, concurrency, latency, lifetime } = *wave;
    let renewals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&renewals);
    let server = Loopback::scripted(move |number| {
        let reply = Reply::token(lifetime.as_secs());
        if number < tenants {
            return reply;
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        reply.after(latency)
    });
    let crowd = C::new(&server, concurrency);
    let names = names(tenants);
    for name in &names {
        crowd.fetch(name);
    }
    let expired = Instant::now() + lifetime + REST;
    sleep(expired.saturating_duration_since(Instant::now()));
    let lapsed = names.iter().filter(|name| crowd.with_token(name, |_| ()).is_none()).count();
    let renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
    let wall = renewals.first().zip(renewals.last()).map(|(first, last)| *last - *first + latency);
    Renewed {
        subject: C::NAME.to_owned(),
        tenants,
        concurrency,
        latency_ms: latency.as_millis() as u64,
        peak: server.most_at_once(),
        requests: renewals.len(),
        lapsed,
        wall_ms: wall.unwrap_or_default().as_secs_f64() * 1e3,
    }
}

/// The memory of this process that is in use, in bytes, where the system tells it as Linux does.
#[must_use]
pub fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}
