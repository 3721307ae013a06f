//! Allocations of one run of each case.

use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{Result, binary, output};
use crate::probe::Case;

/// What one run allocates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// How often.
    pub allocations: u64,
    /// How much, in bytes.
    pub bytes: u64,
}

/// Counts in a binary of its own, because counting replaces the allocator of the whole program.
///
/// # Errors
/// When the binary cannot be built.
pub fn measure() -> Result<Vec<Record>> {
    let (lines, _) = output(&mut Command::new(binary("allocations")?))?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
