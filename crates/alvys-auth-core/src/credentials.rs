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
    /// white space or is wrapped in quotes, is a placeholder copied from documentation, such as `<client-id>` or
    /// `YOUR_CLIENT_SECRET`, or is a reference that nobody resolved, such as `${ALVYS_CLIENT_SECRET}`,
    /// `@Microsoft.KeyVault(…)` or `op://…`.
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

/// References to a value kept elsewhere, by how they begin: what each is, and what resolves it.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("@Microsoft.KeyVault(", "an Azure Key Vault reference that the platform did not resolve", AZURE),
    ("@Microsoft.AppConfiguration(", "an Azure App Configuration reference that the platform did not resolve", AZURE),
    ("op://", "a 1Password reference", "start the program with `op run`, or read the value with `op read`"),
    ("vault:", "a HashiCorp Vault reference", "check that Vault's agent or webhook puts the value in its place"),
    ("arn:aws:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws-cn:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws-us-gov:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws:ssm:", AWS.0, AWS.1),
    ("arn:aws-cn:ssm:", AWS.0, AWS.1),
    ("arn:aws-us-gov:ssm:", AWS.0, AWS.1),
    ("sm://", GOOGLE.0, GOOGLE.1),
    ("ref+", "a reference for vals", "render it with `vals eval` or helmfile before it gets here"),
    ("ENC[", ENCRYPTED.0, ENCRYPTED.1),
    ("$ANSIBLE_VAULT;", ENCRYPTED.0, ENCRYPTED.1),
    ("/run/secrets/", PATH.0, PATH.1),
    ("file://", PATH.0, PATH.1),
];
const AZURE: &str = "check the reference itself, and that the app's managed identity may read what it names";
const AWS: (&str, &str) = (
    "the ARN of an AWS secret or parameter",
    "have the platform fill in the value (`secrets` and `valueFrom` on ECS), or fetch it first",
);
const GOOGLE: (&str, &str) = (
    "the name of a Google Cloud secret",
    "have the platform fill in the value of the secret's version, or fetch it first",
);
const ENCRYPTED: (&str, &str) = ("encrypted", "decrypt the file that it comes from before it gets here");
const PATH: (&str, &str) = ("the path of a file", "give what is in the file, or name it where a file is expected");

/// Alvys makes secrets of this length; one of them may begin and end with any characters.
const SECRET_LENGTH: usize = 64;

/// Refuses what cannot be meant as a value: nothing, stray white space or quotes, a placeholder from the documentation, a
/// reference that nobody resolved.
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
    if [('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}')].iter().any(|&(open, close)| is_wrapped(value, open, close))
    {
        return Err(Error::configuration(
            format!("the {name} is wrapped in quotes"),
            "remove them; `docker --env-file` and mounted files keep quotes as part of the value",
        ));
    }
    if let Some((what, hint)) = unresolved(value) {
        return Err(Error::configuration(format!("the {name} is {what}"), hint));
    }
    if is_placeholder(value) {
        return Err(Error::configuration(
            format!("the {name} is still a placeholder from the documentation"),
            "replace it with the value shown on the application's page in Alvys",
        ));
    }
    Ok(())
}

/// What the value refers to, if it is a reference instead of a value, and what to do.
fn unresolved(value: &str) -> Option<(&'static str, &'static str)> {
    let begins = |prefix: &str| value.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if let Some(&(_, what, hint)) = REFERENCES.iter().find(|(prefix, ..)| begins(prefix)) {
        return Some((what, hint));
    }
    if let ["projects", _, "secrets", _, ..] = value.split('/').collect::<Vec<_>>()[..] {
        return Some(GOOGLE);
    }
    let within = |open: &str, close: &str| value.strip_prefix(open)?.strip_suffix(close);
    if within("{{", "}}").or_else(|| within("${{", "}}")).or_else(|| within("#{", "}")).is_some_and(|it| !it.is_empty())
    {
        return Some((
            "a template that was not filled in",
            "render it before the program starts; the braces must not get here",
        ));
    }
    let names_a_variable = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-/ ".contains(&byte))
    };
    [("${", "}"), ("$(", ")"), ("%", "%")].into_iter().find(|&(o, c)| within(o, c).is_some_and(names_a_variable)).map(
        |_| {
            (
                "the name of a variable that nobody expanded",
                "set that variable where the configuration is expanded; a program's own environment is taken literally",
            )
        },
    )
}

/// Whether the whole value reads `<…>`, `{…}`, `YOUR_…` or `REPLACE_WITH_…`. Digits occur in those in capitals only.
fn is_placeholder(value: &str) -> bool {
    let capitals = !value.bytes().any(|byte| byte.is_ascii_lowercase());
    let spelt_out = |prefix: &str| {
        value.get(..prefix.len()).is_some_and(|head| head.replace('-', "_").eq_ignore_ascii_case(prefix))
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || b"_-".contains(&byte) || capitals && byte.is_ascii_digit())
    };
    is_wrapped(value, '<', '>') || is_wrapped(value, '{', '}') || spelt_out("YOUR_") || spelt_out("REPLACE_WITH_")
}

/// Whether the value stands between the two characters, and is not a secret that only happens to.
fn is_wrapped(value: &str, open: char, close: char) -> bool {
    value.len() != SECRET_LENGTH && value.strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
}
