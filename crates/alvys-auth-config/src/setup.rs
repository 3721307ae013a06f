//! The settings of a program, apart from its credentials, from `ALVYS_…` variables.

use alvys_auth_core::{Api, Encoding, Environment, Error, Flow};
use zeroize::Zeroizing;

use crate::variables::{Found, Variables};

const FLOW: &str = "ALVYS_FLOW";
const TENANT: [&str; 2] = ["ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"];
const ENCODING: &str = "ALVYS_ENCODING";
const ENVIRONMENT: &str = "ALVYS_ENV";
const TOKEN_URL: [&str; 2] = ["ALVYS_TOKEN_URL", "Alvys__TokenUrl"];
const AUDIENCE: [&str; 2] = ["ALVYS_AUDIENCE", "Alvys__Audience"];
const SCOPE: &str = "ALVYS_SCOPE";
const GRANT_TYPE: &str = "ALVYS_GRANT_TYPE";
const API_VERSION: &str = "ALVYS_API_VERSION";
const API_BASE: [&str; 2] = ["ALVYS_API_BASE_URL", "ALVYS_BASE_URL"];
const STATIC_TOKENS: [&str; 2] = ["ALVYS_ACCESS_TOKEN", "ALVYS_TOKEN"];

/// The settings of a program, apart from its credentials, read from the environment or other [`Variables`].
///
/// | variable | also | meaning |
/// | --- | --- | --- |
/// | `ALVYS_FLOW` | | `current` (the default) or `legacy` |
/// | `ALVYS_TENANT_ID` | `ALVYS_COMPANY_CODE` | the tenant of the legacy flow; set `ALVYS_FLOW=legacy` too |
/// | `ALVYS_ENV` | | `production` (the default) or `qa` |
/// | `ALVYS_ENCODING` | | the encoding of the token request: `json` (the default of the current flow) or `form` (of the legacy flow) |
/// | `ALVYS_TOKEN_URL` | `Alvys__TokenUrl` | the full URL of the token endpoint; in the legacy flow, `{tenant_id}` in it is replaced by the tenant |
/// | `ALVYS_AUDIENCE` | `Alvys__Audience` | the audience, by default `https://api.alvys.com/public/`; current flow only |
/// | `ALVYS_SCOPE` | | the scopes to request, separated by spaces; current flow only |
/// | `ALVYS_GRANT_TYPE` | | only `client_credentials` is allowed |
/// | `ALVYS_API_BASE_URL` | `ALVYS_BASE_URL` | the base URL of the API, by default that of `ALVYS_ENV`; a URL without a path gets `/api/p/` and the version |
/// | `ALVYS_API_VERSION` | | the version of the API, by default `v1`; only when the base URL has no path |
///
/// ```
/// use alvys_auth_config::{Setup, Variables};
///
/// let profile = Variables::from_iter([("ALVYS_FLOW", "legacy"), ("ALVYS_TENANT_ID", "va336")]);
/// let flags = Variables::from_iter([("ALVYS_FLOW", "current")]);
///
/// assert_eq!(Setup::read(&profile)?.flow.tenant(), Some("va336"));
/// let setup = Setup::read(&flags.over(profile))?;
/// assert!(!setup.flow.is_legacy());
/// assert!(setup.warnings[0].starts_with("ALVYS_TENANT_ID is set and ignored"));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setup {
    /// The flow and the token endpoint. They are checked in full when a token request or a token source is made.
    pub flow: Flow,
    /// Where the API is.
    pub api: Api,
    /// The variables that are set but have no effect, one sentence each. Log them when the program starts.
    pub warnings: Vec<String>,
}

impl Setup {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_environment() -> Result<Self, Error> {
        Self::read(&Variables::environment())
    }

    /// Reads `variables`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when a variable is empty, not UTF-8 or not one
    /// of the allowed values, contradicts another one, or does not exist in the chosen flow. The error names the variable.
    pub fn read(variables: &Variables) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let flow = flow(variables, &mut warnings)?;
        one_of(variables, GRANT_TYPE, [("client_credentials", ())])?;
        if let Some(token) = STATIC_TOKENS.into_iter().find(|token| variables.is_set(token)) {
            warnings.push(format!(
                "{token} is set and ignored: tokens are requested with the client id and the client secret; unset {token}"
            ));
        }
        let api = api(variables)?;
        Ok(Self { flow, api, warnings })
    }
}

fn flow(variables: &Variables, warnings: &mut Vec<String>) -> Result<Flow, Error> {
    let legacy = one_of(variables, FLOW, [("current", false), ("legacy", true)])?.unwrap_or(false);
    let tenant = variables.value(&TENANT)?;
    let mut flow = match (legacy, tenant) {
        (true, Some(tenant)) => Flow::legacy(tenant.value.as_str()),
        (true, None) => {
            return Err(Error::configuration(
                format!("{FLOW} is legacy and {} is not set", TENANT[0]),
                "set it to the company code shown in Alvys, such as va336, or set ALVYS_FLOW to current",
            ));
        }
        (false, tenant) => {
            warnings
                .extend(tenant.map(|tenant| format!("{} is set and ignored: only {FLOW}=legacy uses it", tenant.name)));
            Flow::current()
        }
    };
    if let Some(encoding) = one_of(variables, ENCODING, [("json", Encoding::Json), ("form", Encoding::Form)])? {
        flow = flow.encoding(encoding);
    }
    flow = flow.environment(environment(variables)?);
    if let Some(url) = variables.value(&TOKEN_URL)? {
        flow = flow.endpoint(url.value.as_str());
    }
    if let Some(audience) = variables.value(&AUDIENCE)? {
        not_in(legacy, &audience)?;
        flow = flow.audience(audience.value.as_str());
    }
    if let Some(scopes) = variables.value(&[SCOPE])? {
        not_in(legacy, &scopes)?;
        flow = flow.scopes(scopes.value.split_whitespace());
    }
    Ok(flow)
}

fn environment(variables: &Variables) -> Result<Environment, Error> {
    let environments = [("production", Environment::Production), ("qa", Environment::Qa)];
    Ok(one_of(variables, ENVIRONMENT, environments)?.unwrap_or_default())
}

/// The API at the given base URL. A base URL without a path gets the documented path and the version.
fn api(variables: &Variables) -> Result<Api, Error> {
    let version = variables.value(&[API_VERSION])?;
    let version = version.as_ref().map(|found| found.value.trim_start_matches('/'));
    let standard = Api::of(environment(variables)?);
    let (name, base) = match variables.value(&API_BASE)? {
        Some(found) => (found.name, found.value),
        None if version.is_none() => return Ok(standard),
        None => (API_VERSION, Zeroizing::new(standard.base().to_owned())),
    };
    let at = |base: &str| {
        Api::at(base)
            .map_err(|error| Error::configuration(format!("{name}: {}", error.what()), error.hint().to_owned()))
    };
    let Some((scheme, rest)) = base.split_once("://") else { return at(&base) };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match (path.trim_matches('/'), version) {
        ("", version) => at(&format!("{scheme}://{host}/api/p/{}", version.unwrap_or("v1"))),
        (_, None) => at(&base),
        ("api/p/v1", Some(version)) => at(&format!("{scheme}://{host}/api/p/{version}")),
        (_, Some(_)) => Err(Error::configuration(
            format!("{API_VERSION} is set, but {} has a path already", API_BASE[0]),
            "write the version into the base URL and unset ALVYS_API_VERSION, or remove the path from the base URL",
        )),
    }
}

/// The meaning of a variable that has few allowed values.
fn one_of<T, const N: usize>(
    variables: &Variables,
    name: &'static str,
    allowed: [(&'static str, T); N],
) -> Result<Option<T>, Error> {
    let Some(found) = variables.value(&[name])? else { return Ok(None) };
    let names = allowed.each_ref().map(|(word, _)| *word).join(" or ");
    match allowed.into_iter().find(|(word, _)| found.value.eq_ignore_ascii_case(word)) {
        Some((_, meaning)) => Ok(Some(meaning)),
        // The error does not repeat the value: it may be a secret in the wrong place.
        None => {
            Err(Error::configuration(format!("{name} has a value that is not allowed"), format!("set it to {names}")))
        }
    }
}

fn not_in(legacy: bool, found: &Found) -> Result<(), Error> {
    if !legacy {
        return Ok(());
    }
    Err(Error::configuration(
        format!("{} is set, but the legacy flow does not have this setting", found.name),
        format!("unset it, or set {FLOW} to current"),
    ))
}
