#![doc = include_str!("../README.md")]

pub mod check;
pub mod crowd;
mod floor;
pub mod input;
pub mod loopback;
pub mod measure;
#[cfg(feature = "peers")]
pub mod peers;
pub mod poll;
pub mod probe;
pub mod report;
pub mod results;
pub mod scenarios;
pub mod storm;
pub mod subject;
pub mod work;
