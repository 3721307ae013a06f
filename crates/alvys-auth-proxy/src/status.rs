//! The status page: one HTML document without scripts, links and secrets.

use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

use alvys_auth_core::Status;

use crate::proxy::Inner;
use crate::tokens::State;

/// The Content-Security-Policy: a browser may only show the page with its own style, and not in a frame.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'sha256-8ym/LI+n7mV1Fp6WIDdDDyIFyo4FRe+OuWmS+Jkqukc='; base-uri 'none'; \
                                 form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("status.css");
const NOTHING: &str = "none";

/// Renders the page with the current values.
pub(crate) fn page(inner: &Inner) -> String {
    let mut page = String::with_capacity(8 * 1024);
    // Writing to a string does not fail.
    let _ = write(&mut page, inner);
    page
}

fn write(page: &mut String, inner: &Inner) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"refresh\" content=\"5\">\n\
         <title>alvys-auth proxy</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>alvys-auth proxy</h1>\n<p>Version {}. This page reloads every 5 seconds.</p>\n",
        env!("CARGO_PKG_VERSION")
    )?;
    now(page, inner)?;
    tokens(page, inner)?;
    endpoints(page, inner)?;
    decisions(page, inner)?;
    limits(page, inner)?;
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

fn now(page: &mut String, inner: &Inner) -> fmt::Result {
    let (api, mcp) = inner.upstream.places();
    let rows = [
        ["Running for".to_owned(), Span(since(inner.watch.started)).to_string()],
        ["Calls in progress".to_owned(), format!("{} of at most {}", inner.calls.taken(), inner.settings.most_at_once)],
        ["Calls that wait".to_owned(), inner.waits.taken().to_string()],
        ["API".to_owned(), api.to_owned()],
        ["MCP server".to_owned(), mcp.unwrap_or(NOTHING).to_owned()],
    ];
    table(page, "Now", ["What", "Value"], rows)
}

fn tokens(page: &mut String, inner: &Inner) -> fmt::Result {
    let heads = ["Tenant", "State"];
    match inner.accounts.sole() {
        Some(account) => table(page, "Access token", heads, [["-".to_owned(), state(&account.tokens.status())]]),
        None => {
            let rows = inner.watch.tenants().into_iter().map(|(tenant, known)| {
                let state = match known {
                    State::Source(status) => state(&status),
                    State::Broken(why) => format!("cannot be served: {why}"),
                };
                [tenant.as_deref().unwrap_or("-").to_owned(), state]
            });
            table(page, "Access tokens", heads, rows)
        }
    }
}

fn state(status: &Status) -> String {
    let mut state = match status.expires_in {
        Some(left) => format!("usable for {}", Span(left)),
        None => "none is held".to_owned(),
    };
    if status.in_flight {
        state.push_str("; a token request is in progress");
    }
    if let Some(pause) = status.paused_for {
        state.push_str(&format!("; no token request for {}", Span(pause)));
    }
    if let Some(quota) = status.low_quota {
        let (left, resets_in) = (quota.left, Span(quota.resets_in));
        state.push_str(&format!(
            "; {left} more token requests are allowed within {resets_in}, so renewals that can wait do"
        ));
    }
    if let Some(error) = &status.last_error {
        state.push_str(&format!("; last failure: {error:#}"));
    }
    state
}

fn endpoints(page: &mut String, inner: &Inner) -> fmt::Result {
    const TITLE: &str = "Calls within the rate limits";
    let uses = inner.watch.uses().into_iter();
    if inner.accounts.sole().is_some() {
        let heads = ["Endpoint", "Sent in the last minute", "Limit", "Waiting now"];
        let rows =
            uses.map(|used| [used.endpoint, used.sent.to_string(), used.limit.to_string(), used.waiting.to_string()]);
        return table(page, TITLE, heads, rows);
    }
    let heads = ["Tenant", "Endpoint", "Sent in the last minute", "Limit", "Waiting now"];
    let rows = uses.map(|used| {
        let tenant = used.tenant.as_deref().unwrap_or("-").to_owned();
        [tenant, used.endpoint, used.sent.to_string(), used.limit.to_string(), used.waiting.to_string()]
    });
    table(page, TITLE, heads, rows)
}

fn decisions(page: &mut String, inner: &Inner) -> fmt::Result {
    let rows = inner.watch.recent().into_iter().map(|decision| {
        let when = format!("{} ago", Span(since(decision.at)));
        [when, decision.tenant.as_deref().unwrap_or("-").to_owned(), decision.endpoint, decision.what]
    });
    table(page, "Recent decisions", ["When", "Tenant", "Endpoint", "What"], rows)
}

fn limits(page: &mut String, inner: &Inner) -> fmt::Result {
    let settings = &inner.settings;
    let rows = [
        ["Calls at the same time", &settings.most_at_once.to_string()],
        ["Request head", &format!("{} bytes", settings.longest_head)],
        ["Request body", &format!("{} bytes", settings.longest_body)],
        ["Request body that can be sent again", &format!("{} bytes", settings.longest_replayed)],
        ["Silence of a client, and wait of an answer for it", &Span(settings.idle).to_string()],
        ["Wait for the beginning of an answer", &Span(settings.answer_within).to_string()],
        ["Wait for calls at shutdown", &Span(settings.drain_for).to_string()],
        ["Key", if settings.key.is_some() { "required from every request" } else { "none" }],
        ["Answers GET /token", if settings.hands_out_tokens { "yes" } else { "no" }],
    ];
    table(page, "Limits", ["Limit", "Value"], rows.map(|row| row.map(str::to_owned)))
}

/// A heading and a table, or `none` when there are no rows.
fn table<const N: usize>(
    page: &mut String,
    title: &str,
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> fmt::Result {
    writeln!(page, "<h2>{title}</h2>")?;
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return writeln!(page, "<p>{NOTHING}</p>");
    }
    page.push_str("<table>\n<thead><tr>");
    for head in heads {
        write!(page, "<th scope=\"col\">{head}</th>")?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let (open, close) = if column == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            write!(page, "{open}{}{close}", Escaped(cell))?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn since(moment: SystemTime) -> Duration {
    moment.elapsed().unwrap_or_default()
}

/// A duration for people, in at most two units.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds @ 3600..86_400 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            seconds => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

/// Text with the escapes that HTML needs.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
