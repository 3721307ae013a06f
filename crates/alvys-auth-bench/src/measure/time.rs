//! Time of one run of each case, as criterion estimates it.

use std::path::Path;
use std::{env, fs};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Result, cargo, manifest, output};
use crate::probe::{Case, Probe, Work};
use crate::work;

/// How long one run takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// How many threads do it at the same time, each as often.
    pub threads: usize,
    /// The median, in nanoseconds.
    pub nanos: f64,
}

/// Runs the benchmark `time` and collects its medians.
///
/// # Errors
/// When it cannot be built or fails.
pub fn measure() -> Result<Vec<Record>> {
    let home = env::temp_dir().join(format!("alvys-auth-bench-{}-criterion", std::process::id()));
    let mut bench = cargo();
    bench.args(["bench", "--quiet", "--bench", "time", "--manifest-path", &manifest()]);
    bench.args(["--features", if cfg!(feature = "peers") { "time,peers" } else { "time" }]);
    output(bench.env("CRITERION_HOME", &home))?;

    let mut benchmarks = Vec::new();
    collect(&home, &mut benchmarks)?;
    drop(fs::remove_dir_all(&home));
    let mut cases = Lister::default();
    work::offer_all(&mut cases);
    let shared = work::shared_subjects().map(|subject| Case::new(Work::Cached, subject.0, subject.1));

    let find = |case: Case, threads: usize| {
        let id = id(&case, threads);
        let (_, nanos) = benchmarks
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or_else(|| format!("criterion did not measure {id}"))?;
        Ok(Record { case, threads, nanos: (nanos * 10.0).round() / 10.0 })
    };
    let alone = cases.0.into_iter().map(|case| find(case, 1));
    alone.chain(shared.map(|case| find(case, 2))).collect()
}

/// How the benchmark names a case.
#[must_use]
pub fn id(case: &Case, threads: usize) -> String {
    format!("{}, {threads} threads/{}", case.work.title(), case.subject)
}

#[derive(Default)]
struct Lister(Vec<Case>);

impl Probe for Lister {
    fn offer<T, W: FnMut() -> T>(&mut self, case: Case, _: impl FnOnce() -> W) {
        self.0.push(case);
    }
}

/// Finds what criterion has written: the name of each benchmark and its median.
fn collect(folder: &Path, found: &mut Vec<(String, f64)>) -> Result<()> {
    let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?) };
    if folder.join("benchmark.json").exists() && folder.ends_with("new") {
        let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
        if let (Some(id), Some(nanos)) = (benchmark["full_id"].as_str(), estimates["median"]["point_estimate"].as_f64())
        {
            found.push((id.to_owned(), nanos));
        }
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        }
    }
    Ok(())
}
