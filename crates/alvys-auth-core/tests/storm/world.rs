//! A server that things go wrong with, and the programs that ask it for tokens.

use std::collections::{BTreeMap, VecDeque};

use alvys_auth_core::{
    Attempt, Credentials, Error, Flow, Lifecycle, Next, Policy, Step, Timestamp, Token, TokenRequest,
};
use http::Response;

use crate::support::{answer, denied, granted, half_an_answer, html, with};

/// How long a storm lasts, how exact its times are, and how long a caller waits, in milliseconds.
const LASTS: u64 = 300_000;
const TICK: u64 = 20;
const PATIENCE: u64 = 15_000;
/// How long a token lives, in seconds.
const LIFETIME: u64 = 60;
/// Why there is no token when nothing is wrong with the server.
const LOST: &str = "the token was lost";

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The answer comes so many milliseconds later.
    SlowMs(u64),
    Unavailable,
    Limited,
    CutShort,
    Reset,
    Hang,
    Page,
    DisguisedLimit,
}

/// What a caller does, with times in milliseconds.
enum Caller {
    Thinks(u64),
    Waits { until: u64, deadline: u64, repeats: bool },
}

/// A program that asks the server for its own tokens.
struct Program {
    lifecycle: Lifecycle,
    callers: Vec<Caller>,
    /// Since when there is no token, and until when a fault acted.
    outage: Option<u64>,
    well_at: u64,
    blamed: &'static str,
    figures: Figures,
}

/// An answer that is on its way.
struct Answer {
    program: usize,
    attempt: Attempt,
    at: u64,
    outcome: Result<Response<Vec<u8>>, Error>,
}

/// What came of it, in milliseconds.
#[derive(Default)]
pub(crate) struct Figures {
    /// The time with a token at hand, and all of it.
    pub(crate) at_hand: u64,
    pub(crate) time: u64,
    /// How long after a fault was over there was a token again; for a hang, after the request was swallowed.
    pub(crate) recoveries: Vec<u64>,
    pub(crate) requests: u64,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// The time without a token, by what happened last.
    pub(crate) costs: BTreeMap<&'static str, u64>,
}

impl Figures {
    pub(crate) fn share(&self) -> f64 {
        self.at_hand as f64 * 100.0 / self.time as f64
    }
}

pub(crate) struct Storm {
    policy: Policy,
    programs: Vec<Program>,
    random: u64,
    now: u64,
    answers: Vec<Answer>,
    faults: VecDeque<Fault>,
    /// The version of the secret that the server knows, and when the programs hear of it.
    secret: u64,
    rotation: Option<u64>,
    /// How many tokens were issued, and how many of these the API refuses.
    issued: u64,
    refused: u64,
}

impl Storm {
    pub(crate) fn new(policy: &Policy, programs: &[u64], seed: u64) -> Self {
        let program = |(number, callers): (usize, &u64)| Program {
            lifecycle: Lifecycle::new(
                TokenRequest::new(Flow::current(), credentials(0)).expect("a legal request"),
                policy.clone(),
                seed * 7 + number as u64,
            ),
            callers: (0..*callers).map(|_| Caller::Thinks(0)).collect(),
            outage: None,
            well_at: 0,
            blamed: LOST,
            figures: Figures::default(),
        };
        Self {
            policy: policy.clone(),
            programs: programs.iter().enumerate().map(program).collect(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            now: 0,
            answers: Vec::new(),
            faults: VecDeque::new(),
            secret: 0,
            rotation: None,
            issued: 0,
            refused: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    pub(crate) fn run(mut self) -> Vec<Figures> {
        let mut next_fault = 5_000;
        while self.now < LASTS {
            if self.rotation.is_some_and(|at| at <= self.now) {
                self.rotation = None;
                for program in &mut self.programs {
                    program.lifecycle.set_credentials(credentials(self.secret)).expect("legal credentials");
                    program.wake(self.now);
                }
            }
            if self.now >= next_fault && self.rotation.is_none() {
                self.fault();
                next_fault = self.now + 1_500 + self.random(3_000);
            }
            self.deliver();
            for program in 0..self.programs.len() {
                for caller in 0..self.programs[program].callers.len() {
                    self.call(program, caller);
                }
                self.programs[program].observe(self.now, self.rotation.is_some());
            }
            self.now += TICK;
        }
        self.programs.into_iter().map(|program| program.figures).collect()
    }

    /// One of the things that go wrong.
    fn fault(&mut self) {
        let kind = self.random(14);
        match kind {
            0 => {
                let slow = Fault::SlowMs(self.random(2_048));
                self.faults.extend([slow; 2]);
            }
            1 => {
                let times = 1 + self.random(4) as usize;
                self.faults.extend(vec![Fault::Unavailable; times]);
            }
            2 => self.faults.push_back(Fault::Limited),
            3 => self.faults.push_back(Fault::CutShort),
            4 => self.faults.push_back(Fault::Reset),
            5 => self.faults.push_back(Fault::Hang),
            6 => self.faults.push_back(Fault::Page),
            7 => self.faults.push_back(Fault::DisguisedLimit),
            8 | 9 => self.refused = self.issued,
            10 => {
                self.secret += 1;
                self.rotation = Some(self.now + self.random(1_024));
            }
            11 | 12 => {
                if let Some(program) = self.programs.get_mut(kind as usize - 11) {
                    program.lifecycle.invalidate();
                    program.wake(self.now);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, program: usize, caller: usize) {
        let (now, at) = (self.now, self.at());
        let this = &mut self.programs[program];
        let (deadline, repeats) = match this.callers[caller] {
            Caller::Thinks(until) if until <= now => (now + PATIENCE, false),
            Caller::Waits { until, deadline, repeats } if until <= now => (deadline, repeats),
            _ => return,
        };
        let mut fetches = None;
        let done = match this.lifecycle.poll(at) {
            Step::Use(token) if number(&token) > self.refused => true,
            Step::Use(token) if !repeats && this.lifecycle.reject(&token, at) => {
                this.callers[caller] = Caller::Waits { until: now, deadline, repeats: true };
                return;
            }
            Step::Fetch(attempt) => {
                this.callers[caller] = Caller::Waits { until: now, deadline, repeats };
                fetches = Some(attempt);
                true
            }
            Step::Wait(wait) if !wait.is_in_vain(Timestamp::from_millis(deadline), at) => {
                let until = wait.until().as_millis().min(deadline);
                this.callers[caller] = Caller::Waits { until, deadline, repeats };
                return;
            }
            _ => false,
        };
        if let Some(attempt) = fetches {
            return self.carry_on(program, attempt);
        }
        this.figures.calls += u64::from(done);
        this.figures.failed += u64::from(!done);
        this.callers[caller] = Caller::Thinks(now + 30 + 7 * caller as u64);
    }

    fn carry_on(&mut self, program: usize, attempt: Attempt) {
        let at = self.at();
        match self.programs[program].lifecycle.next(attempt, at) {
            Next::Send(attempt) => self.send(program, attempt),
            Next::Over(_) => self.programs[program].wake(self.now),
            other => panic!("{other:?}"),
        }
    }

    /// A request arrives at the server, which answers later.
    fn send(&mut self, program: usize, attempt: Attempt) {
        let latency = 10 + self.random(40);
        let sent = String::from_utf8(attempt.to_http().into_body()).expect("text");
        let known = sent.contains(&format!("\"secret-{}\"", self.secret));
        let fault = self.faults.pop_front();
        let after = match fault {
            Some(Fault::SlowMs(slow)) => latency + slow,
            Some(Fault::Hang) => self.policy.timeout().as_millis() as u64,
            _ => latency,
        };
        let outcome = match fault {
            Some(Fault::Unavailable) => Ok(answer(503, "")),
            Some(Fault::Limited) => Ok(with(answer(429, ""), "retry-after", "2")),
            Some(Fault::CutShort) => Err(half_an_answer()),
            Some(Fault::Reset) => Err(Error::transport("the connection failed", "reset")),
            Some(Fault::Hang) => Err(Error::timed_out("no answer")),
            Some(Fault::Page) => Ok(html(200)),
            Some(Fault::DisguisedLimit) => {
                let said = r#"{"error":"access_denied","error_description":"Global limit has been reached"}"#;
                Ok(answer(500, said))
            }
            Some(Fault::SlowMs(_)) | None if known => {
                self.issued += 1;
                Ok(granted(&format!("token-{}", self.issued), LIFETIME))
            }
            Some(Fault::SlowMs(_)) | None => Ok(denied()),
        };
        let this = &mut self.programs[program];
        this.figures.requests += 1;
        if let Some(fault) = fault {
            this.blamed = fault.name();
            // A server that has swallowed a request is well again; one that asks for a wait is so when that is over.
            let ends = match fault {
                Fault::Hang => self.now,
                Fault::Limited => self.now + after + 2_000,
                _ => self.now + after,
            };
            this.well_at = this.well_at.max(ends);
        }
        self.answers.push(Answer { program, attempt, at: self.now + after, outcome });
    }

    fn deliver(&mut self) {
        while let Some(due) = self.answers.iter().position(|answer| answer.at <= self.now) {
            let Answer { program, attempt, outcome, .. } = self.answers.swap_remove(due);
            let handed_in = match outcome {
                Ok(response) => attempt.answered(&response),
                Err(error) => attempt.failed(error),
            };
            self.carry_on(program, handed_in);
        }
    }
}

impl Program {
    /// Lets everybody who waits look again.
    fn wake(&mut self, now: u64) {
        for caller in &mut self.callers {
            if let Caller::Waits { until, .. } = caller {
                *until = now;
            }
        }
    }

    fn observe(&mut self, now: u64, rotates: bool) {
        self.figures.time += TICK;
        let status = self.lifecycle.snapshot().status(Timestamp::from_millis(now));
        if status.is_ready() {
            self.figures.at_hand += TICK;
            if let Some(since) = self.outage.take()
                && self.blamed != LOST
            {
                self.figures.recoveries.push(now.saturating_sub(self.well_at.max(since)));
            }
            if !status.in_flight {
                self.blamed = LOST;
            }
        } else {
            self.outage.get_or_insert(now);
            if rotates {
                self.well_at = now;
                self.blamed = "rotated";
            }
            *self.figures.costs.entry(self.blamed).or_default() += TICK;
        }
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::SlowMs(_) => "slow",
            Self::Unavailable => "503",
            Self::Limited => "429",
            Self::CutShort => "cut short",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Page => "page",
            Self::DisguisedLimit => "disguised limit",
        }
    }
}

fn credentials(version: u64) -> Credentials {
    Credentials::new("my-client", format!("secret-{version}")).expect("legal credentials")
}

/// Which of the issued tokens this is.
fn number(token: &Token) -> u64 {
    token.access_token().trim_start_matches("token-").parse().expect("a number")
}
