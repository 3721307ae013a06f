//! Headers that a caller adds to a call.

use alvys_auth_core::Error;
use http::{HeaderName, HeaderValue};

/// A header from whatever the caller has for it, such as two texts. The value may be a secret, and is in no error.
///
/// # Errors
/// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when the name or the value cannot be sent.
pub fn header(
    name: impl TryInto<HeaderName>,
    value: impl TryInto<HeaderValue>,
) -> Result<(HeaderName, HeaderValue), Error> {
    let name = name.try_into().map_err(|_| {
        Error::configuration("the name of a header cannot be sent", "give letters, digits and hyphens only")
    })?;
    let value = value.try_into().map_err(|_| {
        let what = format!("the value of the header {name} cannot be sent");
        Error::configuration(what, "remove line breaks and other control characters from it")
    })?;
    Ok((name, value))
}
