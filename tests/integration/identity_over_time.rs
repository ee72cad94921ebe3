//! What time does to an identity: key sets that cannot be had, keys that change, clocks that are set.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::process::{self, eventually};
use crate::support::token::{self, Token, now};
use crate::support::wire::{Outcome, WireClient};
use crate::support::{TENANT_A, http};

/// The issuer whose keys come by HTTP.
const ISSUER: &str = "https://rotating.example.test/";
const LIMIT: Duration = Duration::from_secs(60);

const ANSWERS: u8 = 0;
const HANGS: u8 = 1;
const TALKS_NONSENSE: u8 = 2;
const BREAKS: u8 = 3;

/// A server of one key set.
struct KeyServer {
    address: SocketAddr,
    does: Arc<AtomicU8>,
    keys: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (does, keys) = (Arc::new(AtomicU8::new(ANSWERS)), Arc::new(Mutex::new(String::new())));
        let asked = Arc::new(AtomicUsize::new(0));
        let served = (Arc::clone(&does), Arc::clone(&keys), Arc::clone(&asked));
        std::thread::spawn(move || {
            let (does, keys, asked) = served;
            let mut hung = Vec::new();
            for mut stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _whatever_was_asked = stream.read(&mut request).unwrap_or(0);
                let keys: String = keys.lock().unwrap().clone();
                let (status, body) = match does.load(Ordering::SeqCst) {
                    ANSWERS => ("200 OK", keys),
                    TALKS_NONSENSE => ("200 OK", "{\"keys\": 7}".to_owned()),
                    BREAKS => ("500 Internal Server Error", String::new()),
                    _ => {
                        hung.push(stream);
                        continue;
                    }
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                )
                .ok();
            }
        });
        Self { address, does, keys, asked }
    }

    fn publish(&self, key_id: &str) {
        *self.keys.lock().unwrap() = token::key_set().replace(token::KEY_ID, key_id);
    }
}

fn signed(key_id: &str) -> String {
    Token::eddsa(TENANT_A).claim("iss", json!(ISSUER)).header("kid", json!(key_id)).sign()
}

fn sign_in(world: &World, token: &str) -> (WireClient, Outcome) {
    world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, token)
}

#[test]
fn keys_that_were_good_stay_good_while_their_issuer_is_out_of_reach() {
    let issuer = KeyServer::start();
    issuer.publish("first");
    let mut options = Options::new(POLICY);
    write!(
        options.identity_extra,
        "    - issuer: {ISSUER}\n      audiences: [{}]\n      algorithms: [EdDSA]\n      \
         jwks_url: http://{}/jwks.json\n",
        token::AUDIENCE,
        issuer.address
    )
    .unwrap();
    let world = World::with(&options);
    let (mut open, outcome) = sign_in(&world, &signed("first"));
    assert!(outcome.ready(), "{outcome:?}");
    assert_eq!(open.query("SELECT count(*) FROM users").lines(), ["3"]);
    // The first unknown key is worth a fetch; the next of them only half a minute later.
    for does in [HANGS, TALKS_NONSENSE, BREAKS] {
        issuer.does.store(does, Ordering::SeqCst);
        let (_client, refused) = sign_in(&world, &signed("second"));
        assert_eq!(refused.sqlstate(), "28P01", "{refused:?}");
        let (_client, good) = sign_in(&world, &signed("first"));
        assert!(good.ready(), "keys that are known still open sessions: {good:?}");
        assert_eq!(open.query("SELECT count(*) FROM users").lines(), ["3"]);
        let ready = http::get(world.hedgerow.admin, "/readyz");
        assert_eq!(ready.map(|(status, _)| status), Some(200));
    }
    let asked = issuer.asked.load(Ordering::SeqCst);
    assert!(asked <= 3, "unknown keys are no way to make it ask and ask: {asked}");
    // It is there again, with the next key beside none: rotation.
    issuer.publish("second");
    issuer.does.store(ANSWERS, Ordering::SeqCst);
    eventually("the new key to be fetched", LIMIT, || {
        sign_in(&world, &signed("second")).1.ready().then_some(())
    });
    let (_client, old) = sign_in(&world, &signed("first"));
    assert_eq!(old.sqlstate(), "28P01", "a key that was taken out opens nothing: {old:?}");
    assert_eq!(open.query("SELECT count(*) FROM users").lines(), ["3"], "what is open stays so");
    world.finish();
}

/// A C library that moves the wall's clock of the process that it is loaded into, by as many seconds as a
/// file says.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) offset = mapped;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME && result == 0 && offset) now->tv_sec += *offset;
    return result;
}
"#;

/// The wall's clock of one Hedgerow.
struct Clock {
    directory: tempfile::TempDir,
}

impl Clock {
    fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::write(clock.file("clock.c"), CLOCK).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]);
        compile.arg(clock.library()).arg(clock.file("clock.c"));
        process::succeed(&mut compile, LIMIT);
        clock.set(0);
        clock
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn library(&self) -> PathBuf {
        self.file("clock.so")
    }

    /// In place: the process has it in its memory.
    fn set(&self, seconds: i64) {
        let path: &Path = &self.file("offset");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library().display().to_string()),
            ("TEST_CLOCK", self.file("offset").display().to_string()),
        ]
    }
}

#[test]
fn a_clock_that_is_set_shortens_a_tokens_life_and_never_lengthens_it() {
    for pool_mode in ["session", "transaction"] {
        let clock = Clock::new();
        let mut options = Options::new(POLICY);
        options.pool_mode = pool_mode;
        options.environment = clock.environment();
        let world = World::with(&options);
        let hour = Token::hs256(TENANT_A).claim("exp", json!(now() + 3000)).sign();
        let (mut long, _) = sign_in(&world, &hour);
        let short = Token::hs256(TENANT_A).claim("exp", json!(now() + 8)).sign();
        let (mut brief, outcome) = sign_in(&world, &short);
        assert!(outcome.ready(), "{outcome:?}");
        // Back by half an hour: the one that ends soon ends as soon as it would have.
        clock.set(-1800);
        assert_eq!(brief.query("SELECT 1").lines(), ["1"]);
        let fresh = Token::hs256(TENANT_A).claim("jti", json!("never seen")).sign();
        let (_client, early) = sign_in(&world, &fresh);
        assert_eq!(early.sqlstate(), "28P01", "issued in what is the future now: {early:?}");
        brief.limit = LIMIT;
        let end = brief.collect_until(|outcome| outcome.closed);
        assert_eq!(end.sqlstate(), "57P01", "{end:?}");
        assert_eq!(long.query("SELECT 1").lines(), ["1"], "an open session goes on");
        // Right again, then ahead by two hours: nothing begins any more under what is over.
        clock.set(0);
        assert_eq!(long.query("SELECT 1").lines(), ["1"]);
        assert!(sign_in(&world, &hour).1.ready());
        clock.set(7200);
        let end = long.query("SELECT 1");
        assert_eq!(end.sqlstate(), "57P01", "{end:?}");
        assert_eq!(sign_in(&world, &hour).1.sqlstate(), "28P01");
        clock.set(0);
        let (mut again, _) = sign_in(&world, &hour);
        assert_eq!(again.query("SELECT count(*) FROM users").lines(), ["3"]);
        world.finish();
    }
}
