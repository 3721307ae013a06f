//! What is written to stderr without `-v`: warnings at a terminal, and elsewhere only what has to be known.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, registry};

use crate::messages;

/// Prints the warnings of `target`, unless they are printed already.
pub(crate) fn start(target: &str) {
    let noticed = registry().with(Notices).with(Targets::new().with_target(target, Level::WARN));
    // Fails when the log of `-v` is on, or when this was called before.
    let _ = tracing::subscriber::set_global_default(noticed);
}

struct Notices;

impl<S: Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        messages::complain(&format!(
            "alvys-auth: {}",
            messages::one_line(&format!("{}{}", sentence.what, sentence.why))
        ));
    }
}

/// The message of an event, and its reason.
#[derive(Default)]
struct Sentence {
    what: String,
    why: String,
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.what, "{value:?}"),
            "error" => write!(self.why, ": {value:?}"),
            _ => Ok(()),
        };
    }
}
