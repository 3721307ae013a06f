//! The operations as one script that the server runs, and its answer.

use std::sync::LazyLock;
use std::time::Duration;

use alvys_auth_core::share::{Answer, Id, Operation, Outcome, SharedToken};
use alvys_auth_store::{Name, SealedAnswer, SealedOperation};
use redis::{Cmd, Script, Value};

const TEXT: &str = include_str!("script.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TEXT));

/// The longest time that is asked for: a server refuses times that do not fit into its clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An operation, in the two forms that a server takes.
pub(crate) struct Request {
    /// Runs the script that the server has.
    pub(crate) by_hash: Cmd,
    /// Runs the script, and leaves it there.
    pub(crate) with_text: Cmd,
}

impl Request {
    /// The operation on the keys of that name; none when this version does not know it.
    pub(crate) fn new(prefix: &str, name: &Name, operation: &SealedOperation) -> Option<Self> {
        let words = words(operation)?;
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(3);
            for part in ['t', 'l', 'p'] {
                // The keys have the same hash tag, so that a cluster keeps all three on one node.
                command.arg(format!("{prefix}{{alvys:1:{name}}}:{part}"));
            }
            command.arg(&words);
            command
        };
        Some(Self { by_hash: command("EVALSHA", SCRIPT.get_hash()), with_text: command("EVAL", TEXT) })
    }
}

fn words(operation: &SealedOperation) -> Option<Vec<String>> {
    let id = |id: &Option<Id>| id.map(String::from).unwrap_or_default();
    let millis = |duration: Duration| duration.min(LONGEST).as_millis().to_string();
    Some(match operation {
        Operation::Look => vec!["look".into(), String::new()],
        Operation::Claim { owner, unwanted, lease } => {
            vec!["claim".into(), owner.to_string(), id(unwanted), millis(*lease)]
        }
        Operation::Publish { owner, replaced, generation, token, lifetime } => {
            let (generation, lifetime) = (generation.to_string(), millis(*lifetime));
            vec!["publish".into(), owner.to_string(), id(replaced), generation, lifetime, token.clone()]
        }
        Operation::Fail { owner, failure, pause } => {
            vec!["fail".into(), owner.to_string(), failure.clone(), millis(*pause)]
        }
        Operation::Reject { generation, grace } => {
            vec!["reject".into(), String::new(), generation.to_string(), millis(*grace)]
        }
        _ => return None,
    })
}

/// The script's answer; none when it is not one of ours.
pub(crate) fn answer(value: Value) -> Option<SealedAnswer> {
    type Parts = (String, String, Vec<u8>, i64, i64, i64, Vec<u8>, i64);
    let (outcome, generation, sealed, age, left, busy_for, pause, paused_for): Parts =
        redis::from_redis_value(value).ok()?;
    let outcome = match outcome.as_str() {
        "seen" => Outcome::Seen,
        "claimed" => Outcome::Claimed,
        "newer" => Outcome::Newer,
        "paused" => Outcome::Paused,
        "busy" => Outcome::Busy,
        "published" => Outcome::Published,
        "lost" => Outcome::Lost,
        "failed" => Outcome::Failed,
        "rejected" => Outcome::Rejected,
        "young" => Outcome::Young,
        _ => return None,
    };
    let lasts = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    let token = if generation.is_empty() {
        None
    } else {
        let (age, left, token) = (lasts(age), lasts(left), String::from_utf8(sealed).ok());
        Some(SharedToken { generation: generation.parse().ok()?, age, left, token })
    };
    let pause = (paused_for > 0).then(|| (String::from_utf8(pause).ok(), lasts(paused_for)));
    Some(Answer { outcome, token, busy_for: lasts(busy_for), pause })
}
