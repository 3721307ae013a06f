//! The server that a fleet shares its token through fails, in every way.

use std::thread;
use std::time::Duration;

use alvys_auth_tests::eventually;

use crate::crew::{Fleet, Setup};
use crate::servers::{Program, Server, free_port, on_each_server};
use crate::way::{Manner, Way};

const SIZE: usize = 4;

on_each_server!(
    a_server_that_is_stopped,
    a_server_that_is_restarted,
    a_server_that_is_emptied,
    a_server_that_hangs,
    a_server_that_is_slow,
    a_server_that_is_out_of_memory,
    a_server_that_has_become_a_read_only_replica,
    a_server_that_does_not_take_the_password_any_more,
    a_server_that_runs_an_endless_script,
    a_server_that_loads_its_data,
);

/// What goes wrong, and how it ends.
struct Outage {
    begin: fn(&mut Place),
    end: fn(&mut Place),
    /// Whether the store cannot be used. Then each process may send one request of its own; with files below, the host one.
    is_alone: bool,
}

struct Place {
    server: Server,
    way: Way,
}

impl Place {
    fn admin(&self, words: &str) {
        self.server.tell::<redis::Value>(words);
    }
}

/// Nobody fails. A held token serves on, and nobody asks for another one. When it is refused, the processes send no more than
/// the outage allows. Afterwards they have one token again.
fn costs_no_more_than_allowed(program: &Program, outage: &Outage) {
    thread::scope(|scope| {
        for files in [false, true] {
            scope.spawn(move || {
                let server = Server::start(program, &[]);
                server.tell::<()>("ACL SETUSER alvys on >secret +@all ~*");
                let mut place = Place { way: Way::to(server.port, Manner::Pass), server };
                let setup = Setup::redis(format!("redis://alvys:secret@127.0.0.1:{}", place.way.port));
                let setup = if files { setup.with_files_below() } else { setup };
                goes_through(&mut place, &setup, outage);
            });
        }
    });
}

fn goes_through(place: &mut Place, setup: &Setup, outage: &Outage) {
    let mut fleet = Fleet::start(setup, SIZE);
    fleet.all_share("token", 1, "nobody has one");

    (outage.begin)(place);
    fleet.all_share("token", 0, "everybody has one");
    fleet.sandbox.reject_tokens();
    let (_, sent) = fleet.all("refused");
    let most = if outage.is_alone && !setup.files { SIZE } else { 1 };
    assert!((1..=most).contains(&sent), "{sent} requests for {SIZE} processes, {setup:?}");
    let (_, sent) = fleet.all("token");
    assert_eq!(sent, 0, "everybody has one again");

    (outage.end)(place);
    // The first one offers its token to all; with files below, the processes of the host have one already.
    fleet.agree();
    eventually("the server is seen", || fleet.all_see_the_server());
    fleet.all_are_refused(1, "the server is back");
    fleet.join(1);
    fleet.all_share("token", 0, "who comes later has it from the server");
}

fn a_server_that_is_stopped(program: &Program) {
    let begin = |place: &mut Place| place.server.kill();
    let end = |place: &mut Place| {
        place.server.restart();
        place.admin("ACL SETUSER alvys on >secret +@all ~*");
    };
    costs_no_more_than_allowed(program, &Outage { begin, end, is_alone: true });
}

fn a_server_that_is_restarted(program: &Program) {
    let begin = |place: &mut Place| {
        place.server.kill();
        place.server.restart();
        place.admin("ACL SETUSER alvys on >secret +@all ~*");
    };
    costs_no_more_than_allowed(program, &Outage { begin, end: |_| {}, is_alone: false });
}

fn a_server_that_is_emptied(program: &Program) {
    let begin = |place: &mut Place| {
        place.admin("FLUSHALL");
        place.admin("SCRIPT FLUSH");
    };
    costs_no_more_than_allowed(program, &Outage { begin, end: |_| {}, is_alone: false });
}

fn a_server_that_hangs(program: &Program) {
    let begin = |place: &mut Place| place.server.hang();
    costs_no_more_than_allowed(program, &Outage { begin, end: |place| place.server.resume(), is_alone: true });
}

fn a_server_that_is_slow(program: &Program) {
    let begin = |place: &mut Place| place.way.set(Manner::Slow(Duration::from_millis(200)));
    costs_no_more_than_allowed(program, &Outage { begin, end: |place| place.way.set(Manner::Pass), is_alone: false });
}

fn a_server_that_is_out_of_memory(program: &Program) {
    let begin = |place: &mut Place| place.admin("CONFIG SET maxmemory 1");
    let end = |place: &mut Place| place.admin("CONFIG SET maxmemory 0");
    costs_no_more_than_allowed(program, &Outage { begin, end, is_alone: true });
}

fn a_server_that_has_become_a_read_only_replica(program: &Program) {
    // Of a primary that is not there, so that it keeps what it has.
    let begin = |place: &mut Place| place.admin(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
    costs_no_more_than_allowed(
        program,
        &Outage { begin, end: |place| place.admin("REPLICAOF NO ONE"), is_alone: true },
    );
}

fn a_server_that_does_not_take_the_password_any_more(program: &Program) {
    let begin = |place: &mut Place| {
        place.admin("ACL SETUSER alvys resetpass >another");
        place.admin("CLIENT KILL USER alvys");
    };
    costs_no_more_than_allowed(
        program,
        &Outage { begin, end: |place| place.admin("ACL SETUSER alvys >secret"), is_alone: true },
    );
}

fn a_server_that_runs_an_endless_script(program: &Program) {
    let begin = |place: &mut Place| {
        place.admin("CONFIG SET busy-reply-threshold 1");
        let url = place.server.url();
        thread::spawn(move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            // Ends with an error, when it is killed.
            redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut connection).unwrap_err();
        });
        let refuses =
            |server: &Server| server.try_tell::<()>("GET key").is_err_and(|error| error.code() == Some("BUSY"));
        eventually("the server is busy", || refuses(&place.server));
    };
    costs_no_more_than_allowed(program, &Outage { begin, end: |place| place.admin("SCRIPT KILL"), is_alone: true });
}

fn a_server_that_loads_its_data(program: &Program) {
    let begin = |place: &mut Place| {
        place.way.set(Manner::Answer("-LOADING Redis is loading the dataset in memory\r\n"));
    };
    costs_no_more_than_allowed(program, &Outage { begin, end: |place| place.way.set(Manner::Pass), is_alone: true });
}
