//! Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
//!
//! ureq's own request for a tunnel accepts no more than 20 headers in the answer, and no success other than 200.

use std::io::{Read, Write};
use std::sync::Arc;

use alvys_auth_core::TransportFault::ProxyCredentials;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::Error;
use ureq::unversioned::transport::{ConnectionDetails, Transport, TransportAdapter};

use super::addresses::{AtProxy, timeout, unreached};

/// The longest head of an answer, in bytes.
const LONGEST: usize = 64 * 1024;

/// The connection to a proxy, which leads to the server from now on.
pub(super) fn tunnelled(
    connection: Box<dyn Transport>,
    user: Option<(&str, &str)>,
    details: &ConnectionDetails,
) -> Result<Box<dyn Transport>, Error> {
    let mut proxy = TransportAdapter::new(connection, Arc::clone(&details.current_time));
    proxy.set_timeout(timeout(details));
    let host = details.uri.host().unwrap_or_default();
    let place = format!("{host}:{}", details.uri.port_u16().unwrap_or(443));
    let user = user.map(|(name, password)| BASE64_STANDARD.encode(format!("{name}:{password}")));
    let user = user.map(|user| format!("Proxy-Authorization: Basic {user}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{user}\r\n");
    let answer =
        proxy.write_all(request.as_bytes()).and_then(|()| head(&mut proxy)).map_err(|error| unreached(error.into()))?;
    let status = answer
        .split(|byte| *byte == b' ')
        .nth(1)
        .and_then(|status| std::str::from_utf8(status).ok()?.get(..3)?.parse().ok());
    match status.filter(|_| answer.starts_with(b"HTTP/1.") && answer.ends_with(END)) {
        Some(200..300) => Ok(proxy.into_inner()),
        Some(407) => {
            let told = alvys_auth_core::Error::on_the_way(ProxyCredentials, "the server", "the proxy answered 407");
            Err(AtProxy::told(details.uri, told))
        }
        Some(status @ 100..600_u16) => Err(Error::ConnectProxyFailed(format!("the proxy answered {status}"))),
        _ => Err(Error::ConnectProxyFailed("the proxy gave no answer that can be read".to_owned())),
    }
}

const END: &[u8] = b"\r\n\r\n";

/// Reads the head of an answer, and nothing after it. If the head does not end, returns what there is of it.
fn head(proxy: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while head.len() < LONGEST && !head.ends_with(END) && proxy.read(&mut byte)? == 1 {
        head.extend_from_slice(&byte);
    }
    Ok(head)
}
