//! The tables of recoveries, one for each kind of outage.

use std::fmt::Write as _;

use super::figures::{millis, name, verdict};
use crate::measure::Result;
use crate::measure::recovery::{LIMIT, Outage, Record};
use crate::probe::Kind;
use crate::results::Results;

/// Within which time of the server a token is wanted, in milliseconds.
const WANTED: f64 = 5_000.0;

pub(super) fn table(results: &Results) -> Result<String> {
    let records: Vec<Record> = results.records("recovery")?;
    let mut text = String::new();
    for outage in Outage::ALL {
        write!(
            text,
            "**{}**\n\n| | taken, median | longest | requests in the outage |\n| --- | ---: | ---: | ---: |\n",
            outage.title()
        )?;
        for record in records.iter().filter(|record| record.outage == outage) {
            let Record { subject, kind, median_ms, longest_ms, requests, .. } = record;
            let (median, longest) = (taken(*median_ms), taken(*longest_ms));
            writeln!(text, "| {} | {median} | {longest} | {requests} |", name(*kind, subject))?;
        }
        text.push('\n');
    }
    let ours = records.iter().filter(|record| record.kind == Kind::Ours);
    let met = ours.map(|record| (record.subject.as_str(), record.longest_ms <= WANTED));
    text.truncate(text.trim_end().len() + 1);
    text.push_str(&verdict("a token within 5 s of the server's being well", met));
    Ok(text)
}

fn taken(wait: f64) -> String {
    if wait < LIMIT.as_secs_f64() * 1e3 { millis(wait) } else { "none within 30 s".to_owned() }
}
