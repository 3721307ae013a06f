//! `alvys-auth curl`: the curl commands for a token request and a call.

use std::fmt::Write as _;

use alvys_auth_core::{Credentials, Encoding, TokenRequest};
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::doctor::{me, value};
use super::token::quoted;
use crate::failure::Failure;
use crate::network::Certificates;
use crate::output;
use crate::settings::SettingsArgs;

/// Print the curl commands for a token request and a call, to paste into a shell or a ticket.
///
/// The commands contain no secret: they read it from ALVYS_CLIENT_SECRET and put it on no command line. Nothing is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The path to read, below the base URL of the API, or a full URL; /v1/me of the API's host by default.
    #[arg(value_name = "PATH|URL")]
    path: Option<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

const PLACEHOLDER: &str = "REPLACE_WITH_CLIENT_ID";
const SECRET: &str = "client_secret";

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let settings = &arguments.settings;
    let layers = settings.layers()?;
    let setup = layers.setup()?;
    let api = setup.api.clone();
    let path = arguments.path.clone().unwrap_or_else(|| me(&api));
    let url = api.url(&path)?;
    api.permits(&url)?;
    let client_id =
        ["ALVYS_CLIENT_ID", "Alvys__ClientId"].iter().find_map(|name| value(name, settings, layers.profile.as_ref()));
    let client_id = client_id.map(|id| id.to_string_lossy().into_owned());

    // The core makes the request. It needs no real secret for that.
    let credentials = Credentials::new(client_id.as_deref().unwrap_or("anybody"), "nothing")?;
    let encoding = TokenRequest::new(setup.flow.clone(), credentials.clone())?.to_http();
    let json = encoding.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let request = TokenRequest::new(setup.flow.encoding(Encoding::Form), credentials)?.to_http();
    let fields: Vec<(String, String)> = form_urlencoded::parse(request.body())
        .map(|(name, value)| match &*name {
            "client_id" if client_id.is_none() => (name.into_owned(), PLACEHOLDER.to_owned()),
            _ => (name.into_owned(), value.into_owned()),
        })
        .collect();

    // curl reads SSL_CERT_FILE and SSL_CERT_DIR by itself.
    let Certificates { bundle, shown, .. } = layers.network()?.certificates;
    let [certificate, key] = shown.map_or([None, None], |shown| shown.map(Some));
    let files = [("--cacert", bundle.map(|(_, path)| path)), ("--cert", certificate), ("--key", key)];
    let files = files.into_iter().filter_map(|(flag, path)| Some((flag, path?)));
    let files: String = files.map(|(flag, path)| format!(" {flag} {}", quoted(&path.display().to_string()))).collect();
    let curl = format!("curl --silent --show-error --fail{files}");
    let endpoint = quoted(&request.uri().to_string());
    let ask = if json { with_json(&curl, &endpoint, &fields) } else { with_form(&curl, &endpoint, &fields) };
    output::payload(&format!(
        "# requests a token; the secret comes from ALVYS_CLIENT_SECRET and is on no command line\n\
         ALVYS_ACCESS_TOKEN=$({ask} |\n  sed -n 's/.*\"access_token\" *: *\"\\([^\"]*\\)\".*/\\1/p')\n\n\
         # makes a call with the token\n\
         printf 'authorization: Bearer %s' \"$ALVYS_ACCESS_TOKEN\" |\n  {curl} --header @- {}\n",
        quoted(&url.to_string())
    ))
}

fn with_form(curl: &str, endpoint: &str, fields: &[(String, String)]) -> String {
    let mut command = format!("printf %s \"$ALVYS_CLIENT_SECRET\" |\n  {curl} --header 'accept: application/json'");
    for (name, value) in fields {
        let field = if name == SECRET { format!("{SECRET}@-") } else { format!("{name}={value}") };
        // Writing to a string does not fail.
        let _ = write!(command, " \\\n    --data-urlencode {}", quoted(&field));
    }
    format!("{command} \\\n    {endpoint}")
}

fn with_json(curl: &str, endpoint: &str, fields: &[(String, String)]) -> String {
    let written = |fields: &[(String, String)]| {
        let members = fields.iter().map(|(name, value)| format!("\"{name}\":{}", Value::from(value.as_str())));
        members.collect::<Vec<_>>().join(",")
    };
    let at = fields.iter().position(|(name, _)| name == SECRET).unwrap_or(fields.len());
    let (before, after) = fields.split_at(at);
    let before = quoted(&format!("{{{},\"{SECRET}\":\"", written(before)));
    let after = quoted(&format!("\",{}}}", written(after.get(1..).unwrap_or_default())));
    let secret = r#""$(printf %s "$ALVYS_CLIENT_SECRET" | sed 's/[\\"]/\\&/g')""#;
    format!(
        "printf %s {before} {secret} {after} |\n  {curl} --header 'accept: application/json' \\\n    \
         --header 'content-type: application/json' --data-binary @- \\\n    {endpoint}"
    )
}
