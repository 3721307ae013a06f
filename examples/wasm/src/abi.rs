//! The boundary: what JavaScript sees of this module.
//!
//! Texts go in and out through two buffers that the module owns, so that nothing here reads through a pointer: whatever
//! a function is called with, the worst that comes back is an error. To call one that takes a text, ask [`alvys_input`]
//! for room, write the text there, then call. One that answers returns the length of its answer, which lies at
//! [`alvys_output`] until the next call. Moments are milliseconds on JavaScript's own clock.
//!
//! Nothing here panics: all input is checked, and the lints of this crate forbid what could.
#![allow(
    unsafe_code,
    reason = "JavaScript calls functions by name; such a name must be the only one of its kind in the whole program, \
              and `alvys_` is this module's own prefix"
)]

use std::cell::RefCell;

use alvys_auth_core::Timestamp;
use zeroize::{Zeroize, Zeroizing};

use crate::sources::Sources;

/// The longest text that is taken, in bytes: an answer may have 64 KiB, and JSON can make six times that of it.
const LONGEST_INPUT: usize = 512 * 1024;

#[derive(Default)]
struct Module {
    input: Zeroizing<Vec<u8>>,
    output: Zeroizing<Vec<u8>>,
    sources: Sources,
}

thread_local! {
    static MODULE: RefCell<Module> = RefCell::default();
}

/// Room for a text of `length` bytes, to be written before the next call; null when that is too long.
#[unsafe(no_mangle)]
extern "C" fn alvys_input(length: usize) -> *mut u8 {
    if length > LONGEST_INPUT {
        return std::ptr::null_mut();
    }
    with(|module| {
        module.input = Zeroizing::new(vec![0; length]);
        module.input.as_mut_ptr()
    })
    .unwrap_or(std::ptr::null_mut())
}

/// Where the answer to the last call lies.
#[unsafe(no_mangle)]
extern "C" fn alvys_output() -> *const u8 {
    with(|module| module.output.as_ptr()).unwrap_or(std::ptr::null())
}

/// Wipes both buffers: the last text could be a token.
#[unsafe(no_mangle)]
extern "C" fn alvys_wipe() {
    with(|module| {
        module.input.zeroize();
        module.output.zeroize();
    });
}

/// Makes a source from a configuration; answers `{"source": number}`, or `{"fail": error}`.
#[unsafe(no_mangle)]
extern "C" fn alvys_source_new() -> usize {
    answer(|sources, input| sources.create(input))
}

/// Ends a source; its number is not used again.
#[unsafe(no_mangle)]
extern "C" fn alvys_source_free(source: u32) {
    with(|module| module.sources.remove(source));
}

/// Says what to do: `use`, `fetch`, `wait` or `fail`.
#[unsafe(no_mangle)]
extern "C" fn alvys_poll(source: u32, now: f64) -> usize {
    answer(|sources, _| sources.poll(source, timestamp(now)))
}

/// Takes in an answer, `{"status": number, "headers": [[name, value]], "body": text}`, and says what that changed.
#[unsafe(no_mangle)]
extern "C" fn alvys_complete(source: u32, attempt: u32, now: f64) -> usize {
    answer(|sources, input| sources.complete(source, attempt, input, timestamp(now)))
}

/// Takes in that no answer came, and the reason as plain text; says what that changed.
#[unsafe(no_mangle)]
extern "C" fn alvys_failed(source: u32, attempt: u32, now: f64) -> usize {
    answer(|sources, input| sources.failed(source, attempt, input, timestamp(now)))
}

/// Takes in that the API answered 401 to the header in the input; answers `{"retry": whether that is worth it}`.
#[unsafe(no_mangle)]
extern "C" fn alvys_reject(source: u32, now: f64) -> usize {
    answer(|sources, input| sources.reject(source, input, timestamp(now)))
}

/// The state in plain values, for health checks. Holds no secret.
#[unsafe(no_mangle)]
extern "C" fn alvys_status(source: u32, now: f64) -> usize {
    answer(|sources, _| sources.status(source, timestamp(now)))
}

/// Calls `work` with the input, which is used up by that, and lays its answer into the output.
fn answer(work: impl FnOnce(&mut Sources, &[u8]) -> Vec<u8>) -> usize {
    with(|module| {
        let input = std::mem::take(&mut module.input);
        module.output = Zeroizing::new(work(&mut module.sources, &input));
        module.output.len()
    })
    .unwrap_or(0)
}

/// None, not a panic, if this thread is in the middle of a call or at its end; neither can be in WebAssembly.
fn with<T>(work: impl FnOnce(&mut Module) -> T) -> Option<T> {
    let attempt = |module: &RefCell<Module>| module.try_borrow_mut().ok().map(|mut module| work(&mut module));
    MODULE.try_with(attempt).ok().flatten()
}

/// Fractions of a millisecond are cut off; what is no point in time counts as the origin.
fn timestamp(now: f64) -> Timestamp {
    Timestamp::from_millis(now as u64)
}
