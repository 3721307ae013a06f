//! The tables of requests and waits, one for each scenario.

use std::fmt::Write as _;

use super::figures::{millis, name, thousands, verdict};
use crate::measure::Result;
use crate::probe::Kind;
use crate::results::Results;
use crate::scenarios::{Outcome, Scenario};

pub(super) fn tables(results: &Results) -> Result<String> {
    let records: Vec<Outcome> = results.records("requests")?;
    let mut text = String::new();
    for scenario in Scenario::ALL {
        write!(
            text,
            "**{}**\n\n| | server takes | callers | requests | failed | errors | waited | longest wait | wall |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            capital(scenario.title()),
        )?;
        let outcomes = || records.iter().filter(|outcome| outcome.scenario == scenario);
        for outcome in outcomes() {
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                name(outcome.kind(), &outcome.subject),
                millis(outcome.latency_ms as f64),
                thousands(outcome.callers as u64),
                thousands(outcome.requests as u64),
                thousands(outcome.failures as u64),
                thousands(outcome.errors as u64),
                thousands(outcome.waited as u64),
                millis(outcome.longest_ms),
                millis(outcome.wall_ms)
            )?;
        }
        let ours = outcomes().filter(|outcome| outcome.kind() == Kind::Ours);
        let met = ours.map(|outcome| (outcome.subject.as_str(), meets_target(outcome)));
        text.push_str(&verdict(target(scenario), met));
        if scenario == Scenario::Cancelled {
            text.push_str("\nalvys-auth-ureq: n/a, a blocking call cannot be cancelled.\n");
        }
        text.push('\n');
    }
    text.pop();
    Ok(text)
}

fn target(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Cold | Scenario::Expiry => "1 request, wall ≤ the server's latency + 30 ms",
        Scenario::Refused => "1 request, one error for all",
        Scenario::SlowRenewal | Scenario::FailingRenewal => "nobody waits, nobody fails",
        Scenario::ShortLived => "≤ 3 requests, only the first caller waits",
        Scenario::Cancelled => "≤ 2 requests, nobody fails",
        Scenario::RefusedOnce => "the next permitted request succeeds, so 2 requests and a token in the end",
    }
}

fn meets_target(outcome: &Outcome) -> bool {
    let Outcome { callers, requests, failures, waited, .. } = *outcome;
    match outcome.scenario {
        Scenario::Cold | Scenario::Expiry => {
            requests == 1 && failures == 0 && outcome.wall_ms <= outcome.latency_ms as f64 + 30.0
        }
        Scenario::Refused => requests == 1 && failures == callers && outcome.errors == 1,
        Scenario::SlowRenewal | Scenario::FailingRenewal => waited == 0 && failures == 0,
        Scenario::ShortLived => requests <= 3 && waited <= 1 && failures == 0,
        Scenario::Cancelled => requests <= 2 && failures == 0,
        Scenario::RefusedOnce => requests == 2 && failures == callers - 1,
    }
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(requests: usize, failures: usize, errors: usize) -> Outcome {
        Outcome {
            scenario: Scenario::Refused,
            subject: "alvys-auth-reqwest".to_owned(),
            callers: 200,
            latency_ms: 20,
            requests,
            failures,
            errors,
            waited: 200,
            longest_ms: 25.0,
            wall_ms: 25.0,
        }
    }

    #[test]
    fn a_refusal_is_one_request_and_one_error_for_every_caller() {
        assert!(meets_target(&refused(1, 200, 1)));
        assert!(!meets_target(&refused(2, 200, 1)));
        assert!(!meets_target(&refused(1, 199, 1)));
        assert!(!meets_target(&refused(1, 200, 2)));
    }
}
