//! Scopes: the ones Alvys documents, and what a token carries.

use std::borrow::Cow;
use std::fmt;

/// One permission of the Alvys API, written `{entity}:{action}`.
///
/// The documented ones are constants; any other text passes through, because Alvys adds scopes without asking us.
///
/// ```
/// use alvys_auth_core::Scope;
///
/// assert_eq!(Scope::LOAD_READ.as_str(), "load:read");
/// assert_eq!(Scope::from("parrot:feed").as_str(), "parrot:feed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(Cow<'static, str>);

impl Scope {
    /// The scope as it is sent, for example `load:read`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether RFC 6749, section 3.3, allows this as one scope: printable ASCII without space, quote and backslash.
    pub(crate) fn is_well_formed(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
    }
}

impl From<&str> for Scope {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl From<String> for Scope {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl AsRef<str> for Scope {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! documented_scopes {
    ($($constant:ident = $text:literal),* $(,)?) => {
        /// The documented scopes.
        impl Scope {
            $(
                #[doc = concat!("`", $text, "`")]
                pub const $constant: Self = Self(Cow::Borrowed($text));
            )*

            /// Every documented scope, ordered by entity.
            pub const DOCUMENTED: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

documented_scopes! {
    CARRIER_READ = "carrier:read",
    CARRIER_CREATE = "carrier:create",
    CARRIER_UPDATE = "carrier:update",
    CARRIER_DELETE = "carrier:delete",
    CUSTOMER_READ = "customer:read",
    CUSTOMER_CREATE = "customer:create",
    CUSTOMER_UPDATE = "customer:update",
    CUSTOMER_DELETE = "customer:delete",
    DEDUCTION_READ = "deduction:read",
    DEDUCTION_CREATE = "deduction:create",
    DEDUCTION_DELETE = "deduction:delete",
    DISPATCH_READ = "dispatch:read",
    DISPATCH_UPDATE = "dispatch:update",
    DRIVER_READ = "driver:read",
    DRIVER_CREATE = "driver:create",
    DRIVER_UPDATE = "driver:update",
    DRIVER_DELETE = "driver:delete",
    FUEL_READ = "fuel:read",
    FUEL_CREATE = "fuel:create",
    FUEL_UPDATE = "fuel:update",
    FUEL_DELETE = "fuel:delete",
    INVOICE_READ = "invoice:read",
    INVOICE_CREATE = "invoice:create",
    INVOICE_UPDATE = "invoice:update",
    INVOICE_DELETE = "invoice:delete",
    LOAD_READ = "load:read",
    LOAD_CREATE = "load:create",
    LOAD_UPDATE = "load:update",
    LOAD_DELETE = "load:delete",
    MAINTENANCE_READ = "maintenance:read",
    MAINTENANCE_CREATE = "maintenance:create",
    MAINTENANCE_UPDATE = "maintenance:update",
    MAINTENANCE_DELETE = "maintenance:delete",
    TOLL_READ = "toll:read",
    TOLL_CREATE = "toll:create",
    TOLL_UPDATE = "toll:update",
    TOLL_DELETE = "toll:delete",
    TRAILER_READ = "trailer:read",
    TRAILER_CREATE = "trailer:create",
    TRAILER_UPDATE = "trailer:update",
    TRAILER_DELETE = "trailer:delete",
    TRIP_READ = "trip:read",
    TRIP_CREATE = "trip:create",
    TRIP_UPDATE = "trip:update",
    TRIP_DELETE = "trip:delete",
    TRUCK_READ = "truck:read",
    TRUCK_CREATE = "truck:create",
    TRUCK_UPDATE = "truck:update",
    TRUCK_DELETE = "truck:delete",
    USER_READ = "user:read",
    USER_CREATE = "user:create",
    USER_UPDATE = "user:update",
    USER_DELETE = "user:delete",
    VISIBILITY_READ = "visibility:read",
    VISIBILITY_CREATE = "visibility:create",
    VISIBILITY_UPDATE = "visibility:update",
    VISIBILITY_DELETE = "visibility:delete",
}

/// What a token may do, as far as can be told without asking the API.
///
/// Three cases: the scopes are known; the token comes from the legacy flow, which has no scopes and which the API treats
/// as read-only; or nothing is known, because an opaque token came without a list.
///
/// ```
/// use alvys_auth_core::{TokenResponse, Scope};
/// # use std::time::Duration;
///
/// let response = TokenResponse::new("an.access.token", Duration::from_secs(3600), "load:read trip:read")?;
/// assert!(response.scopes().contains("load:read"));
/// assert!(!response.scopes().contains(Scope::LOAD_CREATE));
/// assert_eq!(response.scopes().to_string(), "load:read trip:read");
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes<'a>(Access<'a>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access<'a> {
    Listed(&'a str),
    ReadOnly,
    Unknown,
}

impl<'a> Scopes<'a> {
    pub(crate) fn new(listed: &'a str, read_only: bool) -> Self {
        Self(match listed.trim_ascii() {
            "" if read_only => Access::ReadOnly,
            "" => Access::Unknown,
            listed => Access::Listed(listed),
        })
    }

    /// Whether the token may do `scope`.
    ///
    /// An unscoped legacy token may do every `…:read` and nothing else; when nothing is known the answer is no, so ask
    /// [`is_known`](Self::is_known) before refusing on it.
    pub fn contains(&self, scope: impl AsRef<str>) -> bool {
        let scope = scope.as_ref();
        match self.0 {
            Access::Listed(_) => self.iter().any(|one| one == scope),
            Access::ReadOnly => scope.ends_with(":read"),
            Access::Unknown => false,
        }
    }

    /// The listed scopes, in the order the server gave; none for an unscoped token.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let listed = if let Access::Listed(listed) = self.0 { listed } else { "" };
        listed.split_ascii_whitespace()
    }

    /// Whether this is a legacy token: without scopes, and read-only for the API.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0 == Access::ReadOnly
    }

    /// Whether [`contains`](Self::contains) answers from knowledge.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0 != Access::Unknown
    }
}

impl fmt::Display for Scopes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Access::Listed(listed) => listed,
            Access::ReadOnly => "read-only, unscoped",
            Access::Unknown => "unknown",
        })
    }
}
