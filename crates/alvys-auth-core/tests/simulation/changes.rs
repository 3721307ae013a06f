//! What happens to a world beside its attempts: the provider, rejected and stored tokens, and other credentials.

use super::*;

impl World {
    pub(super) fn provider_answers(&mut self) {
        self.lifecycle.provider_answered();
        self.question = None;
    }

    pub(super) fn store(&mut self, change: Stored) {
        self.serial += 1;
        let Some((credentials, mark)) = &mut self.stored else { return };
        let secret = format!("secret-{}", self.serial);
        *mark += 1;
        *credentials = match change {
            Stored::Secret => Credentials::new(credentials.client_id(), secret),
            Stored::Client => Credentials::new(format!("client-{}", self.serial), secret),
            Stored::Mark => Ok(credentials.clone()),
            Stored::Back => Credentials::new("my-client", "s3cret"),
        }
        .expect("legal credentials");
    }

    fn token(&mut self, seconds: u64, organization: &str) -> TokenResponse {
        self.serial += 1;
        let text = jwt(&json!({"org_name": organization, "serial": self.serial}));
        TokenResponse::new(&text, Duration::from_secs(seconds), "").expect("a legal token")
    }

    pub(super) fn reject(&mut self, which: usize) {
        if self.seen.is_empty() {
            return;
        }
        let token = self.seen[which % self.seen.len()].clone();
        let is_held = |lifecycle: &Lifecycle| lifecycle.snapshot().status(self.now).expires_in;
        let before = is_held(&self.lifecycle);
        let worth_a_retry = self.lifecycle.reject(&token, self.now);
        let after = is_held(&self.lifecycle);
        if before != after {
            assert!(worth_a_retry && after.is_none());
            assert_eq!(self.held_until, Some(token.expires_at()), "another token than the rejected one is gone");
        }
        if after.is_none() {
            self.held_until = None;
            self.completed = None;
        }
    }

    pub(super) fn adopt(&mut self, seconds: u64) {
        let response = self.token(seconds, "va336");
        let expires_at = self.now.saturating_add(Duration::from_secs(seconds));
        let better = self.held_until.is_none_or(|until| until <= self.now || until < expires_at);
        assert_eq!(self.lifecycle.adopt(response, self.now), better);
        if better {
            self.held_until = Some(expires_at);
            self.completed = None;
        }
    }

    pub(super) fn set_credentials(&mut self, same_client: bool) {
        self.serial += 1;
        let id = if same_client { self.in_use.client_id().to_owned() } else { format!("client-{}", self.serial) };
        let credentials = Credentials::new(id, format!("secret-{}", self.serial)).expect("legal credentials");
        assert!(self.lifecycle.set_credentials(credentials.clone()).expect("a legal request"));
        if !same_client {
            self.held_until = None;
        }
        self.install(credentials, same_client);
    }

    pub(super) fn install(&mut self, credentials: Credentials, same_client: bool) {
        self.in_use = credentials;
        self.installed += 1;
        self.outdated = self.attempts;
        self.live = None;
        self.completed = None;
        if !(same_client && self.failure.is_some_and(|failure| failure.retryable)) {
            self.failure = None;
            self.word = Timestamp::default();
        }
    }
}
