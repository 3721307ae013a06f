//! Everything that anybody logged or could print, to be searched for what must not be there.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alvys_auth_core::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// A growing text; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Transcript(Arc<Mutex<Vec<u8>>>);

impl Transcript {
    /// Begins to record every event of this process.
    ///
    /// # Panics
    /// When somebody listens to the events already.
    pub fn record() -> Self {
        let transcript = Self::default();
        // Below DEBUG ureq prints every byte on the wire. That is for whoever turns it on; SECURITY.md says so.
        let levels = Targets::new().with_default(LevelFilter::TRACE).with_target("ureq_proto", LevelFilter::DEBUG);
        let everything = tracing_subscriber::fmt::layer().with_writer(transcript.clone()).with_ansi(false);
        tracing_subscriber::registry().with(everything.with_filter(levels)).init();
        transcript
    }

    /// What `shown` prints for debugging, in both forms.
    pub fn add(&self, shown: impl Debug) {
        self.bytes().extend(format!("{shown:?}\n{shown:#?}\n").bytes());
    }

    /// Everything that an error tells.
    pub fn add_error(&self, error: &Error) {
        self.add(error);
        let mut next: Option<&dyn StdError> = Some(error);
        while let Some(error) = next {
            self.add_text(error);
            next = error.source();
        }
        self.add_text(&error.hint());
    }

    /// What `shown` prints for people.
    pub fn add_text(&self, shown: &dyn Display) {
        self.bytes().extend(format!("{shown}\n").bytes());
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Transcript {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}
