//! The guard: what can be counted exactly must stay within its limits.
//!
//! The limits are in `limits.json`. Allocations, requests and crates may not exceed them at all; instructions may by as much
//! as compilers differ.
//!
//! All requests are exact but those of a renewal that gets 503, where each pause is any part of 0.5 s, then of 1 s, of 2 s and
//! so on, and the drivers draw it from a seed that nobody can set. Of sources that are asked for 0.3 s, 39 in a hundred send
//! one request, 52 two, 9 three, 5 in a thousand four, 1 in 11,000 five and 1 in 1,500,000 six. The limit is five; without a
//! pause it would be fifty.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use crate::measure::{Result, allocations, crates, instructions, requests, sharing, tenants};
use crate::probe::{Case, Kind};
use crate::scenarios::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    instruction_tolerance_percent: u64,
    core_crates: u64,
    allocations: BTreeMap<String, u64>,
    instructions: BTreeMap<String, u64>,
    requests: BTreeMap<String, u64>,
    tenant_bytes_tolerance_percent: u64,
    tenant_bytes: BTreeMap<String, u64>,
    tenants_at_once: BTreeMap<String, u64>,
    sharing: BTreeMap<String, u64>,
}

/// Measures everything that has a limit and compares.
///
/// # Errors
/// When a figure is over its limit, or a limit has no figure.
pub fn run() -> Result<()> {
    let limits = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/limits.json"))?;
    let limits: Limits = serde_json::from_slice(&limits)?;
    let mut verdict = Verdict::default();

    let figures = crates::core_crates()? as u64;
    verdict.compare("crates of the core", Some(figures), limits.core_crates, 0);

    let figures = ours(allocations::measure()?, |record| (record.case, record.allocations));
    verdict.compare_all("allocations", &figures, &limits.allocations, 0);

    let figures = ours(instructions::measure()?, |record| (record.case, record.instructions));
    let tolerance = limits.instruction_tolerance_percent;
    verdict.compare_all("instructions", &figures, &limits.instructions, tolerance);

    let outcomes = requests::measure_ours();
    let figures = outcomes.iter().map(|outcome| (scenario(outcome), outcome.requests as u64)).collect();
    verdict.compare_all("requests", &figures, &limits.requests, 0);
    for outcome in outcomes.iter().filter(|outcome| outcome.failures > 0) {
        verdict.compare(&format!("different errors: {}", scenario(outcome)), Some(outcome.errors as u64), 1, 0);
    }

    let (filled, renewed) = tenants::measure_few()?;
    let figures = filled.into_iter().map(|record| (record.subject, record.bytes.round() as u64)).collect();
    let tolerance = limits.tenant_bytes_tolerance_percent;
    verdict.compare_all("bytes of each tenant beside its token", &figures, &limits.tenant_bytes, tolerance);
    let figures = renewed.into_iter().map(|record| (record.subject, record.peak as u64)).collect();
    verdict.compare_all("renewals at a time", &figures, &limits.tenants_at_once, 0);

    verdict.compare_all("sharing", &sharing::counted()?, &limits.sharing, 0);

    verdict.end()
}

/// The figures of this library by work and subject.
fn ours<T>(records: Vec<T>, split: impl Fn(T) -> (Case, u64)) -> BTreeMap<String, u64> {
    records
        .into_iter()
        .map(split)
        .filter(|(case, _)| case.kind == Kind::Ours)
        .map(|(case, figure)| (format!("{} | {}", case.work.title(), case.subject), figure))
        .collect()
}

fn scenario(outcome: &Outcome) -> String {
    let Outcome { scenario, latency_ms, subject, .. } = outcome;
    format!("{} | {latency_ms} ms | {subject}", scenario.title())
}

#[derive(Default)]
struct Verdict {
    exceeded: Vec<String>,
}

impl Verdict {
    fn compare_all(
        &mut self,
        table: &str,
        figures: &BTreeMap<String, u64>,
        limits: &BTreeMap<String, u64>,
        tolerance: u64,
    ) {
        for (name, limit) in limits {
            self.compare(&format!("{table}: {name}"), figures.get(name).copied(), *limit, tolerance);
        }
        for name in figures.keys().filter(|name| !limits.contains_key(*name)) {
            self.exceeded.push(format!("{table}: {name} has no limit"));
        }
    }

    fn compare(&mut self, name: &str, figure: Option<u64>, limit: u64, tolerance: u64) {
        let most = limit + limit * tolerance / 100;
        let line = match figure {
            Some(figure) => format!("{name}: {figure}, limit {limit}"),
            None => format!("{name}: not measured, limit {limit}"),
        };
        if figure.is_some_and(|figure| figure <= most) {
            println!("ok    {line}");
        } else {
            println!("OVER  {line}");
            self.exceeded.push(line);
        }
    }

    fn end(self) -> Result<()> {
        if self.exceeded.is_empty() {
            return Ok(());
        }
        let list = self.exceeded.join("\n  ");
        Err(format!("over the limit:\n  {list}\nfind out why before you touch limits.json").into())
    }
}
