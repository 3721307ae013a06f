//! A proxy for the applications of several profiles. Each has a path of its own.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alvys_auth_config::{Setup, Variables};
use alvys_auth_core::{Api, CredentialsProvider as _, Error, Flow, Given, Mark, Tenant, TokenRequest};
use alvys_auth_proxy::{NotServed, PerTenant, Proxy, Settings};
use alvys_auth_reqwest::{AsyncTenantProvider, Blocking, Credentials, Http, ProviderFuture, Tenants};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::arguments::Args;
use super::reload::{Reload, elsewhere, not_reloaded};
use crate::failure::Failure;
use crate::keys;
use crate::network::Network;
use crate::profiles::{self, Named};
use crate::secret;
use crate::store::{Shared, Url};

/// How many profiles are read at the same time. Each read takes a blocking thread of the runtime, for up to a minute when a
/// keychain waits for its password. The other threads are left for name resolution.
const MOST_READ: usize = 8;
/// How many of these reads may be of the same profile, so that one profile cannot take all of them.
const MOST_OF_ONE: usize = 2;
/// How long a read waits for its turn.
const QUEUE_FOR: Duration = Duration::from_secs(5);
/// How long a read may take. A keychain has 60 seconds and a command 10 seconds, and both report their own error then.
const READ_WITHIN: Duration = Duration::from_secs(75);

/// Checks the profiles to be served and makes a proxy for them.
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
    let Some(first) = served.first() else {
        return Err(Failure::usage("no profile is served", "give one with --serve"));
    };
    if let Some(other) = served.iter().find(|other| other.place != first.place) {
        return Err(Failure::configuration(
            format!("profiles {} and {} have a different API, CA bundle or store", first.name, other.name),
            "run one proxy for each of them",
        ));
    }
    debug!(target: "alvys_auth", tenants = served.len(), "serves profiles");
    let (first, place) = (first.name.clone(), first.place.clone());
    let profiles = Profiles { served: served.into(), places: Arc::new(Semaphore::new(MOST_READ)) };
    arguments.settings.certificates.refuse_empty()?;
    let network = Network::new(arguments.settings.certificates.read(place.ca_bundle.as_deref())?);
    let endpoints = profiles.served.iter().map(|one| keys::endpoint(&one.flow)).collect::<Result<Vec<_>, _>>()?;
    let http = network.asynchronous(&endpoints.iter().collect::<Vec<_>>())?;
    // The first profile stands for all: they have the same.
    let of_profile = profiles::find(Some(&first))?;
    let store = arguments.settings.store.choose(of_profile.as_ref()).open()?.shared();
    let tenants = tenants(profiles.clone(), http, store);
    let accounts = PerTenant::new(move |tenant| {
        let tenants = tenants.clone();
        async move { Ok::<_, NotServed>(tenants.source(&tenant).await?) }
    });
    let accounts = if arguments.unshaped { accounts.limits(None) } else { accounts };
    let proxy = arguments.proxy(accounts, place.api, settings, &network)?;
    Ok((proxy, rereading(profiles)))
}

/// The function for SIGHUP: it checks all profiles, and makes each tenant read its profile again before its next token
/// request. A profile that is not valid is reported at once, and its old credentials stay in use.
fn rereading(profiles: Profiles) -> Reload {
    Box::new(move || {
        // A mistake in the file is an error of all profiles, and is reported once.
        let mut told = HashSet::new();
        for one in &*profiles.served {
            match one.credentials() {
                Ok(_) => {
                    one.revision.fetch_add(1, Ordering::Release);
                    info!(target: "alvys_auth", profile = one.name, "reads a profile again");
                }
                Err(failure) if told.insert(failure.what.clone()) => not_reloaded(&failure),
                Err(_) => {}
            }
        }
    })
}

fn tenants(profiles: Profiles, http: Http, store: Option<Shared>) -> Tenants {
    let tenants = Tenants::builder(profiles).without_organization_guard().http(http);
    match store {
        Some(store) => tenants.store(Arc::new(Blocking::new(store))).build(),
        None => tenants.build(),
    }
}

/// The profiles to be served. The name of a profile is the name of its tenant.
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
                return Err(Error::timed_out(format!(
                    "profile {tenant} was not read within 5 s, because other reads take too long"
                )));
            };
            let read = tokio::task::spawn_blocking(move || {
                // Held as long as the thread runs, even if nobody waits for it any more.
                let _places = (own, shared);
                one.known()
            });
            let panicked =
                |_| Error::configuration("reading a profile panicked", "report this error, with the panic on stderr");
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
    /// How often SIGHUP asked to read it again.
    revision: AtomicU64,
    places: Arc<Semaphore>,
}

/// The API that an application calls, the certificates to trust there, and where its token is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    api: Api,
    ca_bundle: Option<PathBuf>,
    store: Option<Url>,
}

/// The settings in a profile.
struct Application {
    flow: Flow,
    credentials: Credentials,
    place: Place,
}

/// Reads one profile. Flags and the environment are not used.
fn read(name: &str) -> Result<Application, Failure> {
    let Some(named) = profiles::find(Some(name))? else { return Err(profiles::missing(name)) };
    let variables = || Variables::from_iter(named.profile.named());
    let Setup { flow, api, .. } = Setup::read(&variables())?;
    let credentials = secret::of_profile(&named, variables())?.current()?;
    // Mistakes in the combination are found now, and not by the first caller.
    TokenRequest::new(flow.clone(), credentials.clone())?;
    let Named { profile, .. } = named;
    let flow = match profile.tenant {
        Some(tenant) => flow.expect_organization(tenant),
        None => flow,
    };
    Ok(Application { flow, credentials, place: Place { api, ca_bundle: profile.ca_bundle, store: profile.store } })
}

impl Served {
    fn known(&self) -> Result<(Flow, Credentials), Error> {
        let credentials = self.credentials().map_err(|failure| {
            // Not of the kind configuration, which would say that there is no such tenant.
            Error::transport(format!("profile {} cannot be used", self.name), io::Error::other(failure.what))
        })?;
        Ok((self.flow.clone(), credentials))
    }

    /// The credentials that the profile has now, if nothing else in it has changed. Otherwise they would be sent to another
    /// token endpoint than their own, or their token to another API.
    fn credentials(&self) -> Result<Credentials, Failure> {
        let Application { flow, credentials, place } = read(&self.name)?;
        if place != self.place {
            return Err(elsewhere(format!("profile {} has another API, CA bundle or store now", self.name)));
        }
        if flow != self.flow {
            return Err(elsewhere(format!("profile {} has another flow or token endpoint now", self.name)));
        }
        Ok(credentials)
    }
}

/// Refuses a name that cannot be part of a path and of a header.
fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::configuration(
        "a profile to be served has a name that cannot be part of a path",
        "rename it: use up to 64 letters, digits, hyphens, dots and underscores",
    ))
}
