//! Puts both drivers through a storm: `storm <seconds> <lifetime in seconds> <gap in milliseconds> <seed>`, by default
//! `storm 300 60 3000 1`. Prints what came of it; the exit code is 0 when no call was stuck and everybody was well again.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use alvys_auth_bench::storm::Storm;

fn main() -> ExitCode {
    let argument = |place, otherwise| match env::args().nth(place) {
        Some(text) => text.parse(),
        None => Ok(otherwise),
    };
    let (Ok(seconds), Ok(lifetime), Ok(gap), Ok(seed)) =
        (argument(1, 300), argument(2, 60), argument(3, 3_000), argument(4, 1))
    else {
        eprintln!("usage: storm <seconds> <lifetime in seconds> <gap in milliseconds> <seed>");
        return ExitCode::FAILURE;
    };
    let storm = Storm {
        length: Duration::from_secs(seconds),
        lifetime: Duration::from_secs(lifetime),
        gap: Duration::from_millis(gap),
        seed,
    };
    match storm.run() {
        Ok(aftermath) => {
            println!("{aftermath}");
            ExitCode::from(u8::from(!aftermath.is_sound()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
