//! Whole sessions through the listener, against a PostgreSQL that the tests start themselves. The
//! client speaks raw frames, so that order and count of messages are what is compared.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::{BufMut, BytesMut};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Audit};
use crate::catalog_load::Catalogs;
use crate::claims::ClaimPath;
use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};
use crate::identity::{Algorithm, IssuerSettings, SigningKey, VerifierSettings};
use crate::ids::PolicyEpoch;
use crate::keys::{self, Authenticator, KeySource};
use crate::limiter::Limiter;
use crate::policy::Policy;
use crate::postgres::upstream::Connector;
use crate::postgres::{Authentication, ClientTls, Limits, PoolMode, Server, Settings, Shared};
use crate::wire::backend::frame;
use crate::wire::startup::{ProtocolVersion, cancel_request, startup_message};
use crate::wire::{ErrorFields, FrameBuffer, Piece, Plan};

/// A throw-away server on a Unix socket.
struct Postgres {
    directory: TempDir,
    bin: PathBuf,
}

fn server_bin() -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    versions.sort();
    versions.pop().expect("PostgreSQL is installed")
}

/// A command that runs as another user when the tests run as root, as the server wants.
fn unprivileged(program: &Path) -> Command {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let bin = server_bin();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let password = directory.path().join("password");
        std::fs::write(&password, "secret\n").unwrap();
        let data = directory.path().join("data");
        let run = |command: &mut Command| {
            assert!(command.stdout(Stdio::null()).status().unwrap().success());
        };
        run(unprivileged(&bin.join("initdb"))
            .current_dir(directory.path())
            .args(["-U", "app", "-E", "UTF8", "-A", "scram-sha-256", "--no-sync", "--locale=C"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data));
        let options = format!("-k {} -c listen_addresses= -F", directory.path().display());
        run(unprivileged(&bin.join("pg_ctl"))
            .current_dir(directory.path())
            .args(["-w", "-l", "log", "-o", &options, "-D"])
            .arg(&data)
            .arg("start"));
        Self { directory, bin }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.directory.path().display().to_string(),
            port: 5432,
            database: Some("postgres".to_owned()),
            user: "app".to_owned(),
            password: Some(Secret::new("secret")),
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _stopped = unprivileged(&self.bin.join("pg_ctl"))
            .current_dir(self.directory.path())
            .args(["-m", "immediate", "-D"])
            .arg(self.directory.path().join("data"))
            .arg("stop")
            .stdout(Stdio::null())
            .status();
    }
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn token(claims: serde_json::Value, ttl: i64) -> String {
    let now =
        i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let mut all = json!({
        "iss": "test", "aud": "orders", "sub": "alice", "iat": now - 10, "exp": now + ttl,
    });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    SigningKey::from_file_bytes(SECRET).unwrap().mint(all.as_object().unwrap()).unwrap()
}

pub(super) struct Proxy {
    postgres: Postgres,
    directory: TempDir,
    port: u16,
    stop: CancellationToken,
    audit: Audit,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) catalogs: Catalogs,
    running: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        Self::with_tls(limits, None).await
    }

    async fn with_tls(limits: Limits, tls: Option<ClientTls>) -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
        let directory = TempDir::new().unwrap();
        let secret = directory.path().join("hmac");
        std::fs::write(&secret, SECRET).unwrap();
        let authenticator = Authenticator::start(keys::Settings {
            verifier: VerifierSettings {
                tenant_claim: ClaimPath::parse("tenant_id").unwrap(),
                leeway: Duration::ZERO,
                max_lifetime: Duration::from_secs(86_400),
                issuers: vec![IssuerSettings {
                    issuer: "test".to_owned(),
                    audiences: vec!["orders".to_owned()],
                    algorithms: vec![Algorithm::Hs256],
                }],
            },
            sources: vec![KeySource::HmacSecretFile(secret)],
            revocation_file: None,
            revocation_redis: None,
        })
        .await
        .unwrap();
        let audit = Audit::open(audit::Settings::new(directory.path().join("audit"))).unwrap();
        let settings = Settings {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            unix_socket: Some(directory.path().to_owned()),
            tls,
            endpoint: postgres.endpoint(),
            authentication: Authentication::default(),
            pool_mode: PoolMode::Session,
            max_connections: 4,
            idle_timeout: Duration::from_secs(300),
            session_variables: vec![(
                "app.current_tenant".to_owned(),
                ClaimPath::parse("tenant_id").unwrap(),
            )],
            limits,
            leeway: Duration::ZERO,
            drain_timeout: Duration::from_secs(2),
        };
        let policy = Arc::new(ArcSwap::from_pointee(Policy::default()));
        let catalogs = Catalogs::new(postgres.endpoint());
        let shared = Shared {
            policy: Arc::clone(&policy),
            catalogs: catalogs.clone(),
            authenticator,
            audit: audit.clone(),
            limiter: Limiter::start(),
            ready: Arc::new(AtomicBool::new(true)),
        };
        let server = Server::bind(settings, shared).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self { postgres, directory, port, stop, audit, policy, catalogs, running }
    }

    pub(super) async fn connect(&self) -> Client {
        let mut client = Client::dial(self.port).await;
        client.sign_in(&token(json!({"tenant_id": "a"}), 600)).await;
        client
    }

    pub(super) async fn records(&self) -> String {
        self.audit.close().await;
        std::fs::read_dir(self.directory.path().join("audit"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }
}

pub(super) struct Client {
    socket: TcpStream,
    incoming: FrameBuffer,
    key: Option<(i32, Vec<u8>)>,
}

impl Client {
    async fn dial(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Self { socket, incoming: FrameBuffer::new(), key: None }
    }

    async fn start(&mut self, version: ProtocolVersion, parameters: &[(&str, &str)]) {
        let mut out = BytesMut::new();
        startup_message(&mut out, version, parameters.iter().copied());
        self.send(&out).await;
    }

    async fn sign_in(&mut self, token: &str) {
        self.start(ProtocolVersion::V3_0, &[("user", "alice"), ("application_name", "t")]).await;
        assert_eq!(self.next().await, Some("R3".to_owned()));
        self.send(&password(token)).await;
        let welcome = self.until_ready().await;
        assert_eq!(welcome.first().map(String::as_str), Some("R0"), "{welcome:?}");
        assert!(welcome.iter().any(|message| message.starts_with("K")), "{welcome:?}");
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next message in short: its tag and what matters of it. `None` when the peer closed.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(Piece::Frame(frame)) = self.incoming.next(|_| Ok(Plan::Whole)).unwrap() {
                let body = frame.body();
                return Some(match frame.tag {
                    b'R' => format!("R{}", body[3]),
                    b'E' | b'N' => {
                        let fields = ErrorFields::decode(body).unwrap();
                        let text = |code| fields.text(code);
                        format!(
                            "{} {} {}|{}",
                            char::from(frame.tag),
                            text(b'C'),
                            text(b'M'),
                            text(b'D')
                        )
                    }
                    b'K' => {
                        let process = i32::from_be_bytes(body[..4].try_into().unwrap());
                        self.key = Some((process, body[4..].to_vec()));
                        format!("K{}", body.len() - 4)
                    }
                    b'Z' => format!("Z{}", char::from(body[0])),
                    b'C' => format!("C {}", std::str::from_utf8(&body[..body.len() - 1]).unwrap()),
                    b'D' => {
                        let value = body.get(6..).unwrap_or_default();
                        format!("D {}", String::from_utf8_lossy(value))
                    }
                    other => char::from(other).to_string(),
                });
            }
            let read = self.socket.read_buf(self.incoming.space());
            match timeout(Duration::from_secs(20), read).await.expect("no answer") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(super) async fn until_ready(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            let ready = message.starts_with('Z');
            messages.push(message);
            if ready {
                break;
            }
        }
        messages
    }

    pub(super) async fn query(&mut self, text: &str) -> Vec<String> {
        self.send(&query(text)).await;
        self.until_ready().await
    }
}

pub(super) fn message(tag: u8, write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    frame(&mut out, tag, write);
    out
}

fn query(text: &str) -> BytesMut {
    message(b'Q', |body| body.put_slice(format!("{text}\0").as_bytes()))
}

fn password(text: &str) -> BytesMut {
    message(b'p', |body| body.put_slice(format!("{text}\0").as_bytes()))
}

pub(super) fn parse(name: &str, text: &str) -> BytesMut {
    message(b'P', |body| body.put_slice(format!("{name}\0{text}\0\0\0").as_bytes()))
}

pub(super) fn bind(name: &str) -> BytesMut {
    message(b'B', |body| body.put_slice(format!("\0{name}\0\0\0\0\0\0\0").as_bytes()))
}

pub(super) fn execute() -> BytesMut {
    message(b'E', |body| body.put_slice(b"\0\0\0\0\0"))
}

pub(super) fn sync() -> BytesMut {
    message(b'S', |_| {})
}

pub(super) fn run(name: &str, text: &str) -> Vec<u8> {
    [parse(name, text), bind(name), execute()].concat()
}

const DENIED: &str =
    "E 42501 hedgerow: the relation is not available to tenants|HR1004: public.secrets";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_leave_order_and_transactions_as_errors_of_the_server_do() {
    let proxy = Proxy::start().await;
    let mut client = proxy.connect().await;

    assert_eq!(client.query("SELECT 7").await, ["T", "D 7", "C SELECT 1", "ZI"]);
    assert_eq!(
        client.query("SELECT current_setting('app.current_tenant')").await[1..],
        ["D a", "C SELECT 1", "ZI"]
    );
    assert_eq!(client.query("").await, ["I", "ZI"]);
    assert_eq!(client.query("SELECT 1;; SELECT 2;").await.len(), 7);
    assert_eq!(client.query("CREATE TABLE t (id int)").await, ["C CREATE TABLE", "ZI"]);

    // Idle: answered at once.
    assert_eq!(client.query("SELECT DENY").await, [DENIED, "ZI"]);
    // In a transaction: the server's transaction is aborted too.
    assert_eq!(client.query("BEGIN").await, ["C BEGIN", "ZT"]);
    assert_eq!(client.query("INSERT INTO t VALUES (1)").await, ["C INSERT 0 1", "ZT"]);
    assert_eq!(client.query("SELECT DENY").await, [DENIED, "ZE"]);
    assert!(client.query("SELECT 1").await[0].starts_with("E 25P02"));
    assert_eq!(client.query("COMMIT").await, ["C ROLLBACK", "ZI"]);
    assert_eq!(client.query("SELECT count(*) FROM t").await[1], "D 0");

    // In a pipeline: what came before in the same implicit transaction is not committed.
    client
        .send(
            &[run("", "INSERT INTO t VALUES (2)"), run("s", "SELECT DENY"), sync().to_vec()]
                .concat(),
        )
        .await;
    assert_eq!(client.until_ready().await, ["1", "2", "C INSERT 0 1", DENIED, "ZI"]);
    assert_eq!(client.query("SELECT count(*) FROM t").await[1], "D 0");
    // Alone: everything up to Sync is skipped; the next batch works.
    client
        .send(
            &[run("", "SELECT DENY"), sync().to_vec(), run("", "SELECT 5"), sync().to_vec()]
                .concat(),
        )
        .await;
    assert_eq!(client.until_ready().await, [DENIED, "ZI"]);
    assert_eq!(client.until_ready().await, ["1", "2", "D 5", "C SELECT 1", "ZI"]);

    // A Query in place of Sync, and one behind an error, which the server discards.
    client.send(&[run("", "SELECT 5"), query("SELECT 6").to_vec()].concat()).await;
    assert_eq!(client.until_ready().await.last().unwrap(), "ZI");
    client
        .send(
            &[
                run("", "SELECT 1/0"),
                query("SELECT 6").to_vec(),
                sync().to_vec(),
                query("SELECT 8").to_vec(),
            ]
            .concat(),
        )
        .await;
    let replies = client.until_ready().await;
    assert!(replies.iter().any(|reply| reply.starts_with("E 22012")), "{replies:?}");
    assert_eq!(client.until_ready().await, ["T", "D 8", "C SELECT 1", "ZI"]);

    // FunctionCall has a ReadyForQuery of its own.
    client.send(&message(b'F', |body| body.put_slice(&[0; 10]))).await;
    let replies = client.until_ready().await;
    assert!(replies[0].starts_with("E 42501") && replies[0].contains("HR1015"), "{replies:?}");
    // CopyData outside COPY is ignored.
    client.send(&message(b'd', |body| body.put_slice(b"x"))).await;
    assert_eq!(client.query("SELECT 9").await[1], "D 9");
    // A statement over the limit is skipped without being held, and refused.
    let long = "x".repeat(2 << 20);
    let replies = client.query(&long).await;
    assert!(replies[0].starts_with("E 54000"), "{replies:?}");
    // COPY out passes.
    assert_eq!(client.query("COPY (SELECT 1) TO STDOUT").await, ["H", "d", "c", "C COPY 1", "ZI"]);
    // Text that is not UTF-8.
    client.send(&message(b'Q', |body| body.put_slice(b"SELECT '\xff'\0"))).await;
    assert!(client.until_ready().await[0].starts_with("E 22021"));
    // An unknown message ends the session.
    client.send(&message(b'?', |_| {})).await;
    let farewell = client.next().await.unwrap();
    assert!(
        farewell.starts_with("E 08P01 hedgerow: this protocol message is not allowed")
            && farewell.contains("HR1015: message type 63"),
        "{farewell}"
    );
    assert_eq!(client.next().await, None);

    let records = proxy.records().await;
    assert!(records.contains("HR1004") && records.contains("HR1015"));
    assert!(!records.contains("eyJ"), "a token is in the records");
    drop(proxy.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_valid_tokens_open_a_session() {
    let proxy = Proxy::start().await;
    let refused = |token: String| {
        let port = proxy.port;
        async move {
            let mut client = Client::dial(port).await;
            client.start(ProtocolVersion::V3_0, &[("user", "alice")]).await;
            assert_eq!(client.next().await.unwrap(), "R3");
            client.send(&password(&token)).await;
            let answer = client.next().await.unwrap();
            assert_eq!(client.next().await, None);
            answer
        }
    };
    assert!(
        refused("nonsense".to_owned())
            .await
            .starts_with("E 28P01 hedgerow: the token is not valid")
    );
    assert!(refused(String::new()).await.starts_with("E 28000 hedgerow: no token"));
    assert!(refused(token(json!({"tenant_id": ["a"]}), 600)).await.contains("HR2009"));
    assert!(refused(token(json!({"tenant_id": "a"}), -5)).await.contains("HR2002"));
    let too_long = refused("x".repeat(70_000)).await;
    assert!(too_long.starts_with("E 28P01 ") && too_long.contains("HR2001"), "{too_long}");

    // Which path changes nothing is for the schema to say: it is asked once the caller is known.
    let option = format!("-c hedgerow.token={}", token(json!({"tenant_id": "a"}), 600));
    let mut client = Client::dial(proxy.port).await;
    let parameters = [("user", "a"), ("options", &*option), ("search_path", "x")];
    client.start(ProtocolVersion::V3_0, &parameters).await;
    assert_eq!(
        client.next().await.unwrap(),
        "E 42501 hedgerow: this setting is protected|HR1006: search_path"
    );

    // By option, with protocol 3.2 and the newest client's probe.
    let option = format!("-c hedgerow.token={}", token(json!({"tenant_id": "a"}), 600));
    let mut client = Client::dial(proxy.port).await;
    let probe = ProtocolVersion { major: 3, minor: 9999 };
    client.start(probe, &[("user", "a"), ("options", &option), ("_pq_.x", "1")]).await;
    let welcome = client.until_ready().await;
    assert_eq!(welcome[..2], ["v", "R0"]);
    assert!(welcome.contains(&"K32".to_owned()), "{welcome:?}");

    // Bytes behind an SSLRequest close the connection.
    let mut client = Client::dial(proxy.port).await;
    client.send(&[0, 0, 0, 8, 4, 210, 22, 47, 0]).await;
    assert_eq!(client.next().await, None);
    drop(proxy.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_egress_scrubbing_and_drain() {
    let proxy = Proxy::start().await;
    let mut client = proxy.connect().await;
    // Cancel with our key.
    client.send(&query("SELECT pg_sleep(30)")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (process, secret) = client.key.clone().unwrap();
    let mut wrong = BytesMut::new();
    cancel_request(&mut wrong, process, &[0; 4]);
    Client::dial(proxy.port).await.send(&wrong).await;
    let mut request = BytesMut::new();
    cancel_request(&mut request, process, &secret);
    Client::dial(proxy.port).await.send(&request).await;
    let replies = client.until_ready().await;
    assert!(replies.iter().any(|reply| reply.starts_with("E 57014")), "{replies:?}");

    // An error of a protected statement quotes nothing that the client did not say.
    let made = client.query("CREATE TABLE hidden_table (id int PRIMARY KEY, secret text)").await;
    assert_eq!(made, ["C CREATE TABLE", "ZI"], "a late cancel request hits nothing");
    let filled = client.query("INSERT INTO hidden_table VALUES (1, 'hunter2')").await;
    assert_eq!(filled, ["C INSERT 0 1", "ZI"]);
    assert_eq!(
        client.query("SELECT /*protected*/ secret::int FROM visible").await[1..],
        ["E 22P02 invalid input syntax for type integer: \"…\"|", "ZI"]
    );
    assert_eq!(
        client.query("INSERT /*protected*/ INTO visible VALUES (1, 'x')").await[0],
        "E 23505 duplicate key value violates unique constraint \"hidden_table_pkey\"|"
    );
    // A runtime check of the rewriter's becomes a denial.
    let replies = client.query("SELECT /*protected*/ 'hedgerow:HR1011 x'::bool").await;
    assert!(replies[0].starts_with("E 42501") && replies[0].contains("HR1011"), "{replies:?}");

    // Own rows pass, foreign rows close the session.
    assert_eq!(client.query("SELECT /*tenant*/ 'a'").await[1], "D a");
    let replies = client.query("SELECT /*tenant*/ x FROM (VALUES ('a'), ('b')) AS v(x)").await;
    assert_eq!(replies.len(), 3, "{replies:?}");
    assert!(replies[2].starts_with("E 42501 hedgerow: the result was stopped"), "{replies:?}");

    // The Unix socket, prepared statements, names.
    let path = proxy.directory.path().join(format!(".s.PGSQL.{}", proxy.port));
    UnixStream::connect(path).await.unwrap();
    let mut client = proxy.connect().await;
    client.send(&[run("s", "SELECT 3"), sync().to_vec()].concat()).await;
    client.until_ready().await;
    client.send(&[parse("s", "SELECT 4"), bind("s"), execute(), sync()].concat()).await;
    assert!(client.until_ready().await[0].starts_with("E 42P05"));
    client.send(&[bind("s"), execute(), sync()].concat()).await;
    assert_eq!(client.until_ready().await, ["2", "D 3", "C SELECT 1", "ZI"]);
    assert_eq!(client.query("DISCARD ALL").await, ["C DISCARD ALL", "ZI"]);
    assert_eq!(client.query("SELECT current_setting('app.current_tenant')").await[1], "D a");

    // A reloaded policy counts for statements that were prepared before.
    for (name, text) in [("s", "SELECT 1"), ("o", "SELECT 'OLD'"), ("c", "SELECT CHANGE")] {
        client.send(&[run(name, text), sync().to_vec()].concat()).await;
        assert_eq!(client.until_ready().await.last().unwrap(), "ZI");
    }
    client.query("PREPARE p AS SELECT 'OLD'").await;
    proxy.policy.store(Arc::new(Policy { epoch: PolicyEpoch(1), ..Policy::default() }));
    client.send(&[bind("s"), execute(), sync()].concat()).await;
    assert_eq!(client.until_ready().await, ["2", "D 1", "C SELECT 1", "ZI"]);
    client.send(&[bind("o"), execute(), sync()].concat()).await;
    assert_eq!(client.until_ready().await, [DENIED, "ZI"]);
    client.send(&[bind("c"), execute(), sync()].concat()).await;
    // Another text is sent than before, prepared anew: it has the same columns.
    assert_eq!(client.until_ready().await, ["2", "D 1", "C SELECT 1", "ZI"]);
    assert_eq!(client.query("EXECUTE p").await, [DENIED, "ZI"]);

    // Large results pass in pieces.
    client.send(&query("SELECT repeat('x', 3000000) FROM generate_series(1, 5)")).await;
    let replies = client.until_ready().await;
    assert_eq!(replies.len(), 8);

    // Drain: who is in a transaction may finish it.
    let mut busy = proxy.connect().await;
    busy.query("BEGIN").await;
    proxy.stop.cancel();
    assert!(client.next().await.unwrap().starts_with("E 57P01"));
    assert_eq!(busy.query("SELECT 1").await[1], "D 1");
    assert_eq!(busy.query("COMMIT").await, ["C COMMIT", "ZI"]);
    assert!(busy.next().await.unwrap().starts_with("E 57P01"));
    timeout(Duration::from_secs(5), proxy.running).await.expect("drained").unwrap();
    drop(proxy.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_and_numbers_end_sessions() {
    let limits = Limits {
        max_clients: 1,
        idle_in_transaction_timeout: Duration::from_millis(300),
        statement_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let proxy = Proxy::with(limits).await;
    let mut client = proxy.connect().await;
    let mut second = Client::dial(proxy.port).await;
    second.start(ProtocolVersion::V3_0, &[("user", "a")]).await;
    assert!(second.next().await.unwrap().starts_with("E 53300"));
    let replies = client.query("SELECT pg_sleep(5)").await;
    assert!(replies.iter().any(|reply| reply.starts_with("E 57014")), "{replies:?}");
    client.query("BEGIN").await;
    assert!(client.next().await.unwrap().starts_with("E 25P03"));
    assert_eq!(client.next().await, None);
    drop(client);
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut client = Client::dial(proxy.port).await;
    client.sign_in(&token(json!({"tenant_id": "a"}), 2)).await;
    assert!(client.next().await.unwrap().starts_with("N 01000"));
    assert!(client.next().await.unwrap().starts_with("E 57P01 hedgerow: the token has expired"));
    drop(client);
    tokio::time::sleep(Duration::from_millis(200)).await;

    // The upstream dies.
    let mut client = proxy.connect().await;
    client.query("BEGIN").await;
    drop(proxy.postgres);
    // The server may still say a word of its own.
    let mut end = client.next().await.unwrap();
    while end.starts_with('N') {
        end = client.next().await.unwrap();
    }
    assert!(end.starts_with("E 08007") || end.starts_with("E 57P0"), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_negotiated_and_checked() {
    let keys = TempDir::new().unwrap();
    let file = |name: &str| keys.path().join(name);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(file("key.pem"))
        .arg("-out")
        .arg(file("cert.pem"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let tls = ClientTls { certificate: file("cert.pem"), key: file("key.pem") };
    let proxy = Proxy::with_tls(Limits::default(), Some(tls)).await;

    for mode in ["require", "disable"] {
        let uri = format!("host=127.0.0.1 port={} user=alice dbname=x sslmode={mode}", proxy.port);
        let output = tokio::process::Command::new("psql")
            .args(["-X", "-At", &uri, "-c", "SELECT 41 + 1", "-c", "SELECT DENY"])
            .env("PGPASSWORD", token(json!({"tenant_id": "a"}), 600))
            .output()
            .await
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"42\n", "{error}");
        assert!(error.contains("ERROR:  hedgerow: the relation is not available"), "{error}");
        assert!(error.contains("DETAIL:  HR1004") && error.contains("(audit record 0"), "{error}");
    }

    // The same listener seen as an upstream: how far each mode goes.
    let dial = |host: &str, mode, ca_file| {
        let endpoint = Endpoint {
            host: host.to_owned(),
            port: proxy.port,
            tls: mode,
            ca_file,
            ..proxy.postgres.endpoint()
        };
        async move { Connector::new(endpoint).unwrap().dial().await.map(|_| ()) }
    };
    let trusted = || Some(file("cert.pem"));
    dial("127.0.0.1", TlsMode::Require, None).await.unwrap();
    dial("127.0.0.1", TlsMode::VerifyCa, trusted()).await.unwrap();
    dial("localhost", TlsMode::VerifyFull, trusted()).await.unwrap();
    assert!(dial("127.0.0.1", TlsMode::VerifyFull, trusted()).await.is_err());
    drop(proxy.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_with_prepared_statements_pipelines_and_cancel_works() {
    let proxy = Proxy::start().await;
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(proxy.port)
        .user("alice")
        .password(token(json!({"tenant_id": "a"}), 600))
        .dbname("x");
    let (mut client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let statement = client.prepare("SELECT $1::int4 + 1").await.unwrap();
    let (one, two) = tokio::join!(
        client.query_one(&statement, &[&1_i32]),
        client.query_one(&statement, &[&2_i32])
    );
    assert_eq!((one.unwrap().get::<_, i32>(0), two.unwrap().get::<_, i32>(0)), (2, 3));
    let (denied, after) =
        tokio::join!(client.query("SELECT DENY", &[]), client.query_one(&statement, &[&4_i32]));
    assert_eq!(denied.unwrap_err().code().unwrap().code(), "42501");
    assert_eq!(after.unwrap().get::<_, i32>(0), 5);
    let transaction = client.transaction().await.unwrap();
    transaction.execute("CREATE TABLE t (id int)", &[]).await.unwrap();
    assert!(transaction.query("SELECT DENY", &[]).await.is_err());
    let aborted = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(aborted.code().unwrap().code(), "25P02");
    transaction.rollback().await.unwrap();
    // Many requests at once: more than may be in flight.
    let client = Arc::new(client);
    let mut many = tokio::task::JoinSet::new();
    for number in 0..2000_i32 {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        many.spawn(async move {
            let row = client.query_one(&statement, &[&number]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), number + 1);
        });
    }
    while let Some(done) = many.join_next().await {
        done.unwrap();
    }
    let cancel = client.cancel_token();
    let sleeping = client.simple_query("SELECT pg_sleep(30)");
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");

    // Without audit nothing runs, nobody signs in, and what is open is aborted.
    let mut open = proxy.connect().await;
    open.query("BEGIN").await;
    let records = proxy.records().await;
    assert_eq!(records.matches("\"SELECT $1::int4 + 1\"").count(), 2003, "one record an execution");
    assert!(client.query_one("SELECT 1", &[]).await.unwrap_err().code().unwrap().code() == "53100");
    let replies = open.query("SELECT 1").await;
    assert!(replies[0].starts_with("E 53100") && replies[1] == "ZE", "{replies:?}");
    let mut late = Client::dial(proxy.port).await;
    late.start(ProtocolVersion::V3_0, &[("user", "a")]).await;
    late.next().await;
    late.send(&password(&token(json!({"tenant_id": "a"}), 600))).await;
    assert!(late.next().await.unwrap().starts_with("E 53100"));
    drop(proxy.postgres);
}
