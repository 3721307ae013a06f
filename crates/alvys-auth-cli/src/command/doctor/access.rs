//! The steps of `doctor` that need a token: its format, its scopes, its organization, and one call.

use alvys_auth_core::{Api, Token};

use super::lint;
use crate::client::{Authorized, Limits};
use crate::command::inspect::Facts;
use crate::command::request::refusal;
use crate::command::scopes;
use crate::failure::{Class, Failure};
use crate::jwt::Jwt;
use crate::messages::one_line;
use crate::report::Report;
use crate::settings::{Settings, SettingsArgs};
use crate::time::in_words;
use crate::tokens::{self, Wanted};

pub(super) const TOKEN: &str = "token request";
const SHAPE: &str = "token";
const SCOPES: &str = "scopes";
const ORGANIZATION: &str = "organization";
const CALL: &str = "API call";

/// The steps that need a token.
pub(super) const STEPS: [&str; 4] = [SHAPE, SCOPES, ORGANIZATION, CALL];

/// A new token, and a client that uses it.
pub(super) struct Access {
    client: Authorized,
    token: Token,
    legacy: bool,
}

/// Requests a new token, because a kept one would not prove that requests work. It is kept for the next run.
pub(super) fn token(settings: &Settings, api: &Api, limits: Limits, report: &mut Report) -> Option<Access> {
    let wanted = Wanted { force: true, ..Wanted::default() };
    let access = Authorized::open(settings, api.clone(), limits, wanted).map(|client| {
        let token = client.token();
        report.fine(TOKEN, format!("a token that is valid for {}", in_words(tokens::left(&token))));
        Access { client, token, legacy: settings.setup.flow.is_legacy() }
    });
    access.map_err(|failure| report.failed(TOKEN, failure)).ok()
}

impl Access {
    pub(super) fn shape(&self, report: &mut Report) {
        if let Some(warning) = self.token.warning() {
            let todo = "unset ALVYS_AUDIENCE, or set it to https://api.alvys.com/public/";
            return report.failed(SHAPE, Failure::new(Class::Nonsense, warning, todo));
        }
        let Some(jwt) = Jwt::read(self.token.access_token()) else {
            return report.fine(SHAPE, "the token is opaque, as tokens of the legacy flow may be");
        };
        let expected = if self.legacy { "HS256" } else { "RS256" };
        if jwt.algorithm() != expected {
            let what = format!("the token is signed with {}, but Alvys uses {expected}", one_line(jwt.algorithm()));
            return report.warning(SHAPE, what, "check that the token URL is the Alvys token endpoint");
        }
        report.fine(SHAPE, format!("a JSON Web Token, signed with {expected} (not verified; see `inspect --verify`)"));
    }

    pub(super) fn scopes(&self, required: &[String], report: &mut Report) {
        let scopes = self.token.scopes();
        let missing = scopes::missing(&self.token, required);
        if !missing.is_empty() {
            let todo =
                "ask an Alvys administrator to grant the missing scopes to the application, then get a new token";
            let what = format!("the token lacks {}", missing.join(", "));
            return report.failed(SCOPES, Failure::new(Class::Refused, what, todo));
        }
        if scopes.is_read_only() {
            let what = "the token has no scopes and may only read";
            return report.warning(SCOPES, what, "move to the current flow to change data: see `alvys-auth migrate`");
        }
        match scopes.iter().count() {
            0 => report.warning(SCOPES, "the token has no scopes", "ask an Alvys administrator to grant some"),
            1 => report.fine(SCOPES, "one scope"),
            count => report.fine(SCOPES, format!("{count} scopes; see `alvys-auth scopes`")),
        }
    }

    pub(super) fn organization(&self, arguments: &SettingsArgs, report: &mut Report) {
        let jwt = Jwt::read(self.token.access_token());
        let facts = jwt.as_ref().map(|jwt| Facts::of(&jwt.claims));
        let named = facts.as_ref().and_then(|facts| facts.organization_name.or(facts.organization_id));
        let Some(named) = named else {
            let todo = "check in the data that calls return whose data it is";
            return report.warning(ORGANIZATION, "the token names no organization", todo);
        };
        let profile = arguments.layers().ok().and_then(|layers| layers.profile);
        let tenant = ["ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"];
        let tenant = tenant.into_iter().find_map(|name| lint::value(name, arguments, profile.as_ref()));
        let tenant = tenant.map(|tenant| tenant.to_string_lossy().into_owned());
        let id = facts.as_ref().and_then(|facts| facts.organization_id).unwrap_or_default();
        match tenant.filter(|tenant| !tenant.eq_ignore_ascii_case(named) && !tenant.eq_ignore_ascii_case(id)) {
            None => report.fine(ORGANIZATION, format!("the token is for {named}")),
            Some(tenant) => report.failed(
                ORGANIZATION,
                Failure::configuration(
                    format!("the token is for {named}, but the tenant is set to {tenant}"),
                    "use the credentials of that tenant, or correct ALVYS_TENANT_ID",
                ),
            ),
        }
    }

    pub(super) fn call(&self, api: &Api, call: Option<&str>, report: &mut Report) {
        let (path, documented) = match call {
            Some(path) => (path.to_owned(), false),
            None => (me(api), true),
        };
        match self.client.send(|client| client.get(&path)) {
            Ok(answer) if answer.status().is_success() => {
                report.fine(CALL, format!("GET {} answers {}", bare(&path), answer.status().as_u16()));
            }
            Ok(answer) if answer.status() == 404 && documented => report.warning(
                CALL,
                format!("the API answers, but it has no {}, so the token was not tested", bare(&path)),
                "give a path to read with --call, such as --call loads",
            ),
            Ok(answer) => report.failed(CALL, refusal(answer.status())),
            Err(failure) => report.failed(CALL, failure),
        }
    }
}

/// `/v1/me` of the API's host, which the documents of Alvys use for a test.
pub(crate) fn me(api: &Api) -> String {
    let base = api.base();
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base.get(host..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| host + at);
    format!("{}/v1/me", base.get(..end).unwrap_or(base))
}

/// The URL without its query, which may contain a key.
fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}
