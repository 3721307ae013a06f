//! The tables of the report.

use std::fmt::Write as _;

use super::figures::{name, nanos, thousands, verdict};
use crate::measure::{Result, allocations, crates, fetch, instructions, time};
use crate::probe::{Case, Kind, Work};
use crate::results::Results;
use crate::work;

/// One section: what it is about, how to measure it, and its table.
pub(super) struct Section {
    /// The table in the data file.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) chart: Option<&'static str>,
    pub(super) command: &'static str,
    pub(super) table: fn(&Results) -> Result<String>,
}

macro_rules! command {
    ($name:literal) => {
        concat!("cargo run --release --manifest-path crates/alvys-auth-bench/Cargo.toml --features peers -- ", $name)
    };
}

pub(super) const SECTIONS: [Section; 9] = [
    Section {
        name: "allocations",
        title: "Allocations",
        about: "How often one run asks the allocator, and for how many bytes, once warm. Exact.",
        chart: None,
        command: command!("allocations"),
        table: allocations,
    },
    Section {
        name: "instructions",
        title: "Instructions",
        about: "Of one run, counted by valgrind's callgrind: the difference of 1,000 and 2,000 runs, by 1,000. Repeatable to a few \
                instructions with the same compiler. Reading the clock counts for less here than it takes, because valgrind hides \
                the kernel's fast path and does not see into system calls; that is the same for all subjects.",
        chart: Some("instructions.svg"),
        command: command!("instructions"),
        table: instructions,
    },
    Section {
        name: "time",
        title: "Time",
        about: "Median of one run, by criterion. On two threads each thread does as many runs as the one did, so the same time means \
                that readers do not hold each other up. Expect other figures on another machine, and the same order.",
        chart: None,
        command: command!("time"),
        table: time,
    },
    Section {
        name: "requests",
        title: "Requests and waits",
        about: "A loopback server counts requests while callers ask at the same time. It is written by hand, not the sandbox, because \
                signing tokens would take longer than what is measured. oauth2: n/a, it shares no token among callers; \
                tame-oauth: n/a, it sends nothing.\n\n\
                Who waits is who gets no answer within 20 ms; less than that is scheduling. Errors are those with different words. \
                Wall is from the first question to the last answer. Callers of the blocking driver are threads, and so only \
                1,000 instead of 10,000. A token that just expired lived for two seconds; inside the margin, it is old enough \
                for its library to renew it, whatever lifetime that takes. Where one question follows the other, an answer \
                that takes long leaves time for fewer of them: after 15 s (9 s where tokens live 5 s) no other is put, and in \
                the last table none after the first token. How many renewals get 503 is up to chance, because pauses are drawn \
                at random: mostly one or two. Where nearly each of 10,000 callers sends a request, both ends of them are in one \
                process, which had 20,000 file descriptors: that such callers fail is the limit's doing.",
        chart: Some("requests.svg"),
        command: command!("requests"),
        table: super::requests::tables,
    },
    Section {
        name: "recovery",
        title: "Recovery after an outage",
        about: "The loopback server fails for three seconds, counted from the first request, and is well from then on. One caller asks for a \
                token until it gets one, 50 ms after each error. Taken is the time from when the server is well until the first \
                token, of seven runs at the same time, each with a server and a source of its own; requests are those in the \
                outage, the median. After thirty seconds nobody waits any longer. How soon a token comes depends on the pause that \
                a source has just begun, and that is drawn at random. oauth2: n/a, it holds no token and leaves asking again to \
                its caller; tame-oauth: n/a, it sends nothing.",
        chart: None,
        command: command!("recovery"),
        table: super::recovery::table,
    },
    Section {
        name: "fetch",
        title: "An uncached fetch",
        about: "Over loopback, without TLS, beside a call written by hand with the same client (reqwest for the other libraries): a \
                plain one, which waits for ever, and one with the time limits of the driver. All of them keep their connections. With a time \
                limit ureq starts a thread to look up the host; the blocking driver does so for names only, and this is an address. Taken in pairs, in turn; \
                the ratio is the median of the ratios of the pairs. Whole runs differ more than their parts: how busy the machine is \
                decides what waking a thread costs, and with that all of these times.",
        chart: None,
        command: command!("fetch"),
        table: fetch,
    },
    Section {
        name: "tenants",
        title: "Many tenants in one process",
        about: "A process for each driver, filled with tenants over loopback; what is made once for all of them does not count. Live bytes are \
                what was asked of the allocator and not given back. Any of the tenants means each once in an order that no cache \
                foresees, so that is what the memory of the machine costs; the best of five tries. The instructions are counted as above, with 100 \
                tenants. A look-up hashes the tenant id, reads the part of the table that the id belongs to under a lock of its own, and \
                notes that the tenant is in use where that is not noted yet.",
        chart: None,
        command: "cargo run --release --manifest-path crates/alvys-auth-bench/Cargo.toml -- tenants",
        table: super::tenants::tables,
    },
    Section {
        name: "sharing",
        title: "Tokens that processes share",
        about: "Fifty processes, half of them with each driver, have been started and need a token at the same moment; the server takes 100 ms. \
                Ten times over, each time for another application; token requests are the most of these ten. Who does not ask itself looks at \
                the store every 20 to 100 ms. Redis is a redis-server of its own on this machine. An operation at a store derives the \
                key of the entry from the client secret, has its store carry it out, and opens what is there; the instructions are \
                counted as above, on a processor without instructions for SHA-256, as valgrind shows one: there are more of them.",
        chart: None,
        command: "cargo run --release --manifest-path crates/alvys-auth-bench/Cargo.toml -- sharing",
        table: super::sharing::tables,
    },
    Section {
        name: "crates",
        title: "What it brings into a build",
        about: "Distinct crates besides the library itself, and CPU time of a clean release build of an empty program that depends on \
                it: the median of five for the core and for a program that has only its dependencies, one build for the others. They \
                are built with their default features, oauth2 without an HTTP client, because the core has none either; \
                tame-oauth has none, the rest bring theirs.",
        chart: None,
        command: command!("crates"),
        table: crates,
    },
];

fn allocations(results: &Results) -> Result<String> {
    let records: Vec<allocations::Record> = results.records("allocations")?;
    by_work(&["allocations", "bytes"], |work| {
        let of_work = records.iter().filter(|record| record.case.work == work);
        let row = |record: &allocations::Record| Row {
            case: record.case.clone(),
            cells: vec![record.allocations.to_string(), thousands(record.bytes)],
            met: record.allocations <= most_allocations(&record.case),
        };
        let target = match work {
            Work::Build => "≤ 3",
            Work::Parse => "≤ 1 beyond what sharing the result takes, which is one for the text and one for the token",
            Work::Cached | Work::Tenant => "0",
            Work::Share => "",
        };
        (of_work.map(row).collect(), target)
    })
}

fn most_allocations(case: &Case) -> u64 {
    match case.work {
        Work::Build => 3,
        Work::Parse if case.subject == work::WITH_LIFECYCLE => 3,
        Work::Parse => 2,
        Work::Cached | Work::Tenant => 0,
        Work::Share => u64::MAX,
    }
}

fn instructions(results: &Results) -> Result<String> {
    let records: Vec<instructions::Record> = results.records("instructions")?;
    by_work(&["instructions"], |work| {
        let of_work = records.iter().filter(|record| record.case.work == work);
        let row = |record: &instructions::Record| Row {
            case: record.case.clone(),
            cells: vec![thousands(record.instructions)],
            met: record.instructions <= most_instructions(&record.case),
        };
        let target = match work {
            Work::Build => "≤ 1,400",
            Work::Parse => "≤ 8,100 for the answer alone",
            Work::Cached => "≤ 150 where the token is lent",
            Work::Tenant | Work::Share => "",
        };
        (of_work.map(row).collect(), target)
    })
}

fn most_instructions(case: &Case) -> u64 {
    match case.work {
        Work::Build => 1_400,
        Work::Parse if case.subject != work::WITH_LIFECYCLE => 8_100,
        Work::Cached if work::is_shared(&case.subject) => 150,
        _ => u64::MAX,
    }
}

/// Two threads that get in each other's way take twice as long and more; a tenth is what a shared machine makes of nothing.
const LINEAR: f64 = 1.1;

fn time(results: &Results) -> Result<String> {
    let records: Vec<time::Record> = results.records("time")?;
    let on_two = |case: &Case| {
        let same = |record: &&time::Record| record.threads == 2 && record.case == *case;
        records.iter().find(same).map(|record| record.nanos)
    };
    by_work(&["one thread", "two threads"], |work| {
        let of_work = records.iter().filter(|record| record.threads == 1 && record.case.work == work);
        let row = |record: &time::Record| {
            let two = on_two(&record.case);
            Row {
                case: record.case.clone(),
                cells: vec![nanos(record.nanos), two.map_or_else(|| "–".to_owned(), nanos)],
                met: two.is_none_or(|two| two <= record.nanos * LINEAR),
            }
        };
        let target = match work {
            Work::Cached => "where the token is lent, as fast on two threads as on one, to a tenth",
            _ => "",
        };
        (of_work.map(row).collect(), target)
    })
}

/// A row, and whether it meets its target.
struct Row {
    case: Case,
    cells: Vec<String>,
    met: bool,
}

/// One table for each piece of work, this library first.
fn by_work(columns: &[&str], rows: impl Fn(Work) -> (Vec<Row>, &'static str)) -> Result<String> {
    let mut text = String::new();
    for work in Work::ALL {
        let (heads, rules) = (columns.join(" | "), "---: | ".repeat(columns.len()));
        write!(text, "| {} | {heads} |\n| --- | {}\n", work.title(), rules.trim_end())?;
        let (rows, target) = rows(work);
        for Row { case, cells, .. } in &rows {
            writeln!(text, "| {} | {} |", name(case.kind, &case.subject), cells.join(" | "))?;
        }
        for (library, reason) in absent(work) {
            writeln!(text, "| {library} | n/a: {reason} {}", "| ".repeat(columns.len()).trim_end())?;
        }
        if !target.is_empty() {
            let ours = rows.iter().filter(|row| row.case.kind == Kind::Ours);
            text.push_str(&verdict(target, ours.map(|row| (row.case.subject.as_str(), row.met))));
        }
        text.push('\n');
    }
    text.pop();
    Ok(text)
}

/// The public libraries that do not do some work, and why.
fn absent(work: Work) -> &'static [(&'static str, &'static str)] {
    const INSIDE: &str = "done inside of its client";
    match work {
        Work::Build | Work::Parse => {
            &[("yup-oauth2", INSIDE), ("azure_identity", INSIDE), ("google-cloud-auth", INSIDE)]
        }
        Work::Cached => &[("oauth2", "holds no token")],
        Work::Tenant | Work::Share => &[],
    }
}

fn fetch(results: &Results) -> Result<String> {
    let records: Vec<fetch::Record> = results.records("fetch")?;
    let mut text =
        "| | takes | by hand | ratio | of each tenth of the run |\n| --- | ---: | ---: | ---: | ---: |\n".to_owned();
    for record in &records {
        writeln!(
            text,
            "| {} | {:.0} µs | {:.0} µs, {} | {:.2} | {:.2} to {:.2} |",
            name(record.kind, &record.subject),
            record.micros,
            record.floor_micros,
            floor(record),
            record.ratio,
            record.range.0,
            record.range.1
        )?;
    }
    let ours = records.iter().filter(|record| record.kind == Kind::Ours);
    let labels: Vec<_> = ours
        .map(|record| {
            let beside = if record.same_settings { "with the same settings" } else { "beside a plain call" };
            (format!("{} {beside}", record.subject), record.ratio <= 1.05)
        })
        .collect();
    text.push_str(&verdict("≤ 1.05", labels.iter().map(|(label, met)| (label.as_str(), *met))));
    text.push_str("\ntame-oauth: n/a, it sends nothing; google-cloud-auth: n/a, nothing makes it fetch at once.\n");
    Ok(text)
}

fn floor(record: &fetch::Record) -> String {
    let settings = if record.same_settings { "with the driver's settings" } else { "plain" };
    format!("{} {settings}", record.client)
}

fn crates(results: &Results) -> Result<String> {
    let records: Vec<crates::Record> = results.records("crates")?;
    let mut text = "| | crates | CPU time | ratio |\n| --- | ---: | ---: | ---: |\n".to_owned();
    for record in &records {
        writeln!(
            text,
            "| {} | {} | {:.1} s | {:.2} |",
            name(record.kind, &record.subject),
            record.crates,
            record.cpu_seconds,
            record.ratio
        )?;
    }
    let ours = records.iter().filter(|record| record.kind == Kind::Ours);
    let met = ours.map(|record| (record.subject.as_str(), record.crates <= 24 && record.ratio <= 1.3));
    text.push_str(&verdict("≤ 24 crates and ≤ 1.3 times its dependencies alone", met));
    Ok(text)
}
