//! The client id and the client secret of one Alvys application.

use std::fmt;

use zeroize::Zeroizing;

use crate::Error;

/// The client id and secret of one Alvys application, checked and kept out of sight.
///
/// Both are wiped from memory on drop. `Debug` shows the id, which is no secret, and never the secret.
///
/// ```
/// use alvys_auth_core::Credentials;
///
/// let credentials = Credentials::new("my-client", "s3cret")?;
/// assert_eq!(format!("{credentials:?}"), r#"Credentials { client_id: "my-client", client_secret: "[redacted]" }"#);
///
/// let error = Credentials::new("my-client", "s3cret\n").unwrap_err();
/// assert!(error.to_string().contains("line break"));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    client_id: Zeroizing<String>,
    client_secret: Zeroizing<String>,
}

impl Credentials {
    /// Takes a client id and its secret as Alvys shows them; any Unicode reaches the server byte for byte.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when either value is empty, begins or ends with
    /// white space, or is a placeholder copied from documentation, such as `<client-id>` or `YOUR_CLIENT_SECRET`.
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<String>) -> Result<Self, Error> {
        let client_id = Zeroizing::new(client_id.into());
        let client_secret = Zeroizing::new(client_secret.into());
        check_value("client id", &client_id)?;
        check_value("client secret", &client_secret)?;
        Ok(Self { client_id, client_secret })
    }

    /// The client id, which is an identifier and no secret.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn client_secret(&self) -> &str {
        &self.client_secret
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id())
            .field("client_secret", &"[redacted]")
            .finish()
    }
}

/// Refuses what cannot be meant as a value: nothing, stray white space, a placeholder from the documentation.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), Error> {
    if value.trim().is_empty() {
        return Err(Error::configuration(
            format!("the {name} is empty"),
            "set it to the value shown on the application's page in Alvys",
        ));
    }
    if value.ends_with(['\n', '\r']) {
        return Err(Error::configuration(
            format!("the {name} ends in a line break"),
            "trim it after reading it; files and `echo` add one",
        ));
    }
    // PowerShell and some editors put a byte order mark in front, which is no white space to Unicode.
    let stray = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    if value.starts_with(stray) || value.ends_with(stray) {
        return Err(Error::configuration(
            format!("the {name} begins or ends with white space"),
            "trim it; copying from a web page or a quoted variable adds it",
        ));
    }
    if is_placeholder(value) {
        return Err(Error::configuration(
            format!("the {name} is still a placeholder from the documentation"),
            "replace it with the value shown on the application's page in Alvys",
        ));
    }
    Ok(())
}

/// Whether the whole value reads `<…>`, `{…}`, `YOUR_…` or `REPLACE_WITH_…`. Digits occur in those in capitals only.
fn is_placeholder(value: &str) -> bool {
    let enclosed = |open, close| value.len() > 1 && value.starts_with(open) && value.ends_with(close);
    let capitals = !value.bytes().any(|byte| byte.is_ascii_lowercase());
    let spelt_out = |prefix: &str| {
        value.get(..prefix.len()).is_some_and(|head| head.replace('-', "_").eq_ignore_ascii_case(prefix))
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte) || capitals && byte.is_ascii_digit())
    };
    enclosed('<', '>') || enclosed('{', '}') || spelt_out("YOUR_") || spelt_out("REPLACE_WITH_")
}
