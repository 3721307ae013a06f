//! Keeps the memory of this process, which has the secret and the token in it, from other processes and out of core files.

/// Other processes of this user cannot read the memory of this one or attach to it, and no core file is written.
#[cfg(unix)]
pub(crate) fn close_memory() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Both fail only where a sandbox forbids them. The command still works there.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let Rlimit { current, maximum } = getrlimit(Resource::Core);
    let _ = CORE.set(current);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

/// The limit for core files as it was.
#[cfg(unix)]
static CORE: std::sync::OnceLock<Option<u64>> = std::sync::OnceLock::new();

/// Gives the program that takes the place of this one the limit for core files back.
#[cfg(unix)]
pub(crate) fn hand_over() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if let Some(current) = CORE.get() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Core);
        let _ = setrlimit(Resource::Core, Rlimit { current: *current, maximum });
    }
}

/// This system has neither.
#[cfg(not(unix))]
pub(crate) fn close_memory() {}
