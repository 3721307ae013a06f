//! What happens in a storm: one fault after the other, drawn from a seed.

use std::thread::sleep;
use std::time::Duration;

use alvys_auth_core::{Credentials, Error};
use alvys_auth_sandbox::{Fault, Route, Sandbox};

pub(super) struct Weather<'a> {
    sandbox: &'a Sandbox,
    tokens_async: &'a alvys_auth_reqwest::TokenSource,
    tokens_blocking: &'a alvys_auth_ureq::TokenSource,
    /// The state of a xorshift generator; never 0.
    state: u64,
    rotations: u32,
}

impl<'a> Weather<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        tokens_async: &'a alvys_auth_reqwest::TokenSource,
        tokens_blocking: &'a alvys_auth_ureq::TokenSource,
        seed: u64,
    ) -> Self {
        Self { sandbox, tokens_async, tokens_blocking, state: seed.max(1), rotations: 0 }
    }

    /// One fault; now and then there is none.
    pub(super) fn change(&mut self) -> Result<(), Error> {
        let fault = match self.draw(14) {
            0 => Fault::delay(Duration::from_millis(self.draw(2_048))).times(2),
            1 => Fault::unavailable().times(1 + self.draw(4) as u32),
            2 => Fault::rate_limited(Duration::from_secs(2)).once(),
            3 => Fault::truncate().once(),
            4 => Fault::reset().once(),
            5 => Fault::hang().once(),
            6 => Fault::reply(200, "<html>bot check</html>").header("content-type", "text/html").once(),
            7 => Fault::disguised_rate_limit().once(),
            8 | 9 => {
                self.sandbox.reject_tokens();
                return Ok(());
            }
            10 => return self.rotate(),
            11 => {
                self.tokens_async.invalidate();
                return Ok(());
            }
            12 => {
                self.tokens_blocking.invalidate();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.sandbox.inject(Route::Token, fault);
        Ok(())
    }

    /// How long until the next one.
    pub(super) fn pause(&mut self, mean: Duration) -> Duration {
        let mean = mean.as_millis() as u64;
        Duration::from_millis(mean / 2 + self.draw(mean.max(1)))
    }

    /// The server has a new secret, and a while later the sources learn of it.
    fn rotate(&mut self) -> Result<(), Error> {
        self.rotations += 1;
        let (application, secret) = (self.sandbox.application(), format!("rotated-secret-{}", self.rotations));
        self.sandbox.rotate_secret(application.client_id(), secret.clone());
        sleep(Duration::from_millis(self.draw(1_024)));
        let credentials = Credentials::new(application.client_id(), secret)?;
        self.tokens_async.set_credentials(credentials.clone())?;
        self.tokens_blocking.set_credentials(credentials)?;
        Ok(())
    }

    /// A number below `end`.
    fn draw(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % end
    }
}
