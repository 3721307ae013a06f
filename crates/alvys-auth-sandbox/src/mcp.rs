//! An endpoint like the MCP server: it accepts the same tokens and answers with a stream of events.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, response::Response};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{call::Call, reply};

const MOST_EVENTS: u64 = 1000;
const LONGEST_INTERVAL_MS: u64 = 60_000;

/// `POST /mcp`
pub(crate) async fn events(call: Call) -> Response {
    answer(&call).unwrap_or_else(|refusal| *refusal)
}

fn answer(call: &Call) -> Result<Response, Box<Response>> {
    call.admit("mcp", false)?;
    let body = call.json_body()?;
    let total = number(call, &body, "events", 3, MOST_EVENTS)?;
    let interval = Duration::from_millis(number(call, &body, "interval_ms", 100, LONGEST_INTERVAL_MS)?);
    let events = stream::unfold(1, move |event| async move {
        if event > total {
            return None;
        }
        if event > 1 {
            tokio::time::sleep(interval).await;
        }
        let data = json!({"event": event, "of": total});
        Some((Ok::<_, Infallible>(format!("data: {data}\n\n")), event + 1))
    });
    let mut response = reply::typed(StatusCode::OK, "text/event-stream", Body::from_stream(events));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn number(call: &Call, body: &Value, name: &str, usual: u64, most: u64) -> Result<u64, Box<Response>> {
    let Some(value) = body.get(name) else {
        return Ok(usual);
    };
    value.as_u64().filter(|number| *number <= most).ok_or_else(|| {
        let detail = format!("The member {name} must be a whole number of up to {most}.");
        call.problem(StatusCode::BAD_REQUEST, &detail)
    })
}
