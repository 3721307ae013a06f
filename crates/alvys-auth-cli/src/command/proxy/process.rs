//! What a server needs of the system it runs on: descriptors.

/// Takes as many descriptors as the system allows: each call has a connection on either side, and the usual 1024 are
/// less than the connections that the proxy accepts.
#[cfg(unix)]
pub(super) fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where there is no limit in name, there is one in fact: no more than this on macOS.
    let current = maximum.or(Some(10_240));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        tracing::debug!(target: "alvys_auth", %error, "goes on with the descriptors at hand");
    }
}

/// There is no such limit here.
#[cfg(not(unix))]
pub(super) fn take_descriptors() {}
