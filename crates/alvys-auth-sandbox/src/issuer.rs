//! Issues access tokens and checks them later.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    application::Application,
    clock::whole_ms,
    signing::{self, Algorithm, Keys},
};

/// Everything that makes and checks the tokens of one sandbox.
#[derive(Debug)]
pub(crate) struct Issuer {
    name: String,
    keys: Keys,
    serial: AtomicU64,
    rejected: AtomicU64,
}

impl Issuer {
    /// An issuer with `name` as its `iss` claim.
    pub(crate) fn new(name: String) -> Self {
        Self { name, keys: Keys::new(), serial: AtomicU64::new(0), rejected: AtomicU64::new(0) }
    }

    /// A token of the current flow: RS256, with all scopes of the application.
    pub(crate) fn current(&self, application: &Application, life: Lifespan) -> String {
        self.keys.sign_rs256(&json!({
            "iss": self.name,
            "sub": format!("{}@clients", application.client_id()),
            "aud": application.audience(),
            "iat": life.issued_at(),
            "exp": life.expires_at(),
            "scope": application.scopes().join(" "),
            "gty": "client-credentials",
            "azp": application.client_id(),
            "client_name": application.client_name(),
            "org_id": application.organization_id(),
            "org_name": application.tenant(),
            "jti": self.next_id(life),
        }))
    }

    /// A token of the legacy flow: HS256, without scopes.
    pub(crate) fn legacy(&self, application: &Application, life: Lifespan) -> String {
        self.keys.sign_hs256(&json!({
            "iss": self.name,
            "sub": application.client_id(),
            "iat": life.issued_at(),
            "exp": life.expires_at(),
            "client_name": application.client_name(),
            "org_id": application.organization_id(),
            "org_name": application.tenant(),
            "jti": self.next_id(life),
        }))
    }

    /// An opaque token, which the API refuses.
    pub(crate) fn opaque(&self) -> String {
        signing::random_text(32)
    }

    /// The public keys as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> Value {
        self.keys.jwks()
    }

    /// Revokes all tokens issued so far.
    pub(crate) fn reject_all(&self) {
        self.rejected.store(self.serial.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Checks a token. The error says what is wrong with it.
    pub(crate) fn check(&self, token: &str, now_ms: i64) -> Result<Bearer, &'static str> {
        let (algorithm, claims) =
            self.keys.verify(token).ok_or("The access token is malformed or its signature is wrong.")?;
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        if text("iss") != self.name {
            return Err("The access token was issued by another server.");
        }
        let id = text("jti");
        let (serial, expires_ms) = read_id(&id).ok_or("The access token has no usable id.")?;
        if now_ms >= expires_ms {
            return Err("The access token expired.");
        }
        if serial < self.rejected.load(Ordering::SeqCst) {
            return Err("The access token was revoked.");
        }
        Ok(Bearer {
            id,
            client_id: text("sub").trim_end_matches("@clients").to_owned(),
            client_name: text("client_name"),
            organization_id: text("org_id"),
            tenant: text("org_name"),
            scopes: match algorithm {
                Algorithm::Rs256 => Some(text("scope").split_whitespace().map(str::to_owned).collect()),
                Algorithm::Hs256 => None,
            },
        })
    }

    /// Makes each token unique, and contains its end in milliseconds. `exp` has whole seconds only,
    /// so it would end a token of one second up to a second too early.
    fn next_id(&self, life: Lifespan) -> String {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let end = life.end_ms();
        format!("{serial}-{end}-{}", signing::hex(&signing::random::<8>()))
    }
}

/// When a token was issued, and how long it is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifespan {
    start_ms: i64,
    lifetime: Duration,
}

impl Lifespan {
    pub(crate) fn new(start_ms: i64, lifetime: Duration) -> Self {
        Self { start_ms, lifetime }
    }

    /// The lifetime in seconds: a whole number if possible, otherwise a fraction.
    pub(crate) fn seconds(self) -> Value {
        if self.is_whole() { json!(self.lifetime.as_secs()) } else { json!(self.lifetime.as_secs_f64()) }
    }

    fn issued_at(self) -> Value {
        self.numeric_date(self.start_ms)
    }

    fn expires_at(self) -> Value {
        self.numeric_date(self.end_ms())
    }

    fn end_ms(self) -> i64 {
        self.start_ms.saturating_add(whole_ms(self.lifetime))
    }

    fn numeric_date(self, ms: i64) -> Value {
        if self.is_whole() { json!(ms / 1000) } else { json!(ms as f64 / 1000.0) }
    }

    fn is_whole(self) -> bool {
        self.lifetime.subsec_nanos() == 0
    }
}

/// The application that a valid token belongs to.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) client_name: String,
    pub(crate) organization_id: String,
    pub(crate) tenant: String,
    /// None for a legacy token, which has no scopes and may only read.
    pub(crate) scopes: Option<Vec<String>>,
}

impl Bearer {
    /// Whether the token allows `action` on `entity`.
    pub(crate) fn may(&self, entity: &str, action: &str) -> bool {
        match &self.scopes {
            Some(scopes) => scopes.contains(&format!("{entity}:{action}")),
            None => action == "read",
        }
    }
}

fn read_id(id: &str) -> Option<(u64, i64)> {
    let mut parts = id.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
