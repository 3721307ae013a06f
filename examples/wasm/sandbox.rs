//! A local Alvys for `drive.mjs`, which starts it as a process of its own.
//!
//! It prints where it is and what opens it, obeys the lines it reads, and ends when there are no more.

use std::io::{self, BufRead};
use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route, Sandbox};

fn main() -> io::Result<()> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    println!("ALVYS_TOKEN_URL={}", sandbox.token_url());
    println!("ALVYS_ME_URL={}", sandbox.me_url());
    println!("ALVYS_CLIENT_ID={}", application.client_id());
    println!("ALVYS_CLIENT_SECRET={}", application.client_secret());
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "reject" => sandbox.reject_tokens(),
            "break" => sandbox.inject(Route::Token, Fault::unavailable().retry_after(Duration::from_secs(30))),
            "mend" => sandbox.clear_faults(),
            other => return Err(io::Error::other(format!("there is no command {other}"))),
        }
        println!("done");
    }
    Ok(())
}
