//! The report of `doctor` and `migrate`: findings for people or as JSON, and the worst of them as a failure.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::messages::{self, one_line};
use crate::output;

/// The result of one step.
#[derive(Debug)]
enum State {
    Fine,
    Warning,
    Failed(Box<Failure>),
    Skipped,
}

#[derive(Debug)]
struct Finding {
    step: &'static str,
    state: State,
    what: String,
    todo: Option<String>,
}

/// The findings, in the order of the steps.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    /// More members of the JSON report.
    facts: serde_json::Map<String, Value>,
}

impl Report {
    /// Adds: the step is in order.
    pub(crate) fn fine(&mut self, step: &'static str, what: impl AsRef<str>) {
        self.add(step, State::Fine, what.as_ref(), None);
    }

    /// Adds: the step works, but something is unusual.
    pub(crate) fn warning(&mut self, step: &'static str, what: impl AsRef<str>, todo: impl AsRef<str>) {
        self.add(step, State::Warning, what.as_ref(), Some(todo.as_ref()));
    }

    /// Adds: the step failed. A failure with the same advice as one before is left out.
    pub(crate) fn failed(&mut self, step: &'static str, failure: Failure) {
        let told = |finding: &Finding| {
            matches!(finding.state, State::Failed(_)) && finding.todo.as_deref() == Some(failure.todo.as_str())
        };
        if !self.findings.iter().any(told) {
            let (what, todo) = (failure.what.clone(), failure.todo.clone());
            self.add(step, State::Failed(Box::new(failure)), &what, Some(&todo));
        }
    }

    /// Adds: the step was not tried.
    pub(crate) fn skipped(&mut self, step: &'static str, why: impl AsRef<str>) {
        self.add(step, State::Skipped, why.as_ref(), None);
    }

    /// Adds a member to the JSON report.
    pub(crate) fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    /// Whether something failed so far.
    pub(crate) fn has_failed(&self) -> bool {
        self.worst().is_some()
    }

    fn add(&mut self, step: &'static str, state: State, what: &str, todo: Option<&str>) {
        self.findings.push(Finding { step, state, what: one_line(what), todo: todo.map(one_line) });
    }

    /// The failure with the highest exit code. The first one when there are several.
    fn worst(&self) -> Option<&Failure> {
        let failures = self.findings.iter().rev().filter_map(|finding| match &finding.state {
            State::Failed(failure) => Some(&**failure),
            _ => None,
        });
        failures.max_by_key(|failure| failure.class.code())
    }

    /// Prints all findings.
    ///
    /// # Errors
    /// The worst failure, when a step failed.
    pub(crate) fn conclude(mut self, json: bool) -> Result<(), Failure> {
        let worst = self.worst().cloned();
        let facts = std::mem::take(&mut self.facts);
        output::payload(&if json { self.json(facts, worst.as_ref()) } else { self.lines() })?;
        worst.map_or(Ok(()), Err)
    }

    fn json(&self, facts: serde_json::Map<String, Value>, worst: Option<&Failure>) -> String {
        let findings = self.findings.iter().map(|Finding { step, state, what, todo }| {
            let failure = match state {
                State::Failed(failure) => Some(failure),
                _ => None,
            };
            json!({
                "step": step,
                "state": state.word(),
                "message": what,
                "todo": todo,
                "class": failure.map(|failure| failure.class),
                "retry_after": failure.and_then(|failure| failure.wait_seconds()),
                "status": failure.and_then(|failure| failure.status),
                "request_id": failure.and_then(|failure| failure.request_id.clone()),
            })
        });
        let mut object = facts;
        object.insert("ok".to_owned(), json!(worst.is_none()));
        object.insert("code".to_owned(), json!(worst.map_or(0, |failure| failure.class.code())));
        object.insert("findings".to_owned(), findings.collect());
        messages::json_line(&Value::Object(object))
    }

    fn lines(&self) -> String {
        let terminal = io::stdout().is_terminal();
        let colored = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut lines = String::new();
        for Finding { step, state, what, todo } in &self.findings {
            let mark = if terminal { state.tick() } else { state.word() };
            let width = if terminal { 1 } else { 7 };
            let mark = format!("{mark:<width$}");
            let mark = if colored { format!("\u{1b}[{}m{mark}\u{1b}[0m", state.color()) } else { mark };
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{mark} {step:<16} {what}");
            if let Some(todo) = todo {
                let _ = writeln!(lines, "{:width$} {:<16} to do: {todo}", "", "");
            }
        }
        lines
    }
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn tick(&self) -> &'static str {
        match self {
            Self::Fine => "✓",
            Self::Warning => "!",
            Self::Failed(_) => "✗",
            Self::Skipped => "-",
        }
    }

    fn color(&self) -> u8 {
        match self {
            Self::Fine => 32,
            Self::Warning => 33,
            Self::Failed(_) => 31,
            Self::Skipped => 2,
        }
    }
}
