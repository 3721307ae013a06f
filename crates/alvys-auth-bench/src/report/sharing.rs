//! The tables about processes that share a token.

use std::fmt::Write as _;

use super::figures::{millis, thousands, verdict};
use crate::measure::Result;
use crate::measure::sharing::{Crowd, Operations, Record};
use crate::results::Results;

pub(super) fn tables(results: &Results) -> Result<String> {
    let records: Vec<Record> = results.records("sharing")?;
    let mut crowds = "**Fifty processes that need a token at the same moment**\n\n\
                      | shared through | token requests | time to a token, p50 | p99 |\n| --- | ---: | ---: | ---: |\n"
        .to_owned();
    let mut operations =
        "**How often the store is asked**\n\n| | operations | claims among them |\n| --- | ---: | ---: |\n".to_owned();
    let mut times = "**Time of an operation**\n\n| | median |\n| --- | ---: |\n".to_owned();
    let mut instructions = "**Instructions of an operation**\n\n| | instructions |\n| --- | ---: |\n".to_owned();
    let mut met = true;
    for record in &records {
        match record {
            Record::Crowd(Crowd { store, requests, p50_ms, p99_ms, .. }) => {
                met &= *requests == 1 || store.starts_with("none");
                writeln!(crowds, "| {store} | {requests} | {} | {} |", millis(*p50_ms), millis(*p99_ms))?;
            }
            Record::Operations(Operations { what, operations: times, claims }) => {
                met &= *times == 0 || !what.contains("uses");
                writeln!(operations, "| {what} | {times} | {claims} |")?;
            }
            Record::Took { what, micros } => writeln!(times, "| {what} | {micros:.1} µs |")?,
            Record::Counted(record) => {
                writeln!(instructions, "| {} | {} |", record.case.subject, thousands(record.instructions))?;
            }
        }
    }
    let target = verdict(
        "one token request where the token is shared, and no operation for its use",
        [("the store", met)].into_iter(),
    );
    Ok(format!("{crowds}\n{operations}\n{times}\n{instructions}{target}"))
}
