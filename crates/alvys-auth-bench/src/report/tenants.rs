//! The tables about many tenants in one process.

use std::fmt::Write as _;

use super::figures::{millis, name, nanos, thousands, verdict};
use crate::measure::Result;
use crate::measure::instructions;
use crate::measure::tenants::{Filled, Record, Renewed};
use crate::probe::{Kind, Work};
use crate::results::Results;

pub(super) fn tables(results: &Results) -> Result<String> {
    let records: Vec<Record> = results.records("tenants")?;
    let (mut filled, mut looked_up, mut renewed) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Filled(record) => filled.push(record),
            Record::Lookup(record) => looked_up.push(record),
            Record::Renewed(record) => renewed.push(record),
        }
    }
    Ok([memory(&filled)?, time(&filled)?, instructions(&looked_up)?, renewal(&renewed)?].join("\n"))
}

fn memory(records: &[Filled]) -> Result<String> {
    let mut text = "**What a tenant takes beside the text of its token**\n\n\
                    | | tenants | live bytes | resident |\n| --- | ---: | ---: | ---: |\n"
        .to_owned();
    for Filled { subject, tenants, bytes, resident, .. } in records {
        let resident = resident.map_or_else(|| "–".to_owned(), |bytes| thousands(bytes.round() as u64));
        let (subject, tenants) = (name(Kind::Ours, subject), thousands(*tenants as u64));
        writeln!(text, "| {subject} | {tenants} | {} | {resident} |", thousands(bytes.round() as u64))?;
    }
    Ok(text)
}

fn time(records: &[Filled]) -> Result<String> {
    let mut text = "**Time to lend a token, of one run**\n\n\
                    | | any of the tenants | the same tenant each time | a source at hand | ratio |\n\
                    | --- | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for Filled { subject, lookup, hot, single, .. } in records {
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} and {:.1} |",
            name(Kind::Ours, subject),
            nanos(*lookup),
            nanos(*hot),
            nanos(*single),
            lookup / single,
            hot / single
        )?;
    }
    Ok(text)
}

fn instructions(records: &[instructions::Record]) -> Result<String> {
    let mut text = "**Instructions to get at a token**\n\n| | of a tenant | of a source at hand | ratio |\n\
                    | --- | ---: | ---: | ---: |\n"
        .to_owned();
    for record in records.iter().filter(|record| record.case.work == Work::Tenant) {
        let same = |other: &&instructions::Record| {
            other.case.work == Work::Cached && other.case.subject == record.case.subject
        };
        let Some(single) = records.iter().find(same) else { continue };
        writeln!(
            text,
            "| {} | {} | {} | {:.1} |",
            name(Kind::Ours, &record.case.subject),
            thousands(record.instructions),
            thousands(single.instructions),
            record.instructions as f64 / single.instructions as f64
        )?;
    }
    Ok(text)
}

fn renewal(records: &[Renewed]) -> Result<String> {
    let mut text = "**All tokens due for renewal within two seconds**\n\n\
                    | | tenants | server takes | at a time, allowed | at a time, seen | requests | lapsed | took | at least |\n\
                    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for record in records {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            name(Kind::Ours, &record.subject),
            thousands(record.tenants as u64),
            millis(record.latency_ms as f64),
            record.concurrency,
            record.peak,
            thousands(record.requests as u64),
            record.lapsed,
            millis(record.wall_ms),
            millis(floor(record))
        )?;
    }
    let met = records.iter().map(|record| (record.subject.as_str(), meets_target(record)));
    let target = "never more at a time than allowed, one request for each tenant, no tenant without a token, \
                  within 1.3 times what the limit makes it take at least";
    text.push_str(&verdict(target, met));
    Ok(text)
}

/// What so many requests take when as many as allowed are under way all the time, in milliseconds.
fn floor(record: &Renewed) -> f64 {
    record.tenants as f64 / record.concurrency as f64 * record.latency_ms as f64
}

fn meets_target(record: &Renewed) -> bool {
    record.peak <= record.concurrency
        && record.requests == record.tenants
        && record.lapsed == 0
        && record.wall_ms <= 1.3 * floor(record)
}
