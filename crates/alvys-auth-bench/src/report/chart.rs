//! Bar charts as SVG: ours, the floors and the public libraries, each in its colour.

use std::fmt::Write as _;

use super::figures::thousands;
use crate::measure::{Result, instructions};
use crate::probe::{Kind, Work};
use crate::results::Results;
use crate::scenarios::{Outcome, Scenario};

const WIDTH: u32 = 760;
/// Where bars begin, and how long the longest is.
const LEFT: u32 = 330;
const LONGEST: f64 = 350.0;
const ROW: u32 = 22;

/// A group of bars on a scale of their own.
struct Group {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    kind: Kind,
    label: String,
    value: u64,
}

/// The charts by file name.
pub(super) fn all(results: &Results) -> Result<[(&'static str, String); 2]> {
    Ok([
        ("instructions.svg", draw("Instructions of one run: shorter is better", &instructions(results)?)?),
        ("requests.svg", draw("Requests to the token endpoint: fewer is better", &requests(results)?)?),
    ])
}

fn instructions(results: &Results) -> Result<Vec<Group>> {
    let records: Vec<instructions::Record> = results.records("instructions")?;
    let group = |work: Work| Group {
        title: work.title().to_owned(),
        bars: records
            .iter()
            .filter(|record| record.case.work == work)
            .map(|record| Bar {
                kind: record.case.kind,
                label: record.case.subject.clone(),
                value: record.instructions,
            })
            .collect(),
    };
    Ok(Work::ALL.map(group).into())
}

fn requests(results: &Results) -> Result<Vec<Group>> {
    let records: Vec<Outcome> = results.records("requests")?;
    let group = |scenario: Scenario, title: &str| Group {
        title: title.to_owned(),
        bars: records
            .iter()
            .filter(|outcome| outcome.scenario == scenario)
            // One of the two latencies: the longer, in which all callers arrive before the first answer.
            .filter(|outcome| scenario != Scenario::Cold || outcome.latency_ms == 1_000)
            .map(|outcome| Bar { kind: outcome.kind(), label: outcome.subject.clone(), value: outcome.requests as u64 })
            .collect(),
    };
    Ok(vec![
        group(Scenario::Cold, "10,000 callers at once (1,000 threads with ureq), nothing held, an answer takes 1 s"),
        group(Scenario::Refused, "200 callers, the server answers 401"),
        group(Scenario::ShortLived, Scenario::ShortLived.title()),
    ])
}

fn draw(title: &str, groups: &[Group]) -> Result<String> {
    let mut body = legend(title, groups)?;
    let mut y = 36;
    for Group { title, bars } in groups {
        y += 26;
        writeln!(body, r#"<text class="group" x="16" y="{y}">{}</text>"#, escaped(title))?;
        y += 10;
        let longest = bars.iter().map(|bar| bar.value).max().unwrap_or(1).max(1) as f64;
        for Bar { kind, label, value } in bars {
            let length = (*value as f64 / longest * LONGEST).max(1.0);
            let (class, _) = style(*kind);
            let (middle, end) = (y + 15, f64::from(LEFT) + length + 6.0);
            writeln!(
                body,
                r#"<text class="label {class}" x="{}" y="{middle}">{}</text><rect class="{class}" x="{LEFT}" y="{}" width="{length:.1}" height="14" rx="2"/><text x="{end:.1}" y="{middle}">{}</text>"#,
                LEFT - 8,
                escaped(label),
                y + 4,
                thousands(*value)
            )?;
            y += ROW;
        }
    }
    let height = y + 16;
    Ok(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{title}">
<style>
svg {{ background: #fff; font: 12px sans-serif; }}
text {{ fill: #24292f; }}
.title {{ font-size: 16px; font-weight: bold; }}
.group {{ font-size: 13px; font-weight: bold; }}
.label {{ text-anchor: end; }}
.label.ours {{ font-weight: bold; }}
rect.ours {{ fill: #0a7d4f; }}
rect.floor {{ fill: #b8c0c8; }}
rect.peer {{ fill: #d98a29; }}
</style>
<rect width="100%" height="100%" fill="white"/>
<text class="title" x="16" y="28">{title}</text>
{body}</svg>
"#
    ))
}

/// What the colours mean that are there, to the right of the title.
fn legend(title: &str, groups: &[Group]) -> Result<String> {
    let mut text = String::new();
    let mut x = 16.0 + width(title, 16) + 24.0;
    for kind in [Kind::Ours, Kind::Floor, Kind::Peer] {
        if !groups.iter().flat_map(|group| &group.bars).any(|bar| bar.kind == kind) {
            continue;
        }
        let (class, label) = style(kind);
        writeln!(
            text,
            r#"<rect class="{class}" x="{x:.0}" y="17" width="12" height="12" rx="2"/><text x="{:.0}" y="28">{label}</text>"#,
            x + 18.0
        )?;
        x += 18.0 + width(label, 12) + 16.0;
    }
    Ok(text)
}

/// How wide a text becomes at most, at a size in pixels; letters differ, and so do fonts.
fn width(text: &str, size: u32) -> f64 {
    text.chars().count() as f64 * f64::from(size) * 0.6
}

/// The class of a kind, and what the legend calls it.
fn style(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Ours => ("ours", "alvys-auth"),
        Kind::Floor => ("floor", "by hand"),
        Kind::Peer => ("peer", "public libraries"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
