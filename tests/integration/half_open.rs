//! Peers that are gone without a word: their packets are lost, in both directions, and nobody hangs up.
//! Each side finds that out by itself, within half a minute.
//!
//! The one who vanishes is this test: a filter on its own socket throws away whatever comes, before
//! TCP sees it, so that not even an acknowledgement goes back. The waiting is the kernel's: the tests
//! take half a minute each and no processor time.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres::{SUPERUSER, server};
use crate::support::process::eventually;
use crate::support::wire::{self, WireClient, vanish};
use crate::support::{TENANT_A, http, token};

/// Longer than the kernel takes.
const LIMIT: Duration = Duration::from_secs(60);

fn clients(world: &World) -> String {
    let (_, text) = http::get(world.hedgerow.admin, "/metrics").expect("metrics");
    let line = text.lines().find(|line| line.starts_with("hedgerow_clients{state=\"active\"}"));
    line.and_then(|line| line.rsplit(' ').next()).expect("a count of clients").to_owned()
}

fn sign_in(world: &World) -> WireClient {
    world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token::of(TENANT_A))
}

#[test]
fn clients_that_vanish_are_noticed_whether_they_idle_or_are_owed_rows() {
    let mut options = Options::new(POLICY);
    // Its own patience with a client that does not read plays no part.
    options.limits.push_str(", slow_client_timeout: 10m");
    let world = World::with(&options);
    let idle = sign_in(&world);
    let mut in_transaction = sign_in(&world);
    in_transaction.query("BEGIN");
    assert_eq!(in_transaction.query("SELECT 1").lines(), ["1"]);
    let mut owed = sign_in(&world);
    owed.send(&wire::query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
    owed.collect_until(|outcome| outcome.messages.len() > 10);
    // It reads no more, which is its right, and is there.
    let mut slow = sign_in(&world);
    slow.send(&wire::query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"));
    slow.collect_until(|outcome| outcome.messages.len() > 10);
    assert_eq!(clients(&world), "4");
    for gone in [&idle, &in_transaction, &owed] {
        gone.vanish();
    }
    eventually("three clients that are noticed to be gone", LIMIT, || {
        (clients(&world) == "1").then_some(())
    });
    slow.limit = LIMIT;
    let (rows, _) = slow.drain();
    assert!(rows > 99_000, "who is only slow gets all its rows: {rows}");
    let backends = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle' \
         AND pid <> pg_backend_pid()",
        world.database
    );
    eventually("no transaction left behind", LIMIT, || {
        (world.truth(&backends) == "0").then_some(())
    });
    world.finish();
}

/// A way to PostgreSQL that can be lost.
struct Way {
    address: SocketAddr,
    /// Its ends towards Hedgerow and towards the server.
    ends: Arc<Mutex<Vec<(TcpStream, TcpStream)>>>,
    lost: Arc<AtomicBool>,
}

impl Way {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ends: Arc<Mutex<Vec<(TcpStream, TcpStream)>>> = Arc::default();
        let lost = Arc::<AtomicBool>::default();
        let (open, told) = (Arc::clone(&ends), Arc::clone(&lost));
        std::thread::spawn(move || {
            for end in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", server().port)).unwrap();
                let both = (end.try_clone().unwrap(), server.try_clone().unwrap());
                open.lock().unwrap().push(both);
                for (from, to) in
                    [(end.try_clone().unwrap(), server.try_clone().unwrap()), (server, end)]
                {
                    let lost = Arc::clone(&told);
                    std::thread::spawn(move || pass_on(from, to, &lost));
                }
            }
        });
        Self { address, ends, lost }
    }

    /// The server learns at once that nobody is there: a backend in COPY would hold up whoever drops a
    /// database, which are other tests.
    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        for (hedgerow, server) in &*self.ends.lock().unwrap() {
            vanish(hedgerow);
            server.shutdown(Shutdown::Both).ok();
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, lost: &AtomicBool) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    if !lost.load(Ordering::SeqCst) {
        to.shutdown(Shutdown::Write).ok();
    }
}

#[test]
fn a_database_that_vanishes_is_noticed_whether_it_is_waited_for_or_sent_to() {
    let way = Way::new();
    let mut options = Options::new(POLICY);
    options.upstream_port = Some(way.address.port());
    options.pool_mode = "session";
    let world = World::with(&options);
    let [mut idle, mut waiting, mut asking, mut sending] = [(); 4].map(|()| sign_in(&world));
    for client in [&mut idle, &mut waiting, &mut asking, &mut sending] {
        assert_eq!(client.query("SELECT 1").lines(), ["1"]);
        client.limit = LIMIT;
    }
    // Waits for as long as somebody else has the table.
    let mut keeper = server().connect(SUPERUSER, &world.database);
    keeper.query("BEGIN");
    keeper.query("LOCK users");
    waiting.send(&wire::query("SELECT count(*) FROM users"));
    sending.send(&wire::query("COPY documents FROM STDIN"));
    let copying = sending.collect_until(|outcome| !outcome.messages.is_empty());
    assert_eq!(copying.shape(), "G");
    std::thread::sleep(Duration::from_millis(300));
    way.lose();
    asking.send(&wire::query("SELECT 1"));
    // More than the sockets on the way hold.
    let rows = format!("{}\t{TENANT_A}\t{}\t\\N\t\\N\n", 1_000_000, "x".repeat(60_000));
    let pushing = std::thread::spawn(move || {
        for _ in 0..400 {
            sending.send(&wire::copy_data(&rows));
        }
        sending
    });
    for (what, client) in [("waiting", &mut waiting), ("asking", &mut asking)] {
        let end = client.collect_until(|outcome| outcome.closed);
        assert_eq!(end.sqlstate(), "08007", "{what}: {end:?}");
    }
    let end = idle.collect_until(|outcome| outcome.closed);
    assert_eq!(end.sqlstate(), "08006", "idle: {end:?}");
    let mut sending = pushing.join().unwrap();
    let end = sending.collect_until(|outcome| outcome.closed);
    assert!(end.closed && ["08007", ""].contains(&end.sqlstate().as_str()), "sending: {end:?}");
    keeper.query("ROLLBACK");
    // The way is there again, and so is the service.
    way.lost.store(false, Ordering::SeqCst);
    assert_eq!(sign_in(&world).query("SELECT count(*) FROM users").lines(), ["3"]);
    world.finish();
}
