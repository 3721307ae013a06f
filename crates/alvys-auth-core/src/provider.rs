//! Where credentials come from, and come from again when they change.

use std::ops::Deref;
use std::time::Duration;

use crate::{Credentials, Error, Flow};

/// A mark of one version of some credentials, like an entity tag: two marks that are equal stand for the same version.
///
/// The number means nothing by itself; a counter, a time or a hash will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(u64);

impl Mark {
    /// The mark of a version that this number stands for.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What a provider answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<T> {
    /// The value that the caller knows is still the newest.
    Unchanged,
    /// A value and its mark. The caller shows the mark to the provider the next time.
    These(T, Mark),
}

impl<T> Given<T> {
    /// Makes the answer to a question. `mark` stands for the version that `read` would give; `read` is called only if
    /// `known` is another mark.
    ///
    /// Take `mark` *before* reading. A change between the two is then noticed the next time.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn unless(known: Option<Mark>, mark: Mark, read: impl FnOnce() -> Result<T, Error>) -> Result<Self, Error> {
        if known == Some(mark) { Ok(Self::Unchanged) } else { read().map(|read| Self::These(read, mark)) }
    }

    /// The value and its mark.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) for an [`Unchanged`](Self::Unchanged), because no
    /// value was known before.
    pub fn first(self) -> Result<(T, Mark), Error> {
        match self {
            Self::These(value, mark) => Ok((value, mark)),
            Self::Unchanged => Err(Error::configuration(
                "the provider says that nothing has changed, although nothing was known before",
                "let it answer Given::These when it is asked without a mark",
            )),
        }
    }
}

/// Where credentials come from, and come from again when they change.
///
/// [`Credentials`] provide themselves, and the crate `alvys-auth-config` has providers for the environment, files and
/// commands. A provider may block for as long as reading takes; an async driver
/// asks it on a thread where blocking is allowed. One provider may serve any number of token sources.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark};
///
/// /// The application of one customer, from a store of your own.
/// struct Store {
///     rotations: AtomicU64,
/// }
///
/// impl CredentialsProvider for Store {
///     fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
///         let rotations = self.rotations.load(Ordering::Acquire);
///         Given::unless(known, Mark::new(rotations), || Credentials::new("my-client", format!("s3cret-{rotations}")))
///     }
/// }
///
/// let store = Store { rotations: AtomicU64::new(0) };
/// let (first, mark) = store.credentials(None)?.first()?;
/// assert_eq!(store.credentials(Some(mark))?, Given::Unchanged);
///
/// store.rotations.fetch_add(1, Ordering::Release);
/// assert_ne!(store.current()?, first);
/// # Ok::<(), Error>(())
/// ```
pub trait CredentialsProvider: Send + Sync {
    /// The credentials as they are now, unless they are those of the mark `known`.
    ///
    /// Asked when a source is made; before each token request, with the mark of the credentials in use, so an unchanged
    /// answer should be cheap; and once without a mark when the server refuses the credentials in use or their application,
    /// or issues a token of another organization than the expected one.
    ///
    /// # Errors
    /// The reason why the credentials could not be read. It must not show any of them. The credentials in use stay in
    /// use then.
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error>;

    /// How long an answer may take before it is given up; none for as long as a token request may take. Callers wait no
    /// longer than their own patience meanwhile.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// The credentials as they are now.
    ///
    /// # Errors
    /// As [`credentials`](Self::credentials).
    fn current(&self) -> Result<Credentials, Error> {
        self.credentials(None)?.first().map(|(credentials, _)| credentials)
    }
}

impl CredentialsProvider for Credentials {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Self>, Error> {
        Given::unless(known, Mark::new(0), || Ok(self.clone()))
    }
}

/// References, `Box` and `Arc` of a provider are providers too.
impl<P: Deref<Target: CredentialsProvider> + Send + Sync> CredentialsProvider for P {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        (**self).credentials(known)
    }

    fn time_limit(&self) -> Option<Duration> {
        (**self).time_limit()
    }
}

/// A tenant: the flow that it speaks, and the credentials of its application.
pub type Tenant = (Flow, Credentials);

/// Knows the tenants: each with its own flow and its own credentials.
///
/// A function from a tenant id to a flow and credentials is a provider.
///
/// ```
/// use alvys_auth_core::{Credentials, Error, Flow, TenantProvider};
///
/// fn known(tenant: &str) -> Result<Option<(Flow, Credentials)>, Error> {
///     Ok(match tenant {
///         "va336" => Some((Flow::current(), Credentials::new("a-client", "s3cret")?)),
///         "AB123" => Some((Flow::legacy("AB123"), Credentials::new("another", "t0psecret")?)),
///         _ => None,
///     })
/// }
///
/// let (va336, _) = known.tenant("va336", None)?.first()?;
/// assert!(va336.is_some());
/// let (unknown, _) = known.tenant("zz999", None)?.first()?;
/// assert!(unknown.is_none());
/// # Ok::<(), Error>(())
/// ```
pub trait TenantProvider: Send + Sync {
    /// The flow and the credentials of `tenant`, unless they are those of the mark `known`; none when there is no such
    /// tenant.
    ///
    /// Asked when a tenant is first used, and then as [`CredentialsProvider::credentials`] is. A changed flow takes effect
    /// after the tenant was forgotten or evicted. A tenant that is gone is noticed when this is asked, so do not answer
    /// [`Given::Unchanged`] then.
    ///
    /// # Errors
    /// The reason why the provider cannot answer now. A tenant that does not exist is not an error.
    fn tenant(&self, tenant: &str, known: Option<Mark>) -> Result<Given<Option<Tenant>>, Error>;

    /// How long an answer may take before it is given up; none for as long as a token request may take. The first callers
    /// of a tenant wait for it in addition to their patience.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

impl<F: Fn(&str) -> Result<Option<Tenant>, Error> + Send + Sync> TenantProvider for F {
    fn tenant(&self, tenant: &str, _: Option<Mark>) -> Result<Given<Option<Tenant>>, Error> {
        self(tenant).map(|given| Given::These(given, Mark::new(0)))
    }
}
