//! A fleet in virtual time: nodes with a lifecycle each, a store with faults, and a token endpoint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use alvys_auth_core::share::{Answer, Cell, Id, Operation, SharedToken};
use alvys_auth_core::{
    Attempt, Change, Credentials, Error, Flow, Lifecycle, Next, Policy, Step, Timestamp, Token, TokenRequest,
    TokenResponse,
};
use http::Response;

use crate::support::{answer, granted, with};

/// How long a caller waits for a token.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// How long a driver waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a token lives.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Random numbers, the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the store does to operations, each in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The operation never arrives.
    pub(crate) lost: u64,
    /// The operation is carried out, and its answer never arrives.
    pub(crate) unanswered: u64,
    /// The operation is carried out a second time, later.
    pub(crate) twice: u64,
    /// The way there or back takes up to two seconds, so that operations overtake one another.
    pub(crate) slow: u64,
    /// The answer is an error.
    pub(crate) refused: u64,
}

/// How the token endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Grants,
    Denies,
    /// 429 with this wait in seconds.
    Limits(u64),
    Unavailable,
    Silent,
}

/// When a node dies: after it has been told to do the given thing for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Claim,
    Claimed,
    Send,
    Answered,
    Publish,
}

enum Event {
    /// A caller on this node wants a token, until then at the longest.
    Wants(usize, Timestamp),
    /// A caller looks again.
    Looks(usize, Timestamp, u64),
    GoesOn(usize, u64, Attempt),
    AtStore(usize, u64, Option<Attempt>, Operation<String, String>, bool),
    FromStore(usize, u64, Attempt, Result<Answer<String, String>, ()>),
    AtServer(usize, u64, Attempt),
}

pub(crate) struct Node {
    pub(crate) lifecycle: Lifecycle,
    /// How far its clock is ahead of the world's.
    offset: Duration,
    /// Counts its lives: what belongs to an earlier one is dropped.
    life: u64,
    /// Callers who wait, by when they give up; each is woken by a change.
    waiting: Vec<Timestamp>,
    asleep_until: Timestamp,
    pub(crate) used: Option<Token>,
    pub(crate) told: Vec<Change>,
}

/// A request that reached the token endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) at: Timestamp,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) store_up: bool,
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cells: BTreeMap<String, Cell>,
    /// How far the store's clock is ahead.
    store_offset: Duration,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    events: BTreeMap<u64, Event>,
    numbered: u64,
    pub(crate) asked: Vec<Asked>,
    pub(crate) issued: u64,
    /// Callers that got a token, and those that got none, with the reason.
    pub(crate) served: u64,
    pub(crate) failed: Vec<Error>,
    pub(crate) operations: u64,
    /// The first node that comes to this point dies there.
    pub(crate) fatal: Option<Point>,
    pub(crate) deaths: u64,
    pub(crate) met: BTreeSet<&'static str>,
    policy: Policy,
}

impl World {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        // Without a second request beside the first one, which is about something else.
        let policy = Policy::new().hedge_after(Duration::from_secs(3600));
        let mut world = Self {
            now: Timestamp::from_millis(1_000_000),
            dice: Dice(seed),
            faults: Faults::default(),
            store_up: true,
            server: Server::Grants,
            nodes: Vec::new(),
            cells: BTreeMap::new(),
            store_offset: Duration::from_secs(seed % 10_000),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            asked: Vec::new(),
            issued: 0,
            served: 0,
            failed: Vec::new(),
            operations: 0,
            fatal: None,
            deaths: 0,
            met: BTreeSet::new(),
            policy,
        };
        for node in 0..nodes {
            let lifecycle = world.lifecycle("s3cret");
            // Clocks of different machines have nothing to do with one another.
            let offset = Duration::from_secs(world.dice.below(100_000));
            world.nodes.push(Node {
                lifecycle,
                offset,
                life: node as u64,
                waiting: Vec::new(),
                asleep_until: Timestamp::default(),
                used: None,
                told: Vec::new(),
            });
        }
        world
    }

    fn lifecycle(&mut self, secret: &str) -> Lifecycle {
        let credentials = Credentials::new("my-client", secret).expect("credentials");
        let request = TokenRequest::new(Flow::current(), credentials).expect("a request");
        let mut owner = [0; 16];
        owner.iter_mut().for_each(|byte| *byte = self.dice.below(256) as u8);
        Lifecycle::new(request, self.policy.clone(), self.dice.0).with_store(Id::from_bytes(owner))
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert(self.numbered, event);
        self.queue.push(Reverse((self.now.saturating_add(after), self.numbered)));
    }

    /// A caller on `node` asks for a token after that time.
    pub(crate) fn want(&mut self, node: usize, after: Duration) {
        let until = self.now.saturating_add(after).saturating_add(PATIENCE);
        self.schedule(after, Event::Wants(node, until));
    }

    /// Callers on all nodes ask for a token within that time.
    pub(crate) fn all_want(&mut self, within: Duration) {
        for node in 0..self.nodes.len() {
            let after = ms(self.dice.below(within.as_millis() as u64 + 1));
            self.want(node, after);
        }
    }

    /// Lets the time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        while let Some(Reverse((at, number))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at.max(self.now);
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// The process ends here and now, and another one starts in its place.
    pub(crate) fn kill(&mut self, node: usize) {
        let secret = self.nodes[node].lifecycle.request().client_secret().to_owned();
        let lifecycle = self.lifecycle(&secret);
        self.deaths += 1;
        let node = &mut self.nodes[node];
        node.life += 1_000_000;
        node.waiting.clear();
        node.used = None;
        node.lifecycle = lifecycle;
    }

    /// The machine of the node sleeps; whatever reaches it meanwhile waits.
    pub(crate) fn sleep(&mut self, node: usize, time: Duration) {
        self.nodes[node].asleep_until = self.now.saturating_add(time);
    }

    pub(crate) fn local(&self, node: usize) -> Timestamp {
        self.now.saturating_add(self.nodes[node].offset)
    }

    fn happen(&mut self, event: Event) {
        let (node, life) = match &event {
            Event::Wants(node, _) => (*node, None),
            Event::Looks(node, _, life)
            | Event::GoesOn(node, life, _)
            | Event::FromStore(node, life, ..)
            | Event::AtServer(node, life, _) => (*node, Some(*life)),
            Event::AtStore(..) => return self.at_store(event),
        };
        if life.is_some_and(|life| life != self.nodes[node].life) {
            return;
        }
        let rest = self.nodes[node].asleep_until.saturating_duration_since(self.now);
        if !rest.is_zero() && !matches!(event, Event::AtServer(..)) {
            return self.schedule(rest, event);
        }
        match event {
            Event::Wants(node, until) | Event::Looks(node, until, _) => self.look(node, until),
            Event::GoesOn(node, _, attempt) => self.step(node, attempt),
            Event::FromStore(node, _, attempt, answer) => self.heard(node, attempt, answer),
            Event::AtServer(node, _, attempt) => self.at_server(node, attempt),
            Event::AtStore(..) => {}
        }
    }

    /// A caller who waits until `until` looks what there is.
    fn look(&mut self, node: usize, until: Timestamp) {
        let (now, life) = (self.local(node), self.nodes[node].life);
        let deadline = now.saturating_add(until.saturating_duration_since(self.now));
        match self.nodes[node].lifecycle.poll(now) {
            Step::Use(token) => {
                assert!(now < token.expires_at(), "an expired token is used");
                let secret = self.nodes[node].lifecycle.request().client_secret().to_owned();
                let of_secret = token.access_token().starts_with(&format!("token.of.{secret}."));
                assert!(of_secret || secret != "s3cret", "the token of another key is used");
                self.served += 1;
                self.nodes[node].used = Some(token);
            }
            Step::Fetch(attempt) => {
                let renewal = attempt.is_renewal();
                if !renewal {
                    self.nodes[node].waiting.push(until);
                }
                self.step(node, attempt);
                if renewal {
                    self.look(node, until);
                }
            }
            Step::Wait(wait) if wait.is_in_vain(deadline, now) => self.failed.extend(wait.give_up().err()),
            Step::Wait(wait) => {
                let after = wait.until().min(deadline).saturating_duration_since(now).max(ms(1));
                self.nodes[node].waiting.push(until);
                self.schedule(after, Event::Looks(node, until, life));
            }
            Step::Fail(error) => self.failed.push(error),
        }
    }

    /// Takes an attempt's next step.
    fn step(&mut self, node: usize, attempt: Attempt) {
        let (now, life) = (self.local(node), self.nodes[node].life);
        let next = self.nodes[node].lifecycle.next(attempt, now);
        match next {
            Next::Send(mut attempt) => {
                self.tell_news(node, &mut attempt);
                if self.dies(node, Point::Send) {
                    return;
                }
                let after = ms(5 + self.dice.below(50));
                self.schedule(after, Event::AtServer(node, life, attempt));
            }
            Next::Store(mut attempt, operation) => {
                let operation = *operation;
                self.tell_news(node, &mut attempt);
                let point = match operation {
                    Operation::Claim { .. } => Point::Claim,
                    Operation::Publish { .. } => Point::Publish,
                    _ => Point::Answered,
                };
                if point != Point::Answered && self.dies(node, point) {
                    return;
                }
                self.operations += 1;
                let operation = sealed(attempt.request(), operation);
                let after = self.way();
                if self.dice.happens(self.faults.twice) {
                    let later = after + self.way();
                    self.schedule(later, Event::AtStore(node, life, None, operation.clone(), false));
                }
                let lost = self.dice.happens(self.faults.lost) || !self.store_up;
                self.schedule(after, Event::AtStore(node, life, Some(attempt), operation, lost));
            }
            Next::Wait(mut attempt, until) => {
                self.tell_news(node, &mut attempt);
                self.met.insert("wait");
                let after = until.saturating_duration_since(now);
                assert!(!after.is_zero(), "a wait of no length");
                self.schedule(after, Event::GoesOn(node, life, attempt));
            }
            Next::Over(change) => self.tell(node, Some(change)),
            other => panic!("there is no provider to ask: {other:?}"),
        }
    }

    fn way(&mut self) -> Duration {
        if self.dice.happens(self.faults.slow) { ms(self.dice.below(1900)) } else { ms(self.dice.below(3)) }
    }

    fn tell_news(&mut self, node: usize, attempt: &mut Attempt) {
        while let Some(news) = attempt.take_news() {
            self.tell(node, Some(news));
        }
    }

    /// Everybody who waits on this node looks again.
    fn tell(&mut self, node: usize, change: Option<Change>) {
        // That others ask is for short runs, which wait for a renewal.
        let Some(change) = change.filter(|change| !matches!(change, Change::AskedByOthers)) else { return };
        self.met.insert(match &change {
            Change::Obtained(_) => "obtained",
            Change::Renewed(_) => "renewed",
            Change::Paused { .. } => "paused",
            Change::Adopted(_) => "adopted",
            Change::StoreFailed(_) => "store failed",
            Change::Shared => "shared",
            Change::Superseded => "superseded",
            _ => "other",
        });
        self.nodes[node].told.push(change);
        for until in std::mem::take(&mut self.nodes[node].waiting) {
            let life = self.nodes[node].life;
            self.schedule(Duration::ZERO, Event::Looks(node, until, life));
        }
    }

    fn dies(&mut self, node: usize, point: Point) -> bool {
        let fatal = self.fatal == Some(point);
        if fatal {
            self.fatal = None;
            self.kill(node);
            self.want(node, Duration::ZERO);
        }
        fatal
    }

    fn at_store(&mut self, event: Event) {
        let Event::AtStore(node, life, attempt, operation, lost) = event else { return };
        let answer = (!lost).then(|| {
            let now = self.now.saturating_add(self.store_offset);
            let secret = self.nodes[node].lifecycle.request().client_secret().to_owned();
            self.cells.entry(secret).or_default().run(operation, now)
        });
        let Some(attempt) = attempt else { return };
        if self.dice.happens(self.faults.refused) {
            return self.schedule(ms(1), Event::FromStore(node, life, attempt, Err(())));
        }
        let answer = answer.filter(|_| !self.dice.happens(self.faults.unanswered));
        match answer {
            Some(answer) => {
                let after = self.way();
                self.schedule(after, Event::FromStore(node, life, attempt, Ok(answer)));
            }
            None => self.schedule(STORE_TIMEOUT, Event::FromStore(node, life, attempt, Err(()))),
        }
    }

    fn heard(&mut self, node: usize, attempt: Attempt, answer: Result<Answer<String, String>, ()>) {
        let claimed = answer.as_ref().is_ok_and(|answer| answer.outcome == alvys_auth_core::share::Outcome::Claimed);
        if claimed && self.dies(node, Point::Claimed) {
            return;
        }
        let answer = answer.map(|answer| opened(attempt.request(), answer));
        let answer = answer.map_err(|()| Error::timed_out("the store has not answered in time"));
        self.step(node, attempt.stored(answer));
    }

    fn at_server(&mut self, node: usize, attempt: Attempt) {
        self.asked.push(Asked { at: self.now });
        let life = self.nodes[node].life;
        if self.server == Server::Silent {
            let failed = attempt.failed(Error::timed_out("the token endpoint did not answer in time"));
            return self.schedule(Duration::from_secs(10), Event::GoesOn(node, life, failed));
        }
        let secret = attempt.request().client_secret().to_owned();
        let response = self.response(&secret);
        if self.dies(node, Point::Answered) {
            return;
        }
        let after = ms(50 + self.dice.below(400));
        self.schedule(after, Event::GoesOn(node, life, attempt.answered(&response)));
    }

    fn response(&mut self, secret: &str) -> Response<Vec<u8>> {
        match self.server {
            Server::Grants => {
                self.issued += 1;
                granted(&format!("token.of.{secret}.{}", self.issued), LIFETIME.as_secs())
            }
            Server::Limits(seconds) => with(answer(429, "{}"), "retry-after", &seconds.to_string()),
            Server::Unavailable => answer(503, "{}"),
            Server::Denies | Server::Silent => answer(401, r#"{"error":"access_denied"}"#),
        }
    }

    /// The access tokens that nodes hold and may use now.
    pub(crate) fn held(&self) -> Vec<Option<String>> {
        let usable = |(index, node): (usize, &Node)| {
            let now = self.local(index);
            let held = node.lifecycle.held().filter(|token| now < token.expires_at());
            held.map(|token| token.access_token().to_owned())
        };
        self.nodes.iter().enumerate().map(usable).collect()
    }
}

/// What stands for sealing here: the text with the secret in front, which another secret does not open.
fn sealed(request: &TokenRequest, operation: Operation<TokenResponse, Error>) -> Operation<String, String> {
    let seal = |text: &str| format!("{} {text}", request.client_secret());
    match operation {
        Operation::Look => Operation::Look,
        Operation::Claim { owner, unwanted, lease } => Operation::Claim { owner, unwanted, lease },
        Operation::Publish { owner, replaced, generation, token, lifetime } => {
            Operation::Publish { owner, replaced, generation, token: seal(&token.to_entry()), lifetime }
        }
        Operation::Fail { owner, failure, pause } => {
            Operation::Fail { owner, failure: seal(&failure.to_entry()), pause }
        }
        Operation::Reject { generation, grace } => Operation::Reject { generation, grace },
        other => panic!("an unknown operation: {other:?}"),
    }
}

fn opened(request: &TokenRequest, answer: Answer<String, String>) -> Answer<TokenResponse, Error> {
    let secret = request.client_secret();
    let open = |text: &str| {
        text.split_once(' ').filter(|(sealed_by, _)| *sealed_by == secret).map(|(_, text)| text.to_owned())
    };
    let Answer { outcome, token, busy_for, pause } = answer;
    let token = token.map(|SharedToken { generation, age, left, token }| {
        let token = token.and_then(|text| TokenResponse::from_entry(&open(&text)?, age + left));
        SharedToken { generation, age, left, token }
    });
    let pause = pause.map(|(failure, left)| (failure.and_then(|text| Error::from_entry(&open(&text)?, left)), left));
    Answer { outcome, token, busy_for, pause }
}
