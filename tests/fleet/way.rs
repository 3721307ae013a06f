//! A way to a server that can be made bad.

use std::io::{Read, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    Pass,
    /// Each part of what is said arrives so much later.
    Slow(Duration),
    /// Every command is answered with this line.
    Answer(&'static str),
    /// A new connection stays open, and nothing of it arrives.
    Swallow,
}

pub(crate) struct Way {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    manner: Manner,
    connections: Vec<TcpStream>,
}

impl Way {
    pub(crate) fn to(port: u16, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { manner, connections: Vec::new() }));
        let shared = Arc::clone(&state);
        // The thread ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                state.connections.push(client.try_clone().unwrap());
                if matches!(state.manner, Manner::Swallow) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    lead(client, server, &shared);
                }
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn set(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections.len()
    }
}

fn lead(client: TcpStream, server: TcpStream, state: &Arc<Mutex<State>>) {
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to, state) = (client, server, Arc::clone(state));
    thread::spawn(move || {
        let mut said = [0; 16 * 1024];
        while let Ok(read) = from.read(&mut said)
            && read > 0
        {
            let manner = state.lock().unwrap().manner;
            let done = match manner {
                // A command begins with the number of its words; nothing that is sent here has an asterisk in it.
                Manner::Answer(line) => {
                    let commands = said[..read].iter().filter(|byte| **byte == b'*').count();
                    from.write_all(line.repeat(commands).as_bytes())
                }
                Manner::Slow(delay) => {
                    thread::sleep(delay);
                    to.write_all(&said[..read])
                }
                Manner::Pass | Manner::Swallow => to.write_all(&said[..read]),
            };
            if done.is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
