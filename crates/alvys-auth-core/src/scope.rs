//! Scopes: the ones that Alvys documents, and the ones that a token has.

use std::borrow::Cow;
use std::fmt;

/// One permission of the Alvys API, written `{entity}:{action}` (RFC 6749, section 3.3).
///
/// Each scope that Alvys documents is a constant. Any other text can be a scope too, because Alvys may add new ones.
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
    /// The scope as text, for example `load:read`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one scope by RFC 6749, section 3.3: printable ASCII without space, double quote and backslash.
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
        /// The scopes that Alvys documents.
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

/// The scopes of a token, as far as they are known without asking the API.
///
/// There are three cases:
/// - The scopes are known: the token response or the token's claims list them.
/// - The token is of the legacy flow. It has no scopes, and the API lets it read everything and change nothing.
/// - Nothing is known: the token is opaque and the token response lists no scopes.
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

    /// Whether the token has `scope`.
    ///
    /// A legacy token has every scope that ends in `:read`. When the scopes are not known, the answer is false: ask
    /// [`is_known`](Self::is_known) before you refuse a request because of it.
    pub fn contains(&self, scope: impl AsRef<str>) -> bool {
        let scope = scope.as_ref();
        match self.0 {
            Access::Listed(_) => self.iter().any(|one| one == scope),
            Access::ReadOnly => scope.ends_with(":read"),
            Access::Unknown => false,
        }
    }

    /// The listed scopes, in the server's order. Empty for a legacy token and when nothing is known.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let listed = if let Access::Listed(listed) = self.0 { listed } else { "" };
        listed.split_ascii_whitespace()
    }

    /// Whether the token is of the legacy flow: it has no scopes, and the API lets it read only.
    pub fn is_read_only(&self) -> bool {
        self.0 == Access::ReadOnly
    }

    /// Whether anything is known about the scopes. If not, [`contains`](Self::contains) is always false.
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
