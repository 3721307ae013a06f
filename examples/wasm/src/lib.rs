//! The core as a WebAssembly module that imports nothing: no clock, no socket, no random numbers, not even memory.
//!
//! JavaScript owns all of those and drives the lifecycle through the few functions of [`abi`]; texts go both ways as
//! JSON. `drive.mjs` beside this crate is such a driver, as it would run in an edge worker.
//!
//! `.ci/constrained` builds and drives it, also where the target is not installed. By hand, in this folder:
//!
//! ```sh
//! cargo build --release --target wasm32-unknown-unknown
//! node drive.mjs target/wasm32-unknown-unknown/release/alvys_auth_wasm_example.wasm
//! ```

mod abi;
mod sources;
