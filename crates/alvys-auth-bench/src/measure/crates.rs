//! What a library brings into a build: distinct crates, and the CPU time of a clean release build.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Result, cargo, median, output, repository};
use crate::probe::Kind;

/// How often what has a target is built from scratch; the public libraries are built once, which takes long enough.
const BUILDS: usize = 5;
const CORE: &str = "alvys-auth-core";

/// One library.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The library.
    pub subject: String,
    /// Of what kind.
    pub kind: Kind,
    /// How many crates besides itself.
    pub crates: usize,
    /// User and system time of a clean release build of a program that depends on it alone, in seconds.
    pub cpu_seconds: f64,
    /// As a multiple of a program that depends on what the core depends on.
    pub ratio: f64,
}

/// Builds a program for each library, and one with the core's dependencies alone.
///
/// # Errors
/// When a build fails.
pub fn measure() -> Result<Vec<Record>> {
    let direct = core_dependencies()?;
    let base = Project::new("base", &direct)?;
    let floor = base.cpu_seconds(BUILDS)?;
    println!("the core's dependencies alone: {floor:.2} s");
    let mut records = vec![Record {
        subject: "the core's dependencies alone".to_owned(),
        kind: Kind::Floor,
        crates: base.crates()?,
        cpu_seconds: floor,
        ratio: 1.0,
    }];
    for (name, dependency) in subjects() {
        let project = Project::new(name, &dependency)?;
        let cpu_seconds = project.cpu_seconds(if name == CORE { BUILDS } else { 1 })?;
        let record = Record {
            subject: name.to_owned(),
            kind: if name == CORE { Kind::Ours } else { Kind::Peer },
            crates: project.crates()? - 1,
            cpu_seconds,
            ratio: (cpu_seconds / floor * 100.0).round() / 100.0,
        };
        println!("{name}: {} crates, {cpu_seconds:.2} s, {} times", record.crates, record.ratio);
        records.push(record);
    }
    Ok(records)
}

/// The crates that the core brings along, itself not counted.
///
/// # Errors
/// When cargo fails.
pub fn core_crates() -> Result<usize> {
    Ok(Project::new("core-tree", &core())?.crates()? - 1)
}

fn core() -> String {
    let path = repository().join("crates/alvys-auth-core");
    format!("alvys-auth-core = {{ path = {path:?} }}\n")
}

/// The libraries; peers without the HTTP client where that can be left out.
fn subjects() -> Vec<(&'static str, String)> {
    let mut subjects = vec![(CORE, core())];
    if cfg!(feature = "peers") {
        for (name, dependency) in [
            ("oauth2", r#"{ version = "5", default-features = false }"#),
            ("tame-oauth", r#""0.10""#),
            ("yup-oauth2", r#""12""#),
            ("azure_identity", r#""1""#),
            ("google-cloud-auth", r#""1""#),
        ] {
            subjects.push((name, format!("{name} = {dependency}\n")));
        }
    }
    subjects
}

/// The core's direct dependencies as its manifest has them.
fn core_dependencies() -> Result<String> {
    let manifest = repository().join("crates/alvys-auth-core/Cargo.toml");
    let (metadata, _) =
        output(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let core = packages.iter().find(|package| package["name"] == CORE).ok_or("no core")?;
    let dependencies = core["dependencies"].as_array().ok_or("no dependencies")?;
    Ok(dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| {
            let Value::String(name) = &dependency["name"] else {
                return String::new();
            };
            format!(
                "{name} = {{ version = {}, default-features = {}, features = {} }}\n",
                dependency["req"], dependency["uses_default_features"], dependency["features"]
            )
        })
        .collect())
}

/// A program that does nothing, with dependencies.
struct Project(PathBuf);

impl Project {
    fn new(name: &str, dependencies: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("alvys-auth-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("src"))?;
        let package = "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";
        fs::write(folder.join("Cargo.toml"), format!("{package}\n[dependencies]\n{dependencies}"))?;
        fs::write(folder.join("src/main.rs"), "fn main() {}\n")?;
        // The versions that this crate was measured with, as far as they are used.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        fs::copy(lock, folder.join("Cargo.lock"))?;
        Ok(Self(folder))
    }

    /// Every crate that is compiled in, build scripts' dependencies not counted.
    fn crates(&self) -> Result<usize> {
        let (tree, _) = output(self.cargo("tree").args(["--edges", "normal", "--prefix", "none"]))?;
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        Ok(names.len() - 1)
    }

    /// The median of some clean builds, downloads not counted.
    fn cpu_seconds(&self, builds: usize) -> Result<f64> {
        output(&mut self.cargo("fetch"))?;
        let mut seconds = Vec::new();
        for _ in 0..builds {
            drop(fs::remove_dir_all(self.0.join("target")));
            let before = children_cpu_seconds()?;
            output(self.cargo("build").args(["--release", "--offline"]))?;
            seconds.push(children_cpu_seconds()? - before);
        }
        Ok((median(&mut seconds) * 100.0).round() / 100.0)
    }

    fn cargo(&self, command: &str) -> std::process::Command {
        let mut cargo = cargo();
        cargo.args([command, "--quiet"]).current_dir(&self.0);
        cargo.env("CARGO_TARGET_DIR", self.0.join("target"));
        cargo
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// User and system time of all children that have ended, as Linux counts them: in hundredths of a second.
fn children_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}
