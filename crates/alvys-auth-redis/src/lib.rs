#![doc = include_str!("../README.md")]

mod address;
mod breaker;
mod failure;
mod link;
mod script;
mod store;

pub use store::RedisStore;
