//! `alvys-auth doctor`: checks step by step why there is no token or why calls are refused.

mod access;
mod lint;
mod network;

use std::time::Duration;

use alvys_auth_core::Error;

use super::scopes::scope;
use crate::client::Limits;
use crate::failure::Failure;
use crate::keys;
use crate::report::Report;
use crate::settings::SettingsArgs;
use crate::store::Store;

pub(super) use access::me;
pub(super) use lint::value;

/// Find out why there is no token or why calls are refused, and what to do about it.
///
/// Checks the settings, the network to the token endpoint and the clock. Then requests one new token, checks it and makes one
/// call. A step is skipped when it needs a step that failed. The findings are always printed. The exit code is that of the
/// worst finding.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Check that the token has these scopes, separated by commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', value_parser = scope)]
    require: Vec<String>,

    /// Read this path below the base URL of the API, or this URL, instead of /v1/me of the API's host.
    #[arg(long, value_name = "PATH|URL")]
    call: Option<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let mut report = Report::default();
    check(arguments, &mut report);
    report.conclude(arguments.json)
}

fn check(arguments: &Args, report: &mut Report) {
    let skip = |report: &mut Report, steps: &[&'static str], why: &str| {
        steps.iter().for_each(|step| report.skipped(step, why));
    };
    let Some(settings) = lint::settings(&arguments.settings, report) else {
        skip(report, &network::STEPS, "correct the settings first");
        return skip(report, &[&[access::TOKEN][..], &access::STEPS].concat(), "correct the settings first");
    };
    store(&settings.store, report);
    let endpoint = match keys::endpoint(&settings.setup.flow) {
        Ok(endpoint) => endpoint,
        Err(failure) => return report.failed("settings", failure),
    };
    if let Err(at) = network::check(&endpoint, &settings.setup.api, &settings.network, report) {
        let why = format!("the step before it failed: {at}");
        return skip(report, &[&[access::TOKEN][..], &access::STEPS].concat(), &why);
    }
    let api = settings.setup.api.clone();
    let limits = Limits {
        request: Some(Duration::from_secs(30)),
        silence: Duration::from_secs(30),
        patience: Duration::from_secs(5),
    };
    match access::token(&settings, &api, limits, report) {
        Some(access) => {
            access.shape(report);
            access.scopes(&arguments.require, report);
            access.organization(&arguments.settings, report);
            access.call(&api, arguments.call.as_deref(), report);
        }
        None => skip(report, &access::STEPS, "there is no token"),
    }
}

/// Tells what tokens are shared through, why through that, and whether it can be used.
fn store(store: &Store, report: &mut Report) {
    const STEP: &str = "store";
    let by = store.by();
    if store.places().is_empty() {
        report.fine(STEP, format!("tokens are not shared ({by})"));
    }
    for (index, place) in store.places().iter().enumerate() {
        let when = if index == 0 { "" } else { "while that is away, " };
        match place.check() {
            Ok(()) => report.fine(STEP, format!("{when}tokens are shared through {} ({by})", place.name)),
            Err(error) => {
                let what = format!("{when}tokens cannot be shared through {} ({by}): {}", place.name, reason(&error));
                report.warning(STEP, what, error.hint());
            }
        }
    }
}

fn reason(error: &Error) -> String {
    error.cause().map_or_else(|| error.what(), |cause| format!("{}: {cause}", error.what()))
}
