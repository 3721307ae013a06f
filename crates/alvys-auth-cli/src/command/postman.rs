//! `alvys-auth postman`: an environment and a collection for Postman.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alvys_auth_core::{Api, Credentials, Environment, Flow, TokenRequest};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::doctor::me;
use crate::failure::Failure;
use crate::output;

/// Write a Postman environment and a collection with token requests of both flows and with calls.
///
/// Import them into Postman, or run them with newman. They contain placeholders and no secret: put your values into the
/// environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to write to; it is made when it is missing.
    #[arg(default_value = ".")]
    directory: PathBuf,

    /// Replace files that exist already.
    #[arg(long)]
    replace: bool,

    /// The Alvys installation.
    #[arg(long, default_value = "production", value_parser = ["production", "qa"])]
    env: String,

    /// The token URL of the current flow, when it is not the documented one.
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,

    /// The token URL of the legacy flow, when it is not the documented one; {tenant_id} in it is replaced.
    #[arg(long, value_name = "URL")]
    legacy_token_url: Option<String>,

    /// The base URL of the API, when it is not the documented one.
    #[arg(long, value_name = "URL")]
    api_base_url: Option<String>,
}

const ENVIRONMENT: &str = "alvys.postman_environment.json";
const COLLECTION: &str = "alvys.postman_collection.json";
const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";

/// The tenant that the core writes into the URL, where a Postman variable is put in its place.
const TENANT: &str = "tenant-to-fill-in";

/// The URLs and the audience for the two files.
struct Endpoints {
    token: String,
    /// The URL with `{{tenant_id}}`. None when there is no legacy token endpoint.
    legacy_token: Option<String>,
    audience: String,
    api: Api,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let endpoints = Endpoints::of(arguments)?;
    let directory = &arguments.directory;
    fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
    let paths = [ENVIRONMENT, COLLECTION].map(|name| directory.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists() && !arguments.replace) {
        return Err(Failure::configuration(
            format!("{} exists already and may contain your credentials", path.display()),
            "give another directory, or add --replace",
        ));
    }
    let written = [environment(&endpoints), collection(&endpoints)];
    for (path, value) in paths.iter().zip(&written) {
        write(directory, path, value).map_err(|error| unwritable(path, &error))?;
    }
    output::payload(&paths.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
}

impl Endpoints {
    fn of(arguments: &Args) -> Result<Self, Failure> {
        let installation = if arguments.env == "qa" { Environment::Qa } else { Environment::Production };
        let stand_in = Credentials::new("anybody", "nothing")?;
        let at = |flow: Flow, url: Option<&String>| match url {
            Some(url) => flow.endpoint(url),
            None => flow,
        };
        let current = at(Flow::current().environment(installation), arguments.token_url.as_ref());
        let current = TokenRequest::new(current, stand_in.clone())?.to_http();
        let fields = serde_json::from_slice::<Value>(current.body()).unwrap_or_default();
        let legacy = at(Flow::legacy(TENANT).environment(installation), arguments.legacy_token_url.as_ref());
        let legacy_token = match TokenRequest::new(legacy, stand_in) {
            Ok(request) => Some(request.to_http().uri().to_string().replace(TENANT, "{{tenant_id}}")),
            Err(_) if installation == Environment::Qa && arguments.legacy_token_url.is_none() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            token: current.uri().to_string(),
            legacy_token,
            audience: fields.get("audience").and_then(Value::as_str).unwrap_or_default().to_owned(),
            api: match &arguments.api_base_url {
                Some(base) => Api::at(base)?,
                None => Api::of(installation),
            },
        })
    }
}

fn environment(endpoints: &Endpoints) -> Value {
    let value = |key: &str, value: &str, kind: &str| json!({"key": key, "value": value, "type": kind, "enabled": true});
    let mut values = vec![
        value("client_id", "REPLACE_WITH_CLIENT_ID", "default"),
        value("client_secret", "REPLACE_WITH_CLIENT_SECRET", "secret"),
        value("audience", &endpoints.audience, "default"),
        value("token_url", &endpoints.token, "default"),
        value("api_base_url", endpoints.api.base(), "default"),
        value("me_url", &me(&endpoints.api), "default"),
        value("access_token", "", "secret"),
    ];
    if let Some(url) = &endpoints.legacy_token {
        values.push(value("tenant_id", "REPLACE_WITH_TENANT_ID", "default"));
        values.push(value("legacy_token_url", url, "default"));
    }
    json!({"name": "Alvys", "values": values, "_postman_variable_scope": "environment"})
}

fn collection(endpoints: &Endpoints) -> Value {
    let current = ["client_id", "client_secret", "audience"];
    let legacy = ["client_id", "client_secret"];
    let mut folders = vec![folder(
        "Current flow",
        "The flow that Alvys documents today.",
        &[with_json("token_url", &current), with_form("token_url", &current), who_am_i(), search()],
    )];
    if endpoints.legacy_token.is_some() {
        folders.push(folder(
            "Legacy flow (deprecated)",
            "The older flow with a token endpoint per tenant. Its tokens may only read. Alvys announced its end for 2025-07-31.",
            &[with_form("legacy_token_url", &legacy), with_json("legacy_token_url", &legacy), who_am_i(), search()],
        ));
    }
    json!({
        "info": {
            "name": "Alvys: tokens and calls",
            "description": "Put your client id and client secret into the environment, request a token, then make calls.",
            "schema": SCHEMA,
        },
        "item": folders,
    })
}

fn folder(name: &str, description: &str, items: &[Value]) -> Value {
    json!({"name": name, "description": description, "item": items})
}

fn with_form(url: &str, fields: &[&str]) -> Value {
    let field = |name: &str, value: String| json!({"key": name, "value": value, "type": "text"});
    let mut pairs: Vec<Value> = fields.iter().map(|name| field(name, format!("{{{{{name}}}}}"))).collect();
    pairs.push(field("grant_type", "client_credentials".to_owned()));
    token("Token (form)", url, &json!({"mode": "urlencoded", "urlencoded": pairs}), &[], &[])
}

/// A script writes the JSON, because Postman puts variables into a body unescaped, and a quote in a value would break it.
fn with_json(url: &str, fields: &[&str]) -> Value {
    let members: Vec<String> =
        fields.iter().map(|name| format!("    {name}: pm.environment.get(\"{name}\"),")).collect();
    let mut script = vec!["pm.variables.set(\"token_request\", JSON.stringify({".to_owned()];
    script.extend(members);
    script.extend(["    grant_type: \"client_credentials\",", "}));"].map(str::to_owned));
    let body = json!({"mode": "raw", "raw": "{{token_request}}", "options": {"raw": {"language": "json"}}});
    let header = json!({"key": "Content-Type", "value": "application/json"});
    token("Token (JSON)", url, &body, &[header], &script)
}

fn token(name: &str, url: &str, body: &Value, headers: &[Value], before: &[String]) -> Value {
    let after = [
        "pm.test(\"a token came back\", () => {",
        "    pm.response.to.have.status(200);",
        "    const token = pm.response.json().access_token;",
        "    pm.expect(token).to.be.a(\"string\").that.is.not.empty;",
        "    pm.environment.set(\"access_token\", token);",
        "});",
    ];
    let mut events = vec![event("test", &after.map(str::to_owned))];
    if !before.is_empty() {
        events.push(event("prerequest", before));
    }
    let request = json!({
        "auth": {"type": "noauth"},
        "method": "POST",
        "header": headers,
        "url": format!("{{{{{url}}}}}"),
        "body": body,
    });
    json!({"name": name, "event": events, "request": request})
}

fn who_am_i() -> Value {
    call("Who am I", "GET", "{{me_url}}", None)
}

fn search() -> Value {
    let body = json!({"page": 0, "pageSize": 5}).to_string();
    let body = json!({"mode": "raw", "raw": body, "options": {"raw": {"language": "json"}}});
    call("Search loads", "POST", "{{api_base_url}}/loads/search", Some(body))
}

fn call(name: &str, method: &str, url: &str, body: Option<Value>) -> Value {
    let after = ["pm.test(\"the API answers\", () => pm.response.to.have.status(200));".to_owned()];
    let mut request = json!({
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{access_token}}", "type": "string"}]},
        "method": method,
        "header": [],
        "url": url,
    });
    if let Some(body) = body {
        request["header"] = json!([{"key": "Content-Type", "value": "application/json"}]);
        request["body"] = body;
    }
    json!({"name": name, "event": [event("test", &after)], "request": request})
}

fn event(listen: &str, script: &[String]) -> Value {
    json!({"listen": listen, "script": {"type": "text/javascript", "exec": script}})
}

/// Writes the file in one step, so that nobody imports half of it.
fn write(directory: &Path, path: &Path, value: &Value) -> std::io::Result<()> {
    let mut file = NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::configuration(
        format!("cannot write {}: {error}", path.display()),
        "give a directory that this user may write to",
    )
}
