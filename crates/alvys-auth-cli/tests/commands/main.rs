//! End-to-end tests of the commands that call, look and explain, against a local Alvys.

mod doctor;
mod export;
mod inspect;
mod migrate;
mod request;
mod support;
