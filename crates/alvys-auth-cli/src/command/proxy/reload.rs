//! What SIGHUP does, and what is said when it changes nothing.

use crate::failure::Failure;
use crate::messages;

/// The function that SIGHUP calls.
pub(super) type Reload = Box<dyn Fn() + Send + Sync>;

/// The new settings are for another place, so their credentials must not be sent to the one that this proxy uses.
pub(super) fn elsewhere(what: String) -> Failure {
    Failure::configuration(what, "restart the proxy, or change the setting back")
}

/// Says on stderr that SIGHUP changed nothing. The sender of the signal sees no exit code.
pub(super) fn not_reloaded(failure: &Failure) {
    messages::complain(&format!(
        "alvys-auth: SIGHUP changed nothing, the old settings stay in use: {}; {}",
        failure.what, failure.todo
    ));
}
