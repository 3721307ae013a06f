//! The parts of the server.

/// A part of the server: the target of a fault, and the destination of a logged request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// The current token endpoint, `/oauth/token`.
    Token,
    /// The legacy token endpoint of any tenant, at both of its paths.
    LegacyToken,
    /// Both token endpoints. This is a target for faults only; no logged request has it.
    AnyToken,
    /// All paths below `/v1/` and `/api/p/` except for the token endpoints, and `/mcp`.
    Api,
    /// The document host: all paths below `/storage/`.
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

    /// Whether a fault for `self` applies to a request on `route`.
    pub(crate) fn covers(self, route: Self) -> bool {
        self == route || self == Self::AnyToken && route.is_token()
    }

    /// Whether this is a token endpoint.
    pub(crate) fn is_token(self) -> bool {
        matches!(self, Self::Token | Self::LegacyToken | Self::AnyToken)
    }
}
