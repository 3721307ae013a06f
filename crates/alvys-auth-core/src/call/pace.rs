//! Decides when a call may be sent, so that no period of time has more calls than the limits allow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::StatusCode;

use crate::share::STORE_TIME;
use crate::{Endpoint, Limit, RateLimits, Timestamp, Verdict};

/// A call that does not ask again within this time after it was told to no longer holds up others.
const GRACE: Duration = Duration::from_secs(3);

/// The most entries in the log of one limit.
const ENTRIES: usize = 1024;

/// How long calls wait for the first look at the waits of other processes, and how often the next looks follow.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When this many endpoints are remembered, the idle ones are forgotten. That happens again when there are twice as
/// many as were left.
const MANY: usize = 64;

/// Holds the calls of one organization back until the [`RateLimits`] allow them. It is plain state: the caller passes
/// the time in.
///
/// A call [queues](Self::queue), then [asks](Self::ask) for its turn until it may go. The calls to one endpoint go in
/// the order in which they queued. A call may go when each of its limits has a place for it and for the calls that
/// queued before it. Only then does it count against its limits.
///
/// Each limit remembers when the last requests went, so it is exact: no period of the limit's length plus
/// [`Limit::MARGIN`] has more requests than the limit allows. A limit of more than 1,024 requests counts a few requests
/// (a thousandth of them) as one entry, with the time of the last one. Such a limit may be a thousandth stricter than
/// it says.
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_core::{Endpoint, Limiter, RateLimits, Timestamp};
/// use http::{Method, Uri};
///
/// let loads = Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads"));
/// let (mut limiter, now) = (Limiter::new(RateLimits::published()), Timestamp::from_millis(0));
/// let [first, second] = [0; 2].map(|_| limiter.queue(0, &loads, now));
/// assert!(limiter.ask(first, now).is_none(), "the first call goes at once");
/// let hold = limiter.ask(second, now).expect("lists go a second apart");
/// assert_eq!(hold.until, now.saturating_add(Duration::from_millis(1100)));
/// ```
#[derive(Debug)]
pub struct Limiter {
    limits: RateLimits,
    organization: Vec<Log>,
    tokens: BTreeMap<u64, Spent>,
    /// The calls that wait, in the order of arrival.
    waiting: BTreeMap<Ticket, Waiting>,
    tickets: u64,
    /// How many endpoints were left after the idle ones were last forgotten.
    left: usize,
}

/// A call's place in the queue of a [`Limiter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Why a call does not go yet, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// When the call may go, if the calls before it go as soon as they may.
    pub until: Timestamp,
    /// When to ask again. It is never after [`until`](Self::until). It is earlier when the call may go sooner because
    /// the calls before it do not ask again.
    pub ask_at: Timestamp,
    /// The status, 429 or 503, with which the API asked to be left alone until then; none when the rate limits are the
    /// reason.
    pub asked_by: Option<StatusCode>,
}

/// What was sent with one token.
#[derive(Debug)]
struct Spent {
    logs: Vec<Log>,
    endpoints: BTreeMap<String, Lane>,
}

/// What was sent to one endpoint, and until when the endpoint must be left alone.
#[derive(Debug)]
struct Lane {
    logs: Vec<Log>,
    held_until: Timestamp,
    held_by: StatusCode,
    /// Until when calls wait for the first look at the waits of other processes, and when the next look is due.
    looking_until: Timestamp,
    look_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Waiting {
    token: u64,
    endpoint: Endpoint,
    /// When the call must ask again.
    due: Timestamp,
}

/// The requests that count against one limit.
#[derive(Debug)]
struct Log {
    limit: Limit,
    /// When they went, the oldest first. One entry stands for as many as `weight` requests, at the time of the last of them.
    went: VecDeque<Timestamp>,
    /// How many more requests the last entry can stand for.
    room: usize,
}

impl Limiter {
    /// Starts with nothing sent.
    pub fn new(limits: RateLimits) -> Self {
        let organization = logs(&limits.organization);
        Self { limits, organization, tokens: BTreeMap::new(), waiting: BTreeMap::new(), tickets: 0, left: 0 }
    }

    /// The rate limits.
    pub fn limits(&self) -> &RateLimits {
        &self.limits
    }

    /// Queues a call to `endpoint` behind the calls that are queued already. `token` is a number for the token that the
    /// call is made with.
    pub fn queue(&mut self, token: u64, endpoint: &Endpoint, now: Timestamp) -> Ticket {
        self.forget_idle(now);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, Waiting { token, endpoint: endpoint.clone(), due: now });
        ticket
    }

    /// Removes a call that will not be made from the queue. It has counted against no limit.
    ///
    /// Returns true when other calls may wait behind it. They must ask again then.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        self.waiting.remove(&ticket).is_some() && self.waiting.range(ticket..).next().is_some()
    }

    /// Asks whether the call may go now. If the answer is none, it may: it has left the queue, and counts against all
    /// of its limits.
    #[must_use = "the call may go only when this is none"]
    pub fn ask(&mut self, ticket: Ticket, now: Timestamp) -> Option<Hold> {
        let Self { limits, organization, tokens, waiting, .. } = self;
        let Waiting { token, endpoint, .. } = waiting.get(&ticket)?;
        let spent = tokens.entry(*token).or_insert_with(|| Spent::new(limits));
        let lane = spent.endpoints.entry(endpoint.name().to_owned()).or_insert_with(|| Lane::new(limits.of(endpoint)));
        let mut kept = [&mut lane.logs, &mut spent.logs, organization];
        kept.iter_mut().flat_map(|logs| logs.iter_mut()).for_each(|log| log.forget(now));

        // For each call that queued before: at which level it competes with this one for a place, and until when. A
        // call to another endpoint competes once its own time has come; before that, its own limits hold it back.
        let before: Vec<(usize, Timestamp)> = waiting
            .range(..ticket)
            .filter_map(|(_, other)| {
                let level = match other {
                    _ if other.token == *token && other.endpoint == *endpoint => 0,
                    _ if other.due > now => return None,
                    _ => 1 + usize::from(other.token != *token),
                };
                Some((level, other.due.saturating_add(GRACE)))
            })
            .filter(|(_, late)| *late > now)
            .collect();
        // A place at an endpoint is also a place of the token, and a place of the token is also one of the
        // organization.
        let mut ahead = [0, 1, 2].map(|level| before.iter().filter(|(from, _)| *from <= level).count());
        let opens = |ahead: [usize; 3]| {
            let each =
                kept.iter().zip(ahead).flat_map(|(logs, ahead)| logs.iter().map(move |log| log.opens(ahead, now)));
            each.fold(now.max(lane.held_until).max(lane.looking_until), Timestamp::max)
        };
        let until = opens(ahead);
        if until <= now {
            kept.iter_mut().flat_map(|logs| logs.iter_mut()).for_each(|log| log.add(now));
            waiting.remove(&ticket);
            return None;
        }
        let (mut ask_at, mut all_late) = (until, now);
        for (from, late) in before {
            ahead.iter_mut().skip(from).for_each(|ahead| *ahead -= 1);
            all_late = all_late.max(late);
            ask_at = ask_at.min(all_late.max(opens(ahead)));
        }
        let asked_by = (lane.held_until == until).then_some(lane.held_by);
        if let Some(waiting) = waiting.get_mut(&ticket) {
            waiting.due = ask_at;
        }
        Some(Hold { until, ask_at, asked_by })
    }

    /// Takes in the verdict on an answer for all other calls: while the API asks to be left alone, nobody calls
    /// `endpoint` with this token. Returns how long that is, unless a wait that is at least as long was known before.
    pub fn heed(
        &mut self,
        token: u64,
        endpoint: &Endpoint,
        status: StatusCode,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Option<Duration> {
        let wait = match verdict {
            Verdict::Repeat { after } => Some(*after),
            Verdict::Fail(error) => error.retry_after(),
        };
        let wait = wait.filter(|wait| !wait.is_zero())?;
        self.lane(token, endpoint).hold(status, now.saturating_add(wait)).then_some(wait)
    }

    /// Whether the driver must look now at the waits that the API asked other processes with this token for at
    /// `endpoint`. It looks once a second while the endpoint is called. Calls wait for the first look, for a second at
    /// most, and not for later ones. Hand in the result with [`looked`](Self::looked).
    pub fn look(&mut self, token: u64, endpoint: &Endpoint, now: Timestamp) -> bool {
        let lane = self.lane(token, endpoint);
        let is_due = lane.look_at.is_none_or(|look_at| look_at <= now);
        if lane.look_at.is_none() {
            lane.looking_until = now.saturating_add(FIRST_LOOK);
        }
        if is_due {
            // A late answer is no reason for a second look at the same time.
            lane.look_at = Some(now.saturating_add(STORE_TIME));
        }
        is_due
    }

    /// Takes in a wait that the API asked another process for at `endpoint`: the status, and how much longer the
    /// endpoint must be left alone; none when there is no wait. After this, calls that wait for their turn must ask
    /// again.
    pub fn looked(&mut self, token: u64, endpoint: &Endpoint, told: Option<(StatusCode, Duration)>, now: Timestamp) {
        let lane = self.lane(token, endpoint);
        (lane.looking_until, lane.look_at) = (Timestamp::default(), Some(now.saturating_add(LOOK_EVERY)));
        if let Some((status, wait)) = told {
            lane.hold(status, now.saturating_add(wait));
        }
    }

    fn lane(&mut self, token: u64, endpoint: &Endpoint) -> &mut Lane {
        let Self { limits, tokens, .. } = self;
        let spent = tokens.entry(token).or_insert_with(|| Spent::new(limits));
        spent.endpoints.entry(endpoint.name().to_owned()).or_insert_with(|| Lane::new(limits.of(endpoint)))
    }

    /// Whether this limiter says no more than a new one would: no call counts any more, and nobody waits.
    pub fn is_idle(&mut self, now: Timestamp) -> bool {
        self.retain(now);
        self.waiting.is_empty() && self.tokens.is_empty() && is_idle(&mut self.organization, now)
    }

    /// How many endpoints are remembered, each for every token it was called with.
    pub fn endpoints(&self) -> usize {
        self.tokens.values().map(|spent| spent.endpoints.len()).sum()
    }

    /// Forgets idle endpoints from time to time: the more endpoints there are, the less often.
    fn forget_idle(&mut self, now: Timestamp) {
        if self.endpoints() + self.tokens.len() >= MANY.max(self.left * 2) {
            self.retain(now);
            self.left = self.endpoints() + self.tokens.len();
        }
    }

    /// Forgets endpoints and tokens whose state says no more than a new one would, even where a call waits.
    fn retain(&mut self, now: Timestamp) {
        self.tokens.retain(|_, spent| {
            spent.endpoints.retain(|_, lane| {
                let looks = lane.look_at.is_some_and(|look_at| now < look_at);
                lane.held_until > now || looks || !is_idle(&mut lane.logs, now)
            });
            !spent.endpoints.is_empty() || !is_idle(&mut spent.logs, now)
        });
    }
}

impl Spent {
    fn new(limits: &RateLimits) -> Self {
        Self { logs: logs(&limits.token), endpoints: BTreeMap::new() }
    }
}

impl Lane {
    fn new(limits: &[Limit]) -> Self {
        let (held_until, held_by) = (Timestamp::default(), StatusCode::TOO_MANY_REQUESTS);
        Self { logs: logs(limits), held_until, held_by, looking_until: Timestamp::default(), look_at: None }
    }

    /// Leaves the endpoint alone until then, and returns whether that is longer than was known.
    fn hold(&mut self, status: StatusCode, until: Timestamp) -> bool {
        let longer = until > self.held_until;
        if longer {
            (self.held_until, self.held_by) = (until, status);
        }
        longer
    }
}

impl Log {
    /// How many requests one entry stands for.
    fn weight(&self) -> usize {
        self.limit.requests().div_ceil(ENTRIES)
    }

    /// How many entries there may be.
    fn most(&self) -> usize {
        self.limit.requests() / self.weight()
    }

    /// Forgets requests that no longer count.
    fn forget(&mut self, now: Timestamp) {
        while self.went.front().is_some_and(|went| went.saturating_add(self.limit.counts_for()) <= now) {
            self.went.pop_front();
        }
        if self.went.is_empty() {
            self.room = 0;
        }
    }

    /// When the limit has a place for a call with `ahead` calls before it, if those go as soon as they may.
    fn opens(&self, ahead: usize, now: Timestamp) -> Timestamp {
        let Some(ahead) = ahead.checked_sub(self.room) else { return now };
        let free = self.most() - self.went.len();
        let Some(nth) = (ahead / self.weight()).checked_sub(free) else { return now };
        // The places open in the order in which they were taken: those in the log, then those that are taken now.
        let taken = self.went.get(nth % self.most()).copied().unwrap_or(now);
        let rounds = u32::try_from(nth / self.most() + 1).unwrap_or(u32::MAX);
        taken.saturating_add(self.limit.counts_for().saturating_mul(rounds))
    }

    fn add(&mut self, now: Timestamp) {
        match self.went.back_mut().filter(|_| self.room > 0) {
            Some(last) => {
                *last = now.max(*last);
                self.room -= 1;
            }
            None => {
                self.went.push_back(now);
                self.room = self.weight() - 1;
            }
        }
    }
}

fn logs(limits: &[Limit]) -> Vec<Log> {
    limits.iter().map(|limit| Log { limit: *limit, went: VecDeque::new(), room: 0 }).collect()
}

fn is_idle(logs: &mut [Log], now: Timestamp) -> bool {
    logs.iter_mut().all(|log| {
        log.forget(now);
        log.went.is_empty()
    })
}
