//! The data file: what was measured, when, on what and at which commit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::measure::{Result, repository};

/// All tables as they were measured last.
#[derive(Debug)]
pub struct Results(Map<String, Value>);

impl Results {
    /// Reads the data file.
    ///
    /// # Errors
    /// When it is there and no JSON object.
    pub fn load() -> Result<Self> {
        match fs::read(path()) {
            Ok(text) => Ok(Self(serde_json::from_slice(&text)?)),
            Err(_) => Ok(Self(Map::new())),
        }
    }

    /// Puts a table in place of its predecessor, with the date, the machine and the commit.
    ///
    /// # Errors
    /// When the data file cannot be written.
    pub fn store(table: &str, records: &[impl Serialize]) -> Result<()> {
        let mut results = Self::load()?;
        let entry = json!({ "date": date()?, "machine": machine()?, "commit": commit()?, "records": records });
        results.0.insert(table.to_owned(), entry);
        let mut text = serde_json::to_string_pretty(&results.0)?;
        text.push('\n');
        fs::write(path(), text)?;
        println!("{} records of {table} are in {}", records.len(), path().display());
        Ok(())
    }

    /// The records of a table; none when it was never measured.
    ///
    /// # Errors
    /// When they are of another shape.
    pub fn records<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>> {
        match self.0.get(table) {
            Some(entry) => Ok(serde_json::from_value(entry["records"].clone())?),
            None => Ok(Vec::new()),
        }
    }

    /// When, on what, and at which commit a table was measured, in one sentence.
    #[must_use]
    pub fn circumstances(&self, table: &str) -> Option<String> {
        let entry = self.0.get(table)?;
        let said = |name: &str| entry[name].as_str();
        let (date, machine, commit) = (said("date")?, said("machine")?, said("commit").unwrap_or(UNKNOWN));
        Some(format!("Measured on {date} at commit {commit}: {machine}."))
    }
}

/// In place of the commit, where there is no git to ask.
const UNKNOWN: &str = "unknown";
/// What measuring changes, and what is generated from that: no reason to doubt that a table belongs to its commit.
const MEASURED: [&str; 3] = [
    ":(exclude,top)BENCHMARKS.md",
    ":(exclude,top)crates/alvys-auth-bench/charts",
    ":(exclude,top)crates/alvys-auth-bench/results.json",
];

fn path() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/results.json").into()
}

fn date() -> Result<String> {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%d"]))
}

/// The machine in general terms: what the figures depend on, and nothing that names it.
fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let compiler = first_line(Command::new("rustc").arg("--version"))?;
    let compiler = compiler.split(" (").next().unwrap_or_default().to_owned();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    Ok(format!("{cores} shared cores, {arch} {os}, {compiler}"))
}

/// The commit that was measured, with a `+` when something else is in the working tree.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| first_line(Command::new("git").arg("-C").arg(repository()).args(arguments));
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]).ok().filter(|hash| !hash.is_empty()) else {
        return Ok(UNKNOWN.to_owned());
    };
    let change = git(&[&["status", "--porcelain", "--", ":/"], MEASURED.as_slice()].concat())?;
    Ok(if change.is_empty() { hash } else { hash + "+" })
}

fn first_line(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
