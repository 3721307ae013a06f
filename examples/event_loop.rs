//! The caller owns the loop: the core driven by callbacks, neither async nor blocking, on one thread.
//!
//! `cargo run --example event_loop` ends at once: the loop, its timers and its transport are toys, and so is its time.
//! In their place think of a reactor, a game's main loop or the event loop of a user interface.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use alvys_auth_core::{Attempt, Credentials, Error, Flow, Lifecycle, Policy, Step, Timestamp, Token, TokenRequest};
use http::{Request, Response};

type Answer = Result<Response<&'static str>, &'static str>;

// --- what the program has anyway: a loop with timers, and an HTTP client that calls back ---------

type Callback = Box<dyn FnOnce()>;

/// Runs callbacks at their time; when nothing is left to do, it ends.
#[derive(Default)]
struct EventLoop {
    now: RefCell<Timestamp>,
    timers: RefCell<BTreeMap<(Timestamp, usize), Callback>>,
    made: RefCell<usize>,
}

impl EventLoop {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn at(&self, moment: Timestamp, callback: impl FnOnce() + 'static) {
        // Of two callbacks at one moment the older goes first.
        *self.made.borrow_mut() += 1;
        let key = (moment, *self.made.borrow());
        self.timers.borrow_mut().insert(key, Box::new(callback));
    }

    fn after(&self, delay: Duration, callback: impl FnOnce() + 'static) {
        self.at(self.now().saturating_add(delay), callback);
    }

    fn run(&self) {
        loop {
            // The queue is free again before the callback adds to it.
            let next = self.timers.borrow_mut().pop_first();
            let Some(((moment, _), callback)) = next else { return };
            *self.now.borrow_mut() = moment;
            callback();
        }
    }

    fn say(&self, text: &str) {
        println!("{:>8.1} s  {text}", self.now().as_millis() as f64 / 1000.0);
    }
}

/// A transport in memory: the answers are written down beforehand, and each takes a fifth of a second.
struct Transport {
    events: Rc<EventLoop>,
    answers: RefCell<VecDeque<Answer>>,
}

impl Transport {
    fn send(&self, request: &Request<Vec<u8>>, on_answer: impl FnOnce(Answer) + 'static) {
        self.events.say(&format!("  -> {} {}", request.method(), request.uri()));
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(Err("connection refused"));
        let events = Rc::clone(&self.events);
        self.events.after(Duration::from_millis(200), move || {
            match &answer {
                Ok(response) => events.say(&format!("  <- {}", response.status())),
                Err(reason) => events.say(&format!("  <- {reason}")),
            }
            on_answer(answer);
        });
    }
}

// --- the driver ----------------------------------------------------------------------------------

type OnToken = Box<dyn FnOnce(Result<Token, Error>)>;

/// Tokens by callback. A clone of the `Rc` goes to whoever asks; nobody ever waits for a lock or for the network.
struct Tokens {
    events: Rc<EventLoop>,
    transport: Transport,
    lifecycle: RefCell<Lifecycle>,
    waiting: RefCell<Vec<OnToken>>,
}

impl Tokens {
    /// Calls back with a token: at once when one is held, and otherwise when the loop comes to it.
    fn get(self: &Rc<Self>, on_token: impl FnOnce(Result<Token, Error>) + 'static) {
        self.serve(Box::new(on_token));
    }

    fn serve(self: &Rc<Self>, on_token: OnToken) {
        loop {
            // The borrow ends with the statement: callbacks may come back here.
            let step = self.lifecycle.borrow_mut().poll(self.events.now());
            match step {
                Step::Use(token) => return on_token(Ok(token)),
                Step::Fail(error) => return on_token(Err(error)),
                Step::Fetch(attempt) => self.fetch(attempt),
                Step::Wait(wait) => {
                    if self.waiting.borrow().is_empty() {
                        let tokens = Rc::clone(self);
                        self.events.at(wait.until(), move || tokens.wake());
                    }
                    return self.waiting.borrow_mut().push(on_token);
                }
            }
        }
    }

    fn fetch(self: &Rc<Self>, attempt: Attempt) {
        let tokens = Rc::clone(self);
        self.transport.send(&attempt.to_http(), move |answer| {
            let attempt = match answer {
                Ok(response) => attempt.answered(&response),
                Err(reason) => attempt.failed(Error::transport("the token request failed", reason)),
            };
            let now = tokens.events.now();
            // Without a provider of credentials there is nothing but the request: the attempt is over.
            let _ = tokens.lifecycle.borrow_mut().next(attempt, now);
            tokens.wake();
        });
    }

    /// Something has changed: everybody who waits asks again.
    fn wake(self: &Rc<Self>) {
        for on_token in self.waiting.take() {
            self.serve(on_token);
        }
    }
}

// --- the program ---------------------------------------------------------------------------------

fn main() -> Result<(), Error> {
    let events = Rc::new(EventLoop::default());
    let unavailable = Response::builder()
        .status(503)
        .header("retry-after", "20")
        .body("")
        .map_err(|error| Error::transport("the toy transport is out of order", error))?;
    let granted = |body| Ok(Response::new(body));
    let answers = VecDeque::from([
        granted(r#"{"access_token":"first","expires_in":600}"#),
        Ok(unavailable.clone()),
        granted(r#"{"access_token":"second","expires_in":600}"#),
        Ok(unavailable),
        granted(r#"{"access_token":"third","expires_in":600}"#),
    ]);
    let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
    let tokens = Rc::new(Tokens {
        events: Rc::clone(&events),
        transport: Transport { events: Rc::clone(&events), answers: RefCell::new(answers) },
        lifecycle: RefCell::new(Lifecycle::new(request, Policy::new(), 1)),
        waiting: RefCell::default(),
    });
    let ask = |second: u64, who: &'static str| {
        let tokens = Rc::clone(&tokens);
        events.at(Timestamp::from_millis(second * 1000), move || {
            let events = Rc::clone(&tokens.events);
            events.say(&format!("{who} asks"));
            tokens.get(move |answer| match answer {
                Ok(token) => events.say(&format!("{who} got \"{}\"", token.access_token())),
                Err(error) => events.say(&format!("{who} got no token: {error}")),
            });
        });
    };

    // A cold start: three callers, one request.
    ask(0, "anna");
    ask(0, "bert");
    ask(0, "cleo");
    ask(300, "anna");
    // In the margin, the last fifth of the lifetime at most: nobody waits, and a failed renewal goes unnoticed.
    ask(560, "bert");
    ask(570, "cleo");
    ask(585, "anna");
    ask(590, "bert");
    // Long past the end of the second token: the server asks for a pause, and the callers sit it out.
    ask(2000, "cleo");
    ask(2005, "anna");
    events.run();
    println!("nothing is left to do");
    Ok(())
}
