//! The first step of `doctor`: the core checks each setting alone, and then all of them together.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use alvys_auth_core::{Api, Credentials, Error, Flow, TokenRequest};

use crate::environment::variable;
use crate::failure::Failure;
use crate::profiles::{Named, SecretPlace};
use crate::report::Report;
use crate::settings::{Settings, SettingsArgs};

const STEP: &str = "settings";
const FILES: &str = "secret files";

/// The audience without the slash at its end.
const CUT_AUDIENCE: &str = "https://api.alvys.com/public";

type Check = fn(&str) -> Result<(), Error>;

/// The checks of single settings.
const CHECKS: [(&[&str], Check); 5] = [
    (&["ALVYS_CLIENT_ID", "Alvys__ClientId"], |value| Credentials::new(value, STAND_IN).map(drop)),
    (&["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret"], |value| Credentials::new(STAND_IN, value).map(drop)),
    (&["ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"], |value| fits(Flow::legacy(value))),
    (&["ALVYS_AUDIENCE", "Alvys__Audience"], |value| {
        if value.trim() == CUT_AUDIENCE {
            return Err(Error::configuration(
                "the audience lacks the slash at its end",
                "set it to https://api.alvys.com/public/",
            ));
        }
        fits(Flow::current().audience(value))
    }),
    (&["ALVYS_API_BASE_URL", "ALVYS_BASE_URL"], |value| Api::at(value).map(drop)),
];

const STAND_IN: &str = "stand-in";

/// Reads all settings and reports all mistakes. None when the next steps are not possible with these settings.
pub(super) fn settings(arguments: &SettingsArgs, report: &mut Report) -> Option<Settings> {
    let layers = match arguments.layers() {
        Ok(layers) => layers,
        Err(failure) => {
            report.failed(STEP, failure);
            return None;
        }
    };
    for (names, check) in CHECKS {
        for name in names {
            let value = value(name, arguments, layers.profile.as_ref());
            if let Some(Err(error)) = value.map(|value| check(&value.to_string_lossy())) {
                let failure = Failure::from(error);
                report.failed(STEP, Failure::new(failure.class, format!("{name}: {}", failure.what), failure.todo));
            }
        }
    }
    for path in secret_files(arguments, layers.profile.as_ref()) {
        readable_by_others(&path, report);
    }
    let setup = layers.setup().and_then(|setup| Ok(fits(setup.flow.clone()).map(|()| setup)?));
    let (credentials, network, store) = (layers.credentials(), layers.network(), layers.store().open());
    let (setup, credentials, network, store) = match (setup, credentials, network, store) {
        (Ok(setup), Ok(credentials), Ok(network), Ok(store)) if !report.has_failed() => {
            (setup, credentials, network, store)
        }
        (setup, credentials, network, store) => {
            let failures = [setup.err(), credentials.err(), network.err(), store.err()];
            failures.into_iter().flatten().for_each(|failure| report.failed(STEP, failure));
            return None;
        }
    };
    for warning in &setup.warnings {
        report.warning(STEP, warning, "unset it, or also set what it belongs to");
    }
    if let Some(deprecation) = setup.flow.deprecation() {
        report.warning(STEP, deprecation, "run `alvys-auth migrate`");
    }
    let flow = if setup.flow.is_legacy() { "legacy" } else { "current" };
    report.fine(STEP, format!("client {}, {flow} flow", credentials.client_id()));
    Some(Settings { credentials, setup, network, store })
}

/// The value of a setting, from the first layer that has one.
pub(crate) fn value(name: &str, arguments: &SettingsArgs, profile: Option<&Named>) -> Option<OsString> {
    let named = |(found, value): (&str, &str)| (found == name).then(|| OsString::from(value));
    let client_id = arguments.client_id.as_ref().filter(|_| name == "ALVYS_CLIENT_ID").map(OsString::from);
    let flag = client_id.or_else(|| arguments.target.named().find_map(named));
    flag.or_else(|| std::env::var_os(name)).or_else(|| profile?.profile.named().find_map(named))
}

fn fits(flow: Flow) -> Result<(), Error> {
    TokenRequest::new(flow, Credentials::new(STAND_IN, STAND_IN)?).map(drop)
}

fn secret_files(arguments: &SettingsArgs, profile: Option<&Named>) -> Vec<PathBuf> {
    let named = match profile.and_then(|named| named.profile.secret_place()) {
        Some(SecretPlace::File(path)) => Some(path.to_owned()),
        _ => None,
    };
    let environment =
        ["ALVYS_CLIENT_SECRET_FILE", "ALVYS_CLIENT_ID_FILE"].map(|name| variable(name).map(PathBuf::from));
    arguments.secret.secret_file.clone().into_iter().chain(environment.into_iter().flatten()).chain(named).collect()
}

#[cfg(unix)]
fn readable_by_others(path: &Path, report: &mut Report) {
    use std::os::unix::fs::PermissionsExt;
    // A missing file is reported when the secret is read.
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    let shown = path.display();
    match mode & 0o006 {
        0 => report.fine(FILES, format!("other users cannot read {shown}")),
        _ => report.warning(
            FILES,
            format!("every user of this machine may read or change {shown} (mode {mode:o})"),
            format!("run chmod 600 {shown}, and change the secret if other people use this machine"),
        ),
    }
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path, _: &mut Report) {}
