//! A small HTTP client that shows every answer as it is.

use std::{io::Write as _, net::TcpStream, time::Duration};

use alvys_auth_sandbox::{Application, Sandbox};
use http::HeaderMap;
use serde_json::{Value, json};

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()["access_token"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    try_send(method, url, headers, body).unwrap()
}

pub(crate) fn try_send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = if body.is_empty() && method != "POST" {
        agent.run(request.body(()).unwrap())?
    } else {
        agent.run(request.body(body).unwrap())?
    };
    let (parts, body) = response.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.into_with_config().read_to_string()?,
    })
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub(crate) fn post_form(url: &str, pairs: &[(&str, &str)]) -> Answer {
    let content_type = ("content-type", "application/x-www-form-urlencoded");
    send("POST", url, &[content_type], &form(pairs))
}

pub(crate) fn post_json(url: &str, body: &Value) -> Answer {
    let content_type = ("content-type", "application/json");
    send("POST", url, &[content_type], &body.to_string())
}

/// The fields a current token request needs.
pub(crate) fn fields(application: &Application) -> Vec<(&str, &str)> {
    vec![
        ("client_id", application.client_id()),
        ("client_secret", application.client_secret()),
        ("audience", application.audience()),
        ("grant_type", "client_credentials"),
    ]
}

/// The same fields with some replaced, or removed where the new value is empty.
pub(crate) fn with<'a>(mut fields: Vec<(&'a str, &'a str)>, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    for (name, value) in changes {
        fields.retain(|(other, _)| other != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    fields
}

/// Sends the fields once as a form and once as JSON, and checks that both are answered alike.
pub(crate) fn post_both(url: &str, fields: &[(&str, &str)]) -> Answer {
    let members = fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    let by_json = post_json(url, &Value::Object(members.collect()));
    let by_form = post_form(url, fields);
    assert_eq!(by_json.status, by_form.status);
    if by_form.status != 200 {
        assert_eq!(by_json.body, by_form.body);
    }
    by_form
}

pub(crate) fn token(sandbox: &Sandbox) -> String {
    post_form(&sandbox.token_url(), &fields(&sandbox.application())).token()
}

pub(crate) fn legacy_url(sandbox: &Sandbox, tenant: &str) -> String {
    sandbox.legacy_token_url().replace("{tenant_id}", tenant)
}

pub(crate) fn legacy_token(sandbox: &Sandbox) -> String {
    let application = sandbox.application();
    let url = legacy_url(sandbox, application.tenant());
    post_form(&url, &with(fields(&application), &[("audience", "")])).token()
}

pub(crate) fn get(url: &str, token: &str) -> Answer {
    call("GET", url, token, "")
}

pub(crate) fn call(method: &str, url: &str, token: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("authorization", authorization.as_str())];
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    send(method, url, &headers, body)
}

/// A connection on which a good token request was just sent.
pub(crate) fn raw_token_request(sandbox: &Sandbox) -> TcpStream {
    let body = form(&fields(&sandbox.application()));
    let mut stream = TcpStream::connect(sandbox.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(
        stream,
        "POST /oauth/token HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream
}
