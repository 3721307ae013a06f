//! Reads the claims of a JWT (RFC 7519) without verifying them.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use memchr::{memchr, memrchr};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The claims of a token. **Nobody has verified its signature.**
///
/// Use the claims for logs, to tell tenants apart and to find out what is wrong. Never decide by them who may do what.
///
/// ```
/// use alvys_auth_core::TokenResponse;
/// # use std::time::Duration;
///
/// // {"alg":"none"} . {"org_name":"va336","exp":3600}
/// let response = TokenResponse::new("eyJhbGciOiJub25lIn0.eyJvcmdfbmFtZSI6InZhMzM2IiwiZXhwIjozNjAwfQ.c2ln", Duration::from_secs(60), "")?;
/// let claims = response.unverified_claims().unwrap();
/// assert_eq!(claims.organization_name.as_deref(), Some("va336"));
/// assert_eq!(claims.expires_at, Some(3600));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedClaims {
    /// `iss`: who issued the token.
    pub issuer: Option<String>,
    /// `aud`: the audiences that the token is meant for.
    pub audiences: Vec<String>,
    /// `sub`: the subject of the token; with Alvys `<client id>@clients`.
    pub subject: Option<String>,
    /// `org_id`: the organization's id.
    pub organization_id: Option<String>,
    /// `org_name`: the organization's name, which is the tenant, such as `va336`.
    pub organization_name: Option<String>,
    /// `client_name`: the application's name in Alvys.
    pub client_name: Option<String>,
    /// `iat`: when the token was issued, in Unix seconds by the server's clock.
    pub issued_at: Option<u64>,
    /// `exp`: when the token expires, in Unix seconds by the server's clock.
    pub expires_at: Option<u64>,
}

impl UnverifiedClaims {
    /// Reads the claims of `token`. None when it is not a JWT.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let text = |field: &Field<'_>| field.text().map(str::to_owned);
        let seconds = |field: &Field<'_>| field.number().map(|seconds| seconds as u64);
        let mut heap = Vec::new();
        let claims: Claims<'_> = object(decoded(token.as_bytes(), &mut [], &mut heap)?)?;
        Some(Self {
            issuer: text(&claims.iss),
            audiences: claims.aud.texts().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
            subject: text(&claims.sub),
            organization_id: text(&claims.org_id),
            organization_name: text(&claims.org_name).or_else(|| text(&claims.tenant_id)),
            client_name: text(&claims.client_name),
            issued_at: seconds(&claims.iat),
            expires_at: seconds(&claims.exp),
        })
    }
}

/// The claims that [`UnverifiedClaims`] shows, borrowed from the decoded payload.
#[derive(Default, serde::Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Claims<'a> {
    iss: Field<'a>,
    aud: Field<'a>,
    sub: Field<'a>,
    org_id: Field<'a>,
    org_name: Field<'a>,
    tenant_id: Field<'a>,
    client_name: Field<'a>,
    iat: Field<'a>,
    exp: Field<'a>,
}

/// The claims that decide whether a token is usable and for how long. Every new token is read for them, so there are few.
#[derive(Default, serde::Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct Payload<'a> {
    iat: Field<'a>,
    exp: Field<'a>,
    scope: Field<'a>,
    org_name: Field<'a>,
    org_id: Field<'a>,
    tenant_id: Field<'a>,
}

impl Payload<'_> {
    /// `exp - iat` in seconds, when the token has both.
    pub(crate) fn lifetime(&self) -> Option<f64> {
        Some(self.exp.number()? - self.iat.number()?)
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.scope.texts()
    }

    /// Whether a claim that names the organization equals `expected`. If not, the error is the first name in the claims.
    pub(crate) fn names_organization(&self, expected: &str) -> Result<(), Option<&str>> {
        let named = || [&self.org_name, &self.org_id, &self.tenant_id].into_iter().filter_map(|field| field.text());
        if named().any(|name| name.eq_ignore_ascii_case(expected)) { Ok(()) } else { Err(named().next()) }
    }
}

/// Passes the deciding claims of `token` to `read`; none when the token is not a JWT.
#[inline]
pub(crate) fn with_payload<T>(token: &[u8], read: impl FnOnce(Option<&Payload<'_>>) -> T) -> T {
    let (mut stack, mut heap) = ([0; 2048], Vec::new());
    read(decoded(token, &mut stack, &mut heap).and_then(object).as_ref())
}

/// Decodes the payload of `token`. One of the usual size has room on the stack and needs no allocation.
fn decoded<'a>(token: &[u8], stack: &'a mut [u8], heap: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let rest = token.get(memchr(b'.', token)? + 1..)?;
    let payload = rest.get(..memrchr(b'.', rest)?)?;
    let upper = base64::decoded_len_estimate(payload.len());
    let buffer = if upper <= stack.len() {
        stack
    } else {
        heap.resize(upper, 0);
        heap.as_mut_slice()
    };
    let decoded = base64url().decode_slice(payload, buffer).ok()?;
    buffer.get(..decoded)
}

/// The decoder for base64url, with or without padding. It uses SIMD where the processor has it.
fn base64url() -> &'static impl Engine {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        use std::sync::LazyLock;

        use base64::engine::Simd;
        use base64::engine::general_purpose::NO_PAD_INDIFFERENT;

        // Made once, because the constructor builds the tables.
        static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD_INDIFFERENT));
        &*ENGINE
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        &base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT
    }
}

/// Reads a JSON object. None for a JSON list, which serde would accept for a struct too.
#[inline]
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    // One check for the whole text. `from_slice` checks each string on its own, which costs several times as much.
    let json = std::str::from_utf8(json).ok()?;
    json.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
}

/// One JSON value, of whatever type the server chose. Text is borrowed where that is possible.
#[derive(Debug, Default)]
pub(crate) enum Field<'a> {
    /// Missing, null, or of a type that is not used.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    /// The strings of a list, separated by spaces.
    List(String),
    Number(f64),
}

impl Field<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text, or the strings of a list, separated by spaces.
    pub(crate) fn texts(&self) -> Option<&str> {
        match self {
            Field::List(texts) => Some(texts),
            other => other.text(),
        }
    }

    /// The number, or the number that the text spells.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self {
            Field::Absent | Field::List(_) => None,
            Field::Number(number) => Some(*number),
            Field::Text(text) => text.trim().parse().ok(),
        };
        number.filter(|number| number.is_finite())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Field::Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Field::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Field::Number(number))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Field::Absent)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Field::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(item) = list.next_element::<Field<'de>>()? {
                    texts.extend(item.text().map(str::to_owned));
                }
                Ok(Field::List(texts.join(" ")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Absent)
            }
        }

        deserializer.deserialize_any(Any)
    }
}
