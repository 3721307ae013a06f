//! `alvys-auth migrate`: helps to move from the legacy flow to the current one.

use std::path::PathBuf;

use alvys_auth_config::{EnvironmentProvider, Setup, Variables};
use alvys_auth_core::CredentialsProvider;
use alvys_auth_core::{Credentials, Environment, Flow};
use serde_json::json;

use super::doctor::value;
use super::inspect::Facts;
use crate::environment::variable;
use crate::failure::{Class, Failure};
use crate::jwt::Jwt;
use crate::report::Report;
use crate::settings::{Settings, SettingsArgs};
use crate::time::in_words;
use crate::tokens::{self, Wanted};

/// Try the current flow and the legacy flow, and say what to change to move to the current one.
///
/// Requests one new token in each flow. The exit code is 0 when the current flow gives a token for the same organization,
/// otherwise that of the failure. The findings are always printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// The client id of another application, with which to try the current flow.
    #[arg(long, value_name = "ID", requires = "new_secret_file")]
    new_client_id: Option<String>,

    /// The file with the secret of that application.
    #[arg(long, value_name = "PATH", requires = "new_client_id")]
    new_secret_file: Option<PathBuf>,

    /// The token URL of the current flow, when it is not the documented one.
    #[arg(long, value_name = "URL")]
    current_token_url: Option<String>,

    /// The token URL of the legacy flow, when it is not the documented one; {tenant_id} in it is replaced.
    #[arg(long, value_name = "URL")]
    legacy_token_url: Option<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

const CURRENT: &str = "current flow";
const LEGACY: &str = "legacy flow";
const ORGANIZATION: &str = "organization";
const CHANGE: &str = "change";

/// What the token of a flow tells.
struct Outcome {
    organization: Option<String>,
    /// What the token may do, in words.
    access: String,
    lifetime: String,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let layers = arguments.settings.layers()?;
    let setup = layers.setup()?;
    let old = layers.credentials()?;
    let new = match arguments.new_client_id.as_ref().zip(arguments.new_secret_file.as_ref()) {
        Some((id, path)) => Some(new_credentials(id, path.clone())?),
        None => None,
    };
    let (network, store) = (layers.network()?, layers.store().open()?);
    let of = |flow: Flow, credentials: &Credentials| Settings {
        credentials: credentials.clone(),
        setup: speaking(flow, &setup),
        network: network.clone(),
        store: store.clone(),
    };

    let mut report = Report::default();
    let current = attempt(&of(current_flow(arguments, &setup), new.as_ref().unwrap_or(&old)));
    let legacy = legacy_flow(arguments, &setup).map(|flow| attempt(&of(flow, &old)));
    let works = |outcome: &Outcome| {
        let whose = outcome.organization.as_deref().map(|name| format!(", for {name}")).unwrap_or_default();
        format!("works: a token that is valid for {}{whose}, {}", outcome.lifetime, outcome.access)
    };
    report.fact("current_works", json!(current.is_ok()));
    report.fact("legacy_works", json!(legacy.as_ref().map(Result::is_ok)));
    match &current {
        Ok(outcome) => report.fine(CURRENT, works(outcome)),
        Err(failure) => report.failed(CURRENT, failure.clone()),
    }
    match &legacy {
        Some(Ok(outcome)) => report.fine(LEGACY, works(outcome)),
        Some(Err(failure)) if current.is_ok() => {
            report.warning(LEGACY, &failure.what, "nothing, if all programs use the current flow");
        }
        Some(Err(failure)) => report.failed(LEGACY, failure.clone()),
        None => report.skipped(LEGACY, "no tenant is known; give it with --tenant or ALVYS_TENANT_ID"),
    }
    match (current, legacy) {
        (Ok(current), legacy) => {
            if let Some(Ok(legacy)) = legacy {
                compare(&current, &legacy, &mut report);
            }
            changes(arguments, &setup, &mut report);
        }
        (Err(failure), Some(Ok(_))) if failure.class == Class::Refused => report.warning(
            CHANGE,
            "these credentials work in the legacy flow only",
            "create an application in Alvys (API Access), save its secret in a private file, and run this again with \
             --new-client-id and --new-secret-file",
        ),
        _ => {}
    }
    report.conclude(arguments.json)
}

/// The same settings with another flow, and without warnings about settings that have no effect.
fn speaking(flow: Flow, setup: &Setup) -> Setup {
    let mut setup = setup.clone();
    setup.flow = flow;
    setup.warnings.clear();
    setup
}

fn new_credentials(id: &str, path: PathBuf) -> Result<Credentials, Failure> {
    let id = id.to_owned();
    let variables = Variables::new(move |name| match name {
        "ALVYS_CLIENT_ID" => Some(id.clone().into()),
        "ALVYS_CLIENT_SECRET_FILE" => Some(path.clone().into_os_string()),
        _ => None,
    });
    Ok(EnvironmentProvider::of(variables).current()?)
}

/// The configured flow when it is the current one, otherwise the documented current flow in the same environment.
fn current_flow(arguments: &Args, setup: &Setup) -> Flow {
    let flow = if setup.flow.is_legacy() {
        let qa = named(arguments, &["ALVYS_ENV"]).is_some_and(|name| name.eq_ignore_ascii_case("qa"));
        Flow::current().environment(if qa { Environment::Qa } else { Environment::Production })
    } else {
        setup.flow.clone()
    };
    match &arguments.current_token_url {
        Some(url) => flow.endpoint(url),
        None => flow,
    }
}

/// The configured flow when it is the legacy one, otherwise the documented legacy flow. None when no tenant is known.
fn legacy_flow(arguments: &Args, setup: &Setup) -> Option<Flow> {
    let flow = if setup.flow.is_legacy() { setup.flow.clone() } else { Flow::legacy(named(arguments, &TENANT)?) };
    Some(match &arguments.legacy_token_url {
        Some(url) => flow.endpoint(url),
        None => flow,
    })
}

const TENANT: [&str; 2] = ["ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"];

fn named(arguments: &Args, names: &[&str]) -> Option<String> {
    let profile = arguments.settings.layers().ok().and_then(|layers| layers.profile);
    let value = names.iter().find_map(|name| value(name, &arguments.settings, profile.as_ref()))?;
    Some(value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// Requests a new token, because a kept one would not prove that the flow works.
fn attempt(settings: &Settings) -> Result<Outcome, Failure> {
    let token = tokens::token(&tokens::source(settings)?, Wanted { force: true, ..Wanted::default() })?;
    let jwt = Jwt::read(token.access_token());
    let facts = jwt.as_ref().map(|jwt| Facts::of(&jwt.claims));
    let organization = facts.and_then(|facts| facts.organization_name.or(facts.organization_id).map(str::to_owned));
    let access = match token.scopes().iter().count() {
        0 if token.scopes().is_read_only() => "may only read".to_owned(),
        0 => "lists no scopes".to_owned(),
        count => format!("{count} scopes"),
    };
    Ok(Outcome { organization, access, lifetime: in_words(tokens::left(&token)) })
}

fn compare(current: &Outcome, legacy: &Outcome, report: &mut Report) {
    match (&current.organization, &legacy.organization) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => report.failed(
            ORGANIZATION,
            Failure::configuration(
                format!("the current flow gives a token for {one}, the legacy flow for {other}"),
                "use an application of the same organization, or correct ALVYS_TENANT_ID",
            ),
        ),
        (Some(_), Some(_)) => report.fine(ORGANIZATION, "the same in both flows"),
        _ => report.warning(
            ORGANIZATION,
            "a token does not name its organization",
            "compare the data that calls return in both flows",
        ),
    }
}

/// The settings that keep this configuration in the legacy flow, each with what to do.
fn changes(arguments: &Args, setup: &Setup, report: &mut Report) {
    if let Some(id) = &arguments.new_client_id {
        let todo = format!("set ALVYS_CLIENT_ID to {id}, and ALVYS_CLIENT_SECRET to the secret in --new-secret-file");
        report.warning(CHANGE, "the configured credentials belong to the old application", todo);
    }
    if setup.flow.is_legacy() {
        let url = arguments.current_token_url.as_deref().map(|url| format!("set it to {url}"));
        let url = url.unwrap_or_else(|| "unset it".to_owned());
        let all = [
            (&["ALVYS_FLOW"][..], "--flow", "unset it, or set it to current"),
            (&TENANT, "--tenant", "unset it: in the current flow the credentials decide the organization"),
            (&["ALVYS_TOKEN_URL", "Alvys__TokenUrl"], "--token-url", url.as_str()),
        ];
        for (names, flag, todo) in all {
            if let Some(place) = place(arguments, names, flag) {
                report.warning(CHANGE, place, todo);
            }
        }
    } else if arguments.new_client_id.is_none() {
        report.fine(CHANGE, "nothing: the configuration uses the current flow already");
    }
}

/// Where one of `names` is set, in words.
fn place(arguments: &Args, names: &[&str], flag: &str) -> Option<String> {
    if arguments.settings.target.named().any(|(name, _)| names.contains(&name)) {
        return Some(format!("{flag} is given"));
    }
    if let Some(name) = names.iter().find(|name| variable(name).is_some()) {
        return Some(format!("{name} is set"));
    }
    named(arguments, names).map(|_| format!("the profile has {}", flag.trim_start_matches('-')))
}
