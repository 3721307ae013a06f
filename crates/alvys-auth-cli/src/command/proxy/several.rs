//! A proxy for the applications of several profiles, each under a path of its own.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alvys_auth_config::{Setup, Variables};
use alvys_auth_core::{Api, CredentialsProvider as _, Error, Flow, Given, Mark, Tenant, TokenRequest};
use alvys_auth_proxy::{NotServed, PerTenant, Proxy, Settings};
use alvys_auth_reqwest::{AsyncTenantProvider, Credentials, ProviderFuture, Tenants};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::{Args, Certificates, Reload, elsewhere, not_reloaded};
use crate::failure::Failure;
use crate::profiles::{self, Named};
use crate::secret;
use crate::settings::variable;

/// So many profiles are read at a time. Each keeps one of the runtime's blocking threads, for a minute where a keychain waits
/// for its password; the other threads are left for the resolving of names.
const MOST_READ: usize = 8;
/// So often one and the same is: who asked first may have gone away, but whoever asks again and again is not to use up what
/// there is for all.
const MOST_OF_ONE: usize = 2;
/// How long that is waited for.
const QUEUE_FOR: Duration = Duration::from_secs(5);
/// How long a profile may take: a keychain waits for a minute, a command runs for 10 seconds, and both then say by themselves
/// what is wrong.
const READ_WITHIN: Duration = Duration::from_secs(75);

/// Checks the profiles to be served and makes a proxy of them, and of no other ones.
///
/// # Errors
/// The first setting that is missing or wrong, or profiles that belong to different APIs.
pub(super) fn applications(arguments: &Args, settings: Settings) -> Result<(Proxy, Reload), Failure> {
    let mut served = Vec::new();
    for name in &arguments.serve {
        check_name(name)?;
        let Application { flow, place, .. } = read(name)?;
        let (revision, places) = (AtomicU64::new(0), Arc::new(Semaphore::new(MOST_OF_ONE)));
        served.push(Arc::new(Served { name: name.clone(), flow, place, revision, places }));
    }
    let Some(first) = served.first() else { return Err(Failure::usage("no profile is served", "name one")) };
    if let Some(other) = served.iter().find(|other| other.place != first.place) {
        return Err(Failure::configuration(
            format!("profiles {} and {} differ in their API or their CA bundle", first.name, other.name),
            "run a proxy for each",
        ));
    }
    debug!(target: "alvys_auth", tenants = served.len(), "serves profiles");
    let place = first.place.clone();
    let profiles = Profiles { served: served.into(), places: Arc::new(Semaphore::new(MOST_READ)) };
    let environment = |name| variable(name).map(PathBuf::from);
    let bundle = arguments.settings.ca_bundle.clone().or_else(|| environment("ALVYS_CA_BUNDLE"));
    let bundle = bundle.or_else(|| place.ca_bundle.clone()).or_else(|| environment("SSL_CERT_FILE"));
    let certificates = Certificates::read(bundle.as_deref())?;
    let tenants = tenants(profiles.clone(), certificates.clone());
    let accounts = PerTenant::new(move |tenant| {
        let tenants = tenants.clone();
        async move { Ok::<_, NotServed>(tenants.source(&tenant).await?) }
    });
    let accounts = if arguments.unshaped { accounts.limits(None) } else { accounts };
    let proxy = arguments.proxy(accounts, place.api, settings, &certificates)?;
    Ok((proxy, rereading(profiles)))
}

/// Each profile is read anew when its tenant next needs a token: the one at hand is good until then, whatever the profile says
/// now. One that does not do is said so of at once, and goes on.
fn rereading(profiles: Profiles) -> Reload {
    Box::new(move || {
        // What keeps all of them from being read, a mistake in their file, is told once.
        let mut told = HashSet::new();
        for one in &*profiles.served {
            match one.credentials() {
                Ok(_) => {
                    one.revision.fetch_add(1, Ordering::Release);
                    info!(target: "alvys_auth", profile = one.name, "reads a profile anew");
                }
                Err(failure) if told.insert(failure.what.clone()) => not_reloaded(&failure),
                Err(_) => {}
            }
        }
    })
}

fn tenants(profiles: Profiles, certificates: Certificates) -> Tenants {
    Tenants::builder(profiles).without_organization_guard().http(move || certificates.client()).build()
}

/// The profiles to be served, each the tenant of its name.
#[derive(Debug, Clone)]
struct Profiles {
    served: Arc<[Arc<Served>]>,
    places: Arc<Semaphore>,
}

impl Profiles {
    fn find(&self, tenant: &str) -> Option<&Arc<Served>> {
        self.served.iter().find(|one| one.name == tenant)
    }
}

impl AsyncTenantProvider for Profiles {
    fn tenant(self: Arc<Self>, tenant: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>> {
        Box::pin(async move {
            let Some(one) = self.find(&tenant).cloned() else { return Ok(Given::These(None, Mark::new(0))) };
            let mark = Mark::new(one.revision.load(Ordering::Acquire));
            if known == Some(mark) {
                return Ok(Given::Unchanged);
            }
            let (own, shared) = (Arc::clone(&one.places), Arc::clone(&self.places));
            let places = async { (own.acquire_owned().await, shared.acquire_owned().await) };
            let Ok((Ok(own), Ok(shared))) = tokio::time::timeout(QUEUE_FOR, places).await else {
                return Err(Error::timed_out(format!("profile {tenant} is not read yet: other reads take too long")));
            };
            let read = tokio::task::spawn_blocking(move || {
                // Held for as long as the thread is, which nobody may wait for any more.
                let _places = (own, shared);
                one.known()
            });
            let panicked =
                |_| Error::configuration("the reading of a profile panicked", "report this; its panic was printed");
            read.await.map_err(panicked)?.map(|known| Given::These(Some(known), mark))
        })
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(READ_WITHIN)
    }
}

/// A profile as it was when the proxy started.
#[derive(Debug)]
struct Served {
    name: String,
    flow: Flow,
    place: Place,
    /// How often it was to be read anew.
    revision: AtomicU64,
    places: Arc<Semaphore>,
}

/// Where the calls of an application go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    api: Api,
    ca_bundle: Option<PathBuf>,
}

/// What a profile says.
struct Application {
    flow: Flow,
    credentials: Credentials,
    place: Place,
}

/// Reads one profile: nothing of the environment and no flag has a part in it.
fn read(name: &str) -> Result<Application, Failure> {
    let Some(named) = profiles::find(Some(name))? else { return Err(profiles::missing(name)) };
    let variables = || Variables::from_iter(named.profile.named());
    let Setup { flow, api, .. } = Setup::read(&variables())?;
    let credentials = secret::of_profile(&named, variables())?.current()?;
    // Whatever is wrong with the two together is told now, and not to whoever calls first.
    TokenRequest::new(flow.clone(), credentials.clone())?;
    let Named { profile, .. } = named;
    let flow = match profile.tenant {
        Some(tenant) => flow.expect_organization(tenant),
        None => flow,
    };
    Ok(Application { flow, credentials, place: Place { api, ca_bundle: profile.ca_bundle } })
}

impl Served {
    fn known(&self) -> Result<(Flow, Credentials), Error> {
        let credentials = self.credentials().map_err(|failure| {
            // Any other kind than configuration, which would say that there is no such tenant.
            Error::transport(format!("profile {} cannot be used", self.name), io::Error::other(failure.what))
        })?;
        Ok((self.flow.clone(), credentials))
    }

    /// The credentials that the profile has now, if all else about it is as it was: neither may they go to another token
    /// endpoint than their own, nor their token to another API.
    fn credentials(&self) -> Result<Credentials, Failure> {
        let Application { flow, credentials, place } = read(&self.name)?;
        if place != self.place {
            return Err(elsewhere(format!("profile {} has another API or CA bundle now", self.name)));
        }
        if flow != self.flow {
            return Err(elsewhere(format!("profile {} asks for tokens elsewhere or in another way now", self.name)));
        }
        Ok(credentials)
    }
}

/// A name that can stand in a path and in a header, as the proxy takes them.
fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::configuration(
        "a profile to be served has a name that cannot stand in a path",
        "rename it: up to 64 letters, digits, hyphens and underscores",
    ))
}
