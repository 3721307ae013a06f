//! Which part of the server a request goes to.

/// A part of the server, to aim a fault at and to tell logged requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// The current token endpoint, `/oauth/token`.
    Token,
    /// The legacy token endpoint of any tenant, at either of its two paths.
    LegacyToken,
    /// Either token endpoint: a target for faults only, no logged request carries it.
    AnyToken,
    /// Everything under `/v1/` and `/api/p/` that is no token endpoint, and `/mcp`.
    Api,
    /// The document host, everything under `/storage/`.
    Storage,
    /// The public keys, `/.well-known/jwks.json`.
    Keys,
    /// Any other path.
    Other,
}

impl Route {
    /// The route of a request path.
    pub(crate) fn of(path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments[..] {
            ["oauth", "token"] => Self::Token,
            ["api", "authentication", _, "token"] | ["api", "p", "authentication", _, "token"] => Self::LegacyToken,
            ["v1", ..] | ["api", "p", ..] | ["mcp"] => Self::Api,
            ["storage", ..] => Self::Storage,
            [".well-known", "jwks.json"] => Self::Keys,
            _ => Self::Other,
        }
    }

    /// Whether a request on `route` is one that `self` aims at.
    pub(crate) fn covers(self, route: Self) -> bool {
        self == route || self == Self::AnyToken && route.is_token()
    }

    /// Whether this is a token endpoint.
    pub(crate) fn is_token(self) -> bool {
        matches!(self, Self::Token | Self::LegacyToken | Self::AnyToken)
    }
}
