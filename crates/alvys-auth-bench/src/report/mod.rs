//! Writes `BENCHMARKS.md` and its charts from the data file, so that no figure in them is typed.

mod chart;
mod figures;
mod recovery;
mod requests;
mod sharing;
mod tables;
mod tenants;

use std::fmt::Write as _;
use std::fs;

use crate::measure::{Result, repository};
use crate::results::Results;

/// Where the charts are, seen from the root of the repository.
const CHARTS: &str = "crates/alvys-auth-bench/charts";

/// Writes all of it anew.
///
/// # Errors
/// When the data file or a file of the report is out of reach.
pub fn write() -> Result<()> {
    let results = Results::load()?;
    let root = repository();
    let charts = chart::all(&results)?;
    fs::create_dir_all(root.join(CHARTS))?;
    for (name, svg) in &charts {
        fs::write(root.join(CHARTS).join(name), svg)?;
    }
    fs::write(root.join("BENCHMARKS.md"), text(&results)?)?;
    println!("wrote BENCHMARKS.md and {} charts", charts.len());
    Ok(())
}

fn text(results: &Results) -> Result<String> {
    let mut text = String::from(include_str!("introduction.md"));
    for section in tables::SECTIONS {
        write!(text, "\n## {}\n\n{}\n", section.title, section.about)?;
        if let Some(chart) = section.chart {
            write!(text, "\n![{}]({CHARTS}/{chart})\n", section.title)?;
        }
        write!(text, "\n```sh\n{}\n```\n\n", section.command)?;
        text.push_str(&(section.table)(results)?);
        match results.circumstances(section.name) {
            Some(circumstances) => write!(text, "\n{circumstances}\n")?,
            None => text.push_str("\nNot measured yet.\n"),
        }
    }
    for section in [include_str!("../../misses.md"), include_str!("../../constrained.md")] {
        write!(text, "\n{section}")?;
    }
    Ok(text)
}
