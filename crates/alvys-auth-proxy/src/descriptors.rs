//! How many connections the limit of open files allows.

use tracing::warn;

use crate::settings::Settings;
use crate::watch::NOTICES;

/// The most connections for calls. Further connections wait until they are accepted.
const MOST_CONNECTIONS: usize = 1024;
/// The most connections for health checks. They are counted apart, so that checks work while callers take all connections.
const MOST_CHECKS: usize = 64;
/// One descriptor in so many is kept for health checks, where that gives fewer than [`MOST_CHECKS`].
const PART: usize = 8;
/// The descriptors that are kept back for files, listeners and token requests.
const OWN: usize = 24;
/// Each call may have a connection of its client, one to the API, and another one there that is kept for the next call.
const EACH: usize = 3;

/// How many connections of each kind there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) connections: usize,
    pub(crate) checks: usize,
}

impl Descriptors {
    /// As many connections as the current limit of open files allows this process.
    pub(crate) fn of_this_process() -> Self {
        #[cfg(unix)]
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        #[cfg(not(unix))]
        let limit = None;
        Self::within(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
    }

    fn within(limit: usize) -> Self {
        let checks = (limit / PART).clamp(1, MOST_CHECKS);
        let connections = limit.saturating_sub(OWN + checks) / EACH;
        Self { connections: connections.clamp(1, MOST_CONNECTIONS), checks }
    }

    /// Limits the calls in progress to the number of connections.
    pub(crate) fn limit(self, mut settings: Settings) -> Settings {
        if settings.most_at_once > self.connections && self.connections < MOST_CONNECTIONS {
            settings.most_at_once = self.connections;
            warn!(
                target: NOTICES,
                "the limit of open files allows {} calls at the same time; raise it (ulimit -n, LimitNOFILE)",
                self.connections
            );
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_for_health_checks_are_kept_back() {
        for (limit, connections, checks) in
            [(64, 10, 8), (48, 6, 6), (10, 1, 1), (1024, 312, 64), (4096, 1024, 64), (usize::MAX, 1024, 64)]
        {
            let descriptors = Descriptors::within(limit);
            assert_eq!(descriptors, Descriptors { connections, checks }, "{limit}");
            assert!(limit < 48 || EACH * connections + checks + OWN <= limit);
        }
        let few = Descriptors::within(64);
        assert_eq!(few.limit(Settings::new()).most_at_once, 10);
        assert_eq!(Descriptors::within(4096).limit(Settings::new().most_at_once(5000)).most_at_once, 5000);
    }
}
