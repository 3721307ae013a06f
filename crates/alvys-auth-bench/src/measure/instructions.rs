//! Instructions of one run of each case, counted by valgrind's callgrind.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{Result, binary, output};
use crate::probe::Case;

/// How often a case is repeated in the shorter of two runs; the longer one has twice as many.
const TIMES: u64 = 1_000;

/// What one run executes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// How many instructions.
    pub instructions: u64,
}

/// The difference of two loops, one twice as long as the other, so that whatever happens once cancels out.
///
/// # Errors
/// When the binary cannot be built, or valgrind is not there.
pub fn measure() -> Result<Vec<Record>> {
    measure_those(|_| true)
}

/// The same for some of the cases.
///
/// # Errors
/// As [`measure`].
pub fn measure_those(wanted: impl Fn(&Case) -> bool) -> Result<Vec<Record>> {
    let binary = binary("instructions")?;
    let (cases, _) = output(&mut Command::new(&binary))?;
    cases
        .lines()
        .enumerate()
        .map(|(index, case)| Ok((index, serde_json::from_str(case)?)))
        .filter(|case| case.as_ref().is_ok_and(|(_, case)| wanted(case)) || case.is_err())
        .map(|case: Result<(usize, Case)>| {
            let (index, case) = case?;
            let once = collected(&binary, index, TIMES)?;
            let twice = collected(&binary, index, 2 * TIMES)?;
            if once == 0 {
                return Err(format!("callgrind saw nothing of {case:?}").into());
            }
            let instructions = (twice - once + TIMES / 2) / TIMES;
            Ok(Record { case, instructions })
        })
        .collect()
}

/// The instructions of all repetitions.
fn collected(binary: &Path, index: usize, times: u64) -> Result<u64> {
    let (_, report) = output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(["--collect-atstart=no", "--toggle-collect=*measured*"])
            .arg(binary)
            .args([index.to_string(), times.to_string()]),
    )?;
    let total = report.lines().find_map(|line| line.split_once("Collected :")).ok_or("callgrind reported no total")?;
    Ok(total.1.trim().parse()?)
}
