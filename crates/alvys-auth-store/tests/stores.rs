//! The stores of this crate, tried with the kit, and what only a store in files has to keep.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::share::{Id, Operation, Outcome};
use alvys_auth_driver::ManualClock;
use alvys_auth_store::{AsyncStore, BlockingStore, FileStore, MemoryStore, Name, SealedAnswer, SealedOperation, kit};

const HOUR: Duration = Duration::from_secs(3600);

fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

fn name() -> Name {
    Name::parse("0123456789abcdef0123456789abcdef-01ab").expect("a name")
}

fn publish(generation: u8) -> SealedOperation {
    let token = "sealed".to_owned();
    Operation::Publish { owner: id(1), replaced: None, generation: id(generation), token, lifetime: HOUR }
}

fn held(answer: &SealedAnswer) -> Option<Id> {
    answer.token.as_ref().map(|token| token.generation)
}

/// A store in files, in a directory that goes with it.
fn files() -> (tempfile::TempDir, FileStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(directory.path().join("tokens")).expect("a store");
    (directory, store)
}

#[test]
fn the_store_in_memory_keeps_its_promises() {
    let store = MemoryStore::new();
    kit::check(&|name, operation| BlockingStore::run(&store, name, operation));
}

#[test]
fn the_store_in_files_keeps_its_promises() {
    let (_directory, store) = files();
    kit::check(&|name, operation| store.run(name, operation));
}

/// A store that answers `instead` to what `wrong` picks out.
fn broken(wrong: fn(&SealedOperation) -> bool, instead: fn(SealedAnswer) -> SealedAnswer) -> Result<(), String> {
    let store = MemoryStore::new();
    let run = |name: &Name, operation: SealedOperation| {
        let is_wrong = wrong(&operation);
        let answer = BlockingStore::run(&store, name, operation)?;
        Ok(if is_wrong { instead(answer) } else { answer })
    };
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| kit::check(&run)));
    told.map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).unwrap_or_default())
    })
}

#[test]
fn the_kit_notices_a_store_that_breaks_a_promise() {
    let everybody = broken(
        |operation| matches!(operation, Operation::Claim { .. }),
        |answer| SealedAnswer { outcome: Outcome::Claimed, ..answer },
    );
    assert!(everybody.is_err_and(|told| told.contains("a second process does not get the lease")));
    let forgetful = broken(|operation| *operation == Operation::Look, |answer| SealedAnswer { token: None, ..answer });
    assert!(forgetful.is_err());
    let patient = broken(|_| true, |answer| SealedAnswer { busy_for: Duration::ZERO, ..answer });
    assert!(patient.is_err_and(|told| told.contains("how long the lease lasts")));
}

#[test]
fn a_store_in_memory_follows_the_clock_that_it_was_given() {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryStore::with_clock(Arc::clone(&clock));
    let run = |operation| BlockingStore::run(&store, &name(), operation).expect("an answer");
    run(publish(1));
    clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(held(&run(Operation::Look)), Some(id(1)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(held(&run(Operation::Look)), None);
}

#[test]
fn an_async_store_can_be_shared() {
    let store: Arc<dyn AsyncStore> = Arc::new(MemoryStore::new());
    let name = name();
    let shared = Arc::clone(&store);
    let future = AsyncStore::run(&shared, &name, publish(1));
    let answer = futures_lite(future).expect("an answer");
    assert_eq!(answer.outcome, Outcome::Published);
}

/// The result of a future that does not wait.
fn futures_lite<T>(mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("a store in memory does not wait"),
    }
}

#[test]
fn entries_outlive_the_store_and_are_listed_and_cleared() {
    let (directory, store) = files();
    store.run(&name(), publish(1)).expect("published");
    drop(store);
    let path = directory.path().join("tokens");
    let store = FileStore::new(&path).expect("a store");
    assert_eq!(held(&store.run(&name(), Operation::Look).expect("seen")), Some(id(1)));
    fs::write(path.join("notes.txt"), "mine").expect("a file");
    fs::write(path.join("0123456789abcdef0123456789abcdef.token"), "of the first format").expect("a file");
    assert_eq!(store.names().expect("names"), [name()]);
    assert_eq!(store.clear().expect("cleared"), 1);
    assert_eq!(store.names().expect("names"), []);
    let left: Vec<_> = fs::read_dir(&path).expect("files").map(|file| file.expect("a file").file_name()).collect();
    assert!(left.len() == 2 && left.contains(&"notes.txt".into()) && left.contains(&"lock".into()), "{left:?}");
}

#[test]
fn an_entry_that_has_ended_leaves_no_file() {
    let (directory, store) = files();
    store.run(&name(), publish(1)).expect("published");
    let reject = Operation::Reject { generation: id(1), grace: Duration::ZERO };
    assert_eq!(store.run(&name(), reject).expect("an answer").outcome, Outcome::Rejected);
    assert_eq!(store.names().expect("names"), []);
    drop(directory);
}

#[test]
fn what_is_damaged_or_of_another_format_counts_as_absent() {
    let (directory, store) = files();
    store.run(&name(), publish(1)).expect("published");
    let path = directory.path().join("tokens").join(format!("{}.shared", name()));
    let whole = fs::read_to_string(&path).expect("a file");
    for damaged in [
        String::new(),
        "{}".to_owned(),
        whole.replace("\"format\":2", "\"format\":3"),
        whole.get(..whole.len() / 2).expect("a half").to_owned(),
    ] {
        store.run(&name(), publish(1)).expect("published");
        fs::write(&path, damaged).expect("written");
        assert_eq!(held(&store.run(&name(), Operation::Look).expect("seen")), None);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_token_outlives_a_restart_of_the_machine_and_a_lease_does_not() {
    let (directory, store) = files();
    store.run(&name(), publish(1)).expect("published");
    let claim = |owner| Operation::Claim { owner, unwanted: Some(id(1)), lease: HOUR };
    assert_eq!(store.run(&name(), claim(id(2))).expect("an answer").outcome, Outcome::Claimed);
    let path = directory.path().join("tokens").join(format!("{}.shared", name()));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    let whole = fs::read_to_string(&path).expect("a file");
    fs::write(&path, whole.replace(boot.trim(), "another-boot")).expect("written");

    let seen = store.run(&name(), Operation::Look).expect("seen");
    let token = seen.token.expect("the token");
    assert_eq!(token.generation, id(1));
    assert!(token.left <= HOUR && token.left > HOUR / 2);
    assert_eq!(store.run(&name(), claim(id(3))).expect("an answer").outcome, Outcome::Claimed);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use alvys_auth_core::ErrorKind;

    use super::*;

    #[test]
    fn only_this_user_may_read_an_entry() {
        let (directory, store) = files();
        store.run(&name(), publish(1)).expect("published");
        let tokens = directory.path().join("tokens");
        let mode = |path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(tokens.clone()), 0o700);
        assert_eq!(mode(tokens.join("lock")), 0o600);
        assert_eq!(mode(tokens.join(format!("{}.shared", name()))), 0o600);
    }

    #[test]
    fn a_link_in_place_of_an_entry_is_replaced_and_not_followed() {
        let (directory, store) = files();
        let target = directory.path().join("target");
        fs::write(&target, "somebody's").expect("a file");
        let path = directory.path().join("tokens").join(format!("{}.shared", name()));
        symlink(&target, &path).expect("a link");
        assert_eq!(store.run(&name(), publish(1)).expect("an answer").outcome, Outcome::Published);
        assert_eq!(fs::read_to_string(target).expect("a file"), "somebody's");
        assert!(fs::symlink_metadata(path).expect("a file").is_file());
    }

    #[test]
    fn a_pipe_in_place_of_an_entry_is_replaced_and_does_not_hang() {
        let (directory, store) = files();
        let path = directory.path().join("tokens").join(format!("{}.shared", name()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(store.run(&name(), publish(1)).expect("an answer").outcome, Outcome::Published);
        assert_eq!(held(&store.run(&name(), Operation::Look).expect("seen")), Some(id(1)));
    }

    /// Others may have put it there.
    #[test]
    fn an_entry_that_others_may_read_is_not_believed() {
        let (directory, store) = files();
        store.run(&name(), publish(1)).expect("published");
        let path = directory.path().join("tokens").join(format!("{}.shared", name()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(held(&store.run(&name(), Operation::Look).expect("seen")), None);
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error_that_names_it() {
        let (directory, store) = files();
        fs::create_dir(directory.path().join("tokens").join(format!("{}.shared", name()))).expect("a directory");
        let error = store.run(&name(), publish(1)).expect_err("a directory");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(".shared"), "{error}");
    }

    #[test]
    fn a_directory_that_is_a_file_is_refused_with_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        fs::write(&path, "").expect("a file");
        let error = FileStore::new(&path).expect_err("a file");
        assert!(error.to_string().contains("tokens"), "{error}");
    }
}
