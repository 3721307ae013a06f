//! What becomes of the attempts of a world: questions, requests, and how each of them ends.

use http::Response;

use super::event::{Answer, Reading};
use super::*;
use crate::support::{answer, denied, half_an_answer, html, unreachable_server, with};

/// An attempt that is not over, and where it stands.
pub(super) struct Open {
    pub(super) attempt: Attempt,
    pub(super) point: Point,
    pub(super) number: u64,
    pub(super) started: Timestamp,
    /// Whether it only looks behind a refusal, and whether it was begun after one.
    pub(super) look: bool,
    pub(super) after_refusal: bool,
    /// The credentials that were in use when it was begun, or when it last sent its request.
    pub(super) credentials: Credentials,
    pub(super) asked: u32,
    pub(super) sent: u32,
}

#[derive(Clone)]
pub(super) enum Point {
    Begun,
    Asking,
    /// What the provider gave, and after how many installations of credentials.
    Heard(Reply, u64),
    Sending,
}

pub(super) type Reply = Option<Result<Given<Credentials>, Error>>;

impl World {
    pub(super) fn take(&mut self, which: usize) -> Option<Open> {
        (!self.open.is_empty()).then(|| self.open.swap_remove(which % self.open.len()))
    }

    /// Takes an attempt's next step, whatever that is.
    pub(super) fn step(&mut self, mut open: Open, reading: Reading, answered: Answer) {
        match open.point {
            Point::Begun | Point::Heard(..) => self.go_on(open),
            Point::Sending => self.answered(open, answered),
            Point::Asking => {
                let (reply, at_once) = match reading {
                    Reading::Reads { at_once } => (Some(Ok(self.read(&open))), at_once),
                    Reading::Fails => (Some(Err(Error::timed_out("the store is shut"))), true),
                    Reading::UnknownTenant => (Some(Err(Error::unknown_tenant("va336"))), false),
                    Reading::Hangs => (None, true),
                };
                if reply.is_some() && !at_once && self.question == Some(open.number) {
                    self.provider_answers();
                }
                open.point = Point::Heard(reply, self.installed);
                if at_once { self.go_on(open) } else { self.open.push(open) }
            }
        }
    }

    /// What the provider gives to whoever shows the mark that this attempt does.
    fn read(&self, open: &Open) -> Given<Credentials> {
        let (credentials, mark) = self.stored.clone().expect("a provider");
        let shown = self.shown(open);
        Given::unless(shown, Mark::new(mark), || Ok(credentials)).expect("what is stored")
    }

    /// The mark that an attempt shows: none because of a refusal, unless it only looks.
    fn shown(&self, open: &Open) -> Option<Mark> {
        self.known.filter(|_| open.sent == 0 && (open.look || !open.after_refusal))
    }

    /// Hands in an attempt that has come to its next question or request.
    fn go_on(&mut self, mut open: Open) {
        let live = self.is_live(open.number);
        let mut heard = None;
        if let Point::Heard(reply, read_at) = open.point.clone() {
            if reply.is_some() && self.question == Some(open.number) {
                self.question = None;
            }
            open.attempt = match reply.clone() {
                Some(given) => open.attempt.provided(Some(given)),
                None => open.attempt.provided(None),
            };
            if live {
                self.takes_over(&reply, read_at);
            }
            heard = Some(reply);
        }
        if live && self.live.is_none() {
            // Other credentials were installed: it is another attempt now.
            self.attempts += 1;
            self.awaits(self.attempts, Duration::ZERO, None, true);
            (open.number, open.started) = (self.attempts, self.now);
        }
        match self.lifecycle.next(open.attempt, self.now) {
            Next::Ask(attempt, known) => self.asks(Open { attempt, ..open }, known, live),
            Next::Send(attempt) => self.sends(Open { attempt, ..open }, heard, live),
            Next::Over(change) => self.over(change, open.number, open.started, open.sent > 0, open.look),
            other => panic!("{other:?}"),
        }
    }

    /// The attempt that everybody waits for has heard from its provider.
    fn takes_over(&mut self, reply: &Reply, read_at: u64) {
        match reply {
            Some(Ok(Given::These(credentials, mark))) => {
                self.known = Some(*mark);
                if *credentials != self.in_use {
                    assert_eq!(read_at, self.installed, "older credentials are put over newer ones");
                    self.met.insert("credentials of the provider");
                    let same_client = credentials.client_id() == self.in_use.client_id();
                    self.install(credentials.clone(), same_client);
                }
            }
            Some(Err(error)) if error.kind() == ErrorKind::UnknownTenant => {
                self.met.insert("unknown tenant");
                self.held_until = None;
            }
            _ => {}
        }
    }

    fn asks(&mut self, mut open: Open, known: Option<Mark>, live: bool) {
        assert!(live, "an attempt that nobody waits for asks");
        assert!(self.stored.is_some() && self.question.is_none(), "a second open question");
        assert_eq!(known, self.shown(&open), "the wrong mark");
        self.met.insert(if open.sent > 0 { "ask after a refusal" } else { "ask" });
        (self.question, self.asked_at) = (Some(open.number), Some(self.now));
        let hedged = self.live.is_some_and(|live| live.hedged);
        self.awaits(open.number, TIME_LIMIT, None, hedged);
        open.asked += 1;
        open.point = Point::Asking;
        self.open.push(open);
    }

    fn sends(&mut self, mut open: Open, heard: Option<Reply>, live: bool) {
        assert!(live, "an attempt that nobody waits for sends");
        assert_eq!(open.attempt.to_http().into_body(), self.lifecycle.request().to_http().into_body());
        let others = open.credentials != self.in_use;
        assert!(open.sent == 0 || open.sent == 1 && others, "the same credentials are sent twice");
        let unknown = self.failure.is_some_and(|failure| failure.kind == ErrorKind::UnknownTenant);
        let known_again = unknown && matches!(heard, Some(Some(Ok(_))));
        let again = !others && self.completed == Some(self.now) && !known_again;
        assert!(!again, "the same request again at the same instant");
        if let Some(failure) = &self.failure {
            assert!(!open.look || known_again, "the refused credentials are sent behind a refusal");
            assert!(!unknown || known_again, "a request for a tenant that is not known");
            let bought = failure.asked.saturating_add(self.rules.longest_cool_down);
            let wrong = failure.kind == ErrorKind::WrongOrganization;
            assert!(!wrong || bought <= self.now, "a token of the wrong organization is bought again");
            assert!(self.word <= self.now || known_again, "the server's word is undercut");
        }
        self.met.insert(if open.sent > 0 { "send again" } else { "send" });
        let hedged = self.live.is_some_and(|live| live.hedged);
        self.awaits(open.number, Duration::ZERO, Some(self.rules.hedge_after), hedged);
        open.sent += 1;
        open.credentials = self.in_use.clone();
        open.point = Point::Sending;
        self.open.push(open);
    }

    /// The server answers, or does not.
    fn answered(&mut self, open: Open, answered: Answer) {
        let live = self.is_live(open.number);
        let with_wait = |status, seconds: u64| with(answer(status, ""), "retry-after", &seconds.to_string());
        let response = match answered {
            Answer::Token(lifetime) => return self.succeed(open, lifetime),
            Answer::Transport => Err(unreachable_server()),
            Answer::CutShort => Err(half_an_answer()),
            Answer::Unavailable => Ok(answer(503, "")),
            Answer::RetryAfter(seconds) => Ok(with_wait(429, seconds)),
            Answer::Denied => Ok(denied()),
            Answer::RefusedFor(seconds) => Ok(with(denied(), "retry-after", &seconds.to_string())),
            Answer::Redirect => Ok(answer(302, "")),
            Answer::Page => Ok(html(200)),
            Answer::Garbage => Ok(answer(200, "garbage")),
            Answer::WrongOrganization => Ok(self.granted(3600, "another")),
        };
        let mends = matches!(answered, Answer::Denied | Answer::RefusedFor(_) | Answer::WrongOrganization);
        let asks = live
            && mends
            && self.stored.is_some()
            && self.question.is_none()
            && !(open.look || open.after_refusal || open.asked_after_refusal());
        let handed_in = match response {
            Ok(response) => open.attempt.answered(&response),
            Err(error) => open.attempt.failed(error),
        };
        match self.lifecycle.next(handed_in, self.now) {
            Next::Ask(attempt, known) => {
                assert!(asks, "{answered:?} is asked about");
                self.asks(Open { attempt, ..open }, known, live);
            }
            Next::Over(change) => {
                assert!(!asks, "{answered:?} is not asked about: {change:?}");
                self.over(change, open.number, open.started, true, open.look);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn granted(&mut self, lifetime: u64, organization: &str) -> Response<Vec<u8>> {
        self.serial += 1;
        let token = jwt(&json!({"org_name": organization, "serial": self.serial}));
        granted(&token, lifetime)
    }

    fn succeed(&mut self, open: Open, lifetime: u64) {
        let response = self.granted(lifetime, "va336");
        let live = self.is_live(open.number);
        let expires_at = open.started.saturating_add(Duration::from_secs(lifetime));
        let held = self.held_until.filter(|until| self.now < *until);
        let next = self.lifecycle.next(open.attempt.answered(&response), self.now);
        let Next::Over(change) = next else { panic!("{next:?}") };
        if open.number <= self.outdated
            || !live && held.is_some_and(|until| expires_at <= until) && expires_at > self.now
        {
            assert!(matches!(change, Change::Superseded), "{change:?}");
            self.met.insert("superseded");
            return;
        }
        match change {
            Change::Obtained(token) | Change::Renewed(token) if expires_at > self.now => {
                self.met.insert(if held.is_some() { "renewed" } else { "obtained" });
                assert_eq!(token.expires_at(), expires_at);
                assert!(token.renewal_at() > self.now && token.renewal_at() <= expires_at);
                self.seen.push(token);
                self.held_until = Some(expires_at);
                if live {
                    self.live = None;
                    self.completed = Some(self.now);
                    self.failure = None;
                    self.word = Timestamp::default();
                }
            }
            other => {
                assert!(expires_at <= self.now, "a good token became {other:?}");
                self.over(other, open.number, open.started, true, open.look);
            }
        }
    }

    pub(super) fn abandon(&mut self, open: Open) {
        let next = self.lifecycle.next(open.attempt.abandoned(), self.now);
        let Next::Over(change) = next else { panic!("{next:?}") };
        self.over(change, open.number, open.started, false, open.look);
    }

    /// An attempt is over without a token. `sent` says whether a request of it was answered.
    fn over(&mut self, change: Change, number: u64, started: Timestamp, sent: bool, look: bool) {
        let live = self.is_live(number);
        match change {
            Change::Paused { until, error } => {
                assert!(number > self.outdated, "a failure of credentials that are in use no more");
                self.met.insert("paused");
                assert!(until > self.now, "a pause of no length");
                let word = self.now.saturating_add(error.retry_after().unwrap_or_default());
                assert!(until >= word, "the server's word is undercut");
                self.word = self.word.max(word);
                let costly = error.is_retryable() && self.is_costly(&error);
                let calm = !error.is_retryable() || costly || !self.holds_valid_token();
                let asked = self.failure.filter(|_| !sent).map_or(started, |failure| failure.asked);
                self.failure = Some(Failure {
                    kind: error.kind(),
                    retryable: error.is_retryable(),
                    costly,
                    soon: (if calm { until } else { word.max(self.now) }, until),
                    calm: until,
                    asked,
                });
                if live {
                    self.live = None;
                    if sent {
                        self.completed = Some(self.now);
                    }
                }
            }
            // What a look behind a refusal ends with: the provider has nothing else, or fails.
            Change::Unchanged | Change::ProviderFailed(_) => {
                assert!(live && look && !sent);
                self.met.insert("unchanged");
                self.live = None;
            }
            Change::Abandoned => {
                assert!(live);
                self.met.insert("abandoned");
                self.live = None;
            }
            other => {
                assert!(matches!(other, Change::Superseded), "{other:?}");
                if live {
                    assert!(!sent && self.word > self.now, "nothing has told it to wait");
                    self.live = None;
                }
                self.met.insert("superseded");
            }
        }
    }

    fn is_costly(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::InvalidResponse
    }

    /// Carries an attempt out to its end with a provider and a server that are well.
    pub(super) fn finish(&mut self, open: Open, lifetime: u64) {
        let number = open.number;
        self.open.push(open);
        for _ in 0..8 {
            let Some(at) = self.open.len().checked_sub(1) else { return };
            if self.open[at].number < number {
                return;
            }
            let open = self.open.swap_remove(at);
            self.step(open, Reading::Reads { at_once: true }, Answer::Token(lifetime));
        }
    }
}

impl Open {
    /// Whether its provider was asked after a refusal and had others.
    fn asked_after_refusal(&self) -> bool {
        self.sent > 1
    }
}
