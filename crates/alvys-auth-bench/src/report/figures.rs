//! How the tables write names, figures and whether a target is met.

use crate::probe::Kind;

/// The target, and who of ours misses it.
pub(super) fn verdict<'a>(target: &str, ours: impl Iterator<Item = (&'a str, bool)>) -> String {
    let mut missed: Vec<&str> = ours.filter(|(_, met)| !met).map(|(subject, _)| subject).collect();
    missed.dedup();
    if missed.is_empty() {
        format!("\nTarget: {target}. Met.\n")
    } else {
        format!("\nTarget: {target}. **Missed** by {}.\n", missed.join("; "))
    }
}

pub(super) fn name(kind: Kind, subject: &str) -> String {
    match kind {
        Kind::Ours => format!("**{subject}**"),
        Kind::Floor => format!("floor: {subject}"),
        Kind::Peer => subject.to_owned(),
    }
}

pub(super) fn millis(value: f64) -> String {
    if value < 10.0 { format!("{value} ms") } else { format!("{} ms", thousands(value.round() as u64)) }
}

pub(super) fn nanos(value: f64) -> String {
    if value < 1_000.0 { format!("{value:.0} ns") } else { format!("{:.2} µs", value / 1_000.0) }
}

pub(super) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
