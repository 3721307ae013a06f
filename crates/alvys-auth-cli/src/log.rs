//! The log on stderr: `-v` shows each decision, `-vv` also requests and responses without secrets. At a terminal, warnings are
//! shown without `-v` too.

use std::env;
use std::io::{self, IsTerminal, Write};

use alvys_auth_core::is_invisible;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{fmt, registry};

use crate::notices;

/// Starts the log. `verbose` is the number of `-v` flags.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        // A person reads warnings; a script that succeeds gets a silent stderr, unless somebody has to know something.
        0 if io::stderr().is_terminal() => return notices::start("alvys_auth"),
        0 => return notices::start("alvys_auth::notice"),
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let colored = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().without_time().with_target(false).with_ansi(colored).with_writer(Stderr { colored });
    let logged = registry().with(lines).with(Targets::new().with_target("alvys_auth", level));
    // Fails only when there is a subscriber already. There is none.
    let _ = tracing::subscriber::set_global_default(logged);
}

/// Stderr without control characters, except for the colors of the log itself.
#[derive(Clone, Copy)]
struct Stderr {
    colored: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let keep = |c: char| c == '\n' || c == '\u{1b}' && self.colored || !is_invisible(c);
        let shown: String = text.chars().map(|c| if keep(c) { c } else { ' ' }).collect();
        io::stderr().write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
