//! What a program needs to start, beside its credentials, from `ALVYS_…` variables.

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

/// What a program needs to start, beside its credentials: read from the environment or other [`Variables`].
///
/// | variable | also | meaning |
/// | --- | --- | --- |
/// | `ALVYS_FLOW` | | `current` (the default) or `legacy` |
/// | `ALVYS_TENANT_ID` | `ALVYS_COMPANY_CODE` | the tenant of the legacy flow; does not select that flow |
/// | `ALVYS_ENV` | | `production` (the default) or `qa` |
/// | `ALVYS_ENCODING` | | `json` or `form`; the flow's own by default |
/// | `ALVYS_TOKEN_URL` | `Alvys__TokenUrl` | the full URL to ask for tokens; `{tenant_id}` is filled in for the legacy flow |
/// | `ALVYS_AUDIENCE` | `Alvys__Audience` | another audience, current flow only |
/// | `ALVYS_SCOPE` | | scopes to name, between spaces, current flow only |
/// | `ALVYS_GRANT_TYPE` | | nothing but `client_credentials` |
/// | `ALVYS_API_BASE_URL` | `ALVYS_BASE_URL` | where the API is, by default that of `ALVYS_ENV`; `/api/p/` and the version are added to a bare host |
/// | `ALVYS_API_VERSION` | | the version of the API, `v1` by default; only without a path in the base URL |
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
    /// Which flow to speak, to which endpoint; checked in full when a token request or a source is made of it.
    pub flow: Flow,
    /// Where the API is.
    pub api: Api,
    /// What was set and has no effect, a sentence each, for people to read at the start of the program.
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
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) that names the variable: it is empty, not
    /// UTF-8 or none of the values allowed, contradicts another one, or has no place in the chosen flow.
    pub fn read(variables: &Variables) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let flow = flow(variables, &mut warnings)?;
        one_of(variables, GRANT_TYPE, [("client_credentials", ())])?;
        if let Some(token) = STATIC_TOKENS.into_iter().find(|token| variables.is_set(token)) {
            warnings.push(format!(
                "{token} is set and ignored: tokens are fetched with the client id and secret, and renewed; unset it"
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
                "set it to the company code shown in Alvys, such as va336, or use the current flow",
            ));
        }
        (false, tenant) => {
            warnings.extend(
                tenant.map(|tenant| format!("{} is set and ignored: it only matters with {FLOW}=legacy", tenant.name)),
            );
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

/// Where the API is: a base URL as given, completed where it names no more than the host.
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
            format!("{API_VERSION} is set, and {} names a path", API_BASE[0]),
            "put the version into the URL, or leave the path away",
        )),
    }
}

/// The meaning of a variable that allows few values.
fn one_of<T, const N: usize>(
    variables: &Variables,
    name: &'static str,
    allowed: [(&'static str, T); N],
) -> Result<Option<T>, Error> {
    let Some(found) = variables.value(&[name])? else { return Ok(None) };
    let names = allowed.each_ref().map(|(word, _)| *word).join(" or ");
    match allowed.into_iter().find(|(word, _)| found.value.eq_ignore_ascii_case(word)) {
        Some((_, meaning)) => Ok(Some(meaning)),
        // The value stays unsaid: it may be a secret in the wrong place.
        None => {
            Err(Error::configuration(format!("{name} has a value that is not known"), format!("set it to {names}")))
        }
    }
}

fn not_in(legacy: bool, found: &Found) -> Result<(), Error> {
    if !legacy {
        return Ok(());
    }
    Err(Error::configuration(
        format!("{} is set, and the legacy flow has no such thing", found.name),
        format!("unset it, or set {FLOW} to current"),
    ))
}
