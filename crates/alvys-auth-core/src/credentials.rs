//! The client id and the client secret of one Alvys application.

use std::fmt;

use zeroize::Zeroizing;

use crate::{Error, echoes};

/// The client id and the client secret of one Alvys application.
///
/// Both are checked when they are given and wiped from memory on drop. `Debug` shows the client id, never the secret.
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
    pub(crate) client_id: Zeroizing<String>,
    pub(crate) client_secret: Zeroizing<String>,
}

impl Credentials {
    /// Takes a client id and its secret as Alvys shows them. They are sent to the server unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when one of the two values
    /// - is empty, begins or ends with white space, or is wrapped in quotes;
    /// - is a placeholder from the documentation, such as `<client-id>` or `YOUR_CLIENT_SECRET`;
    /// - is a reference that was not resolved, such as `$ALVYS_CLIENT_SECRET`, `@Microsoft.KeyVault(…)` or `op://…`, or what a
    ///   program writes for a missing value, such as `null`.
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<String>) -> Result<Self, Error> {
        let client_id = Zeroizing::new(client_id.into());
        let client_secret = Zeroizing::new(client_secret.into());
        check_value("client id", &client_id)?;
        check_value("client secret", &client_secret)?;
        Ok(Self { client_id, client_secret })
    }

    /// The client id. It is not a secret.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether `text` repeats the client secret or a part of it; see [`echoes`](crate::echoes).
    pub fn are_echoed_in(&self, text: &str) -> bool {
        echoes(text, self.client_secret())
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

/// References to a value that is kept elsewhere: the prefix, what the reference is, and what to do.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("@Microsoft.KeyVault(", "is an Azure Key Vault reference that the platform did not resolve", AZURE),
    (
        "@Microsoft.AppConfiguration(",
        "is an Azure App Configuration reference that the platform did not resolve",
        AZURE,
    ),
    ("op://", "is a 1Password reference", "start the program with `op run`, or read the value with `op read`"),
    ("vault:", "is a HashiCorp Vault reference", "check that Vault's agent or webhook replaces it with the value"),
    ("arn:aws:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws-cn:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws-us-gov:secretsmanager:", AWS.0, AWS.1),
    ("arn:aws:ssm:", AWS.0, AWS.1),
    ("arn:aws-cn:ssm:", AWS.0, AWS.1),
    ("arn:aws-us-gov:ssm:", AWS.0, AWS.1),
    ("sm://", GOOGLE.0, GOOGLE.1),
    ("ref+", "is a reference for vals", "resolve it with `vals eval` or helmfile before the program starts"),
    ("ENC[", ENCRYPTED.0, ENCRYPTED.1),
    ("$ANSIBLE_VAULT;", ENCRYPTED.0, ENCRYPTED.1),
    ("/run/secrets/", PATH.0, PATH.1),
    ("file://", PATH.0, PATH.1),
];
const AZURE: &str = "check the reference, and check that the app's managed identity may read the value it names";
const AWS: (&str, &str) = (
    "is the ARN of an AWS secret or parameter",
    "let the platform replace it with the value (`secrets` and `valueFrom` on ECS), or fetch the value first",
);
const GOOGLE: (&str, &str) = (
    "is the name of a Google Cloud secret",
    "let the platform replace it with the value of the secret's version, or fetch the value first",
);
const ENCRYPTED: (&str, &str) = ("is encrypted", "decrypt the file it comes from before the program starts");
const PATH: (&str, &str) = (
    "is the path of a file",
    "give the content of the file, or use a setting that takes a path, such as ALVYS_CLIENT_SECRET_FILE",
);

/// What programs write where a value is missing.
const ABSENT: [&str; 9] =
    ["null", "undefined", "none", "nil", "nan", "(null)", "(undefined)", "(none)", "[object Object]"];

/// The length of the secrets that Alvys makes. Such a secret may begin and end with any character, quotes for example.
const SECRET_LENGTH: usize = 64;

/// Refuses a value that is certainly a mistake: an empty one, one with white space or quotes around it, a placeholder from
/// the documentation, or a reference that was not resolved.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), Error> {
    // PowerShell and some editors begin a file with a byte order mark. Unicode does not count it as white space.
    let stray = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    let mut quotes = [('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}')].into_iter();
    let (what, hint) = if value.trim().is_empty() {
        ("is empty", "set it to the value shown on the application's page in Alvys")
    } else if value.ends_with(['\n', '\r']) {
        ("ends in a line break", "remove the line break after reading the value; files and `echo` add one")
    } else if value.starts_with(stray) || value.ends_with(stray) {
        let hint = "remove the white space; copying from a web page often adds it, and so does a quoted variable";
        ("begins or ends with white space", hint)
    } else if quotes.any(|(open, close)| is_wrapped(value, open, close)) {
        (
            "is wrapped in quotes",
            "remove the quotes; `docker --env-file` and mounted files keep them as part of the value",
        )
    } else if let Some(reference) = unresolved(value) {
        reference
    } else if is_placeholder(value) {
        let hint = "replace it with the value shown on the application's page in Alvys";
        ("is still a placeholder from the documentation", hint)
    } else {
        return Ok(());
    };
    Err(Error::configuration(format!("the {name} {what}"), hint))
}

/// When `value` is a reference instead of a value: what kind of reference, and what to do.
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
            "is a template that was not filled in",
            "replace the template, braces included, with the value before the program starts",
        ));
    }
    if ABSENT.iter().any(|word| value.eq_ignore_ascii_case(word)) {
        return Some((
            "is what a program writes in place of a value that it does not have",
            "check where the value comes from: it is not set there, or it has another name",
        ));
    }
    let names_a_variable = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-/ ".contains(&byte))
    };
    // As long as a secret of Alvys, it may be one.
    let bare = value.strip_prefix('$').filter(|_| value.len() != SECRET_LENGTH);
    let bare = bare.map(|name| name.strip_prefix("env:").unwrap_or(name));
    let is_name = |name: &str| names_a_variable(name) && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    let enclosed = [("${", "}"), ("$(", ")"), ("%", "%")];
    let refers = bare.is_some_and(is_name) || enclosed.iter().any(|(o, c)| within(o, c).is_some_and(names_a_variable));
    refers.then_some((
        "is a reference to a variable that was not expanded",
        "expand it before the program starts; the values of environment variables are taken literally",
    ))
}

/// Whether the whole value has the form `<…>`, `{…}`, `YOUR_…` or `REPLACE_WITH_…`. The last two may hold digits only when
/// they are in capitals.
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

/// Whether the value begins with `open` and ends with `close`. A value as long as a secret of Alvys may do so by chance.
fn is_wrapped(value: &str, open: char, close: char) -> bool {
    value.len() != SECRET_LENGTH && value.strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
}
