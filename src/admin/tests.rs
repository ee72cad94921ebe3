//! The bound server, asked by a hand-written HTTP client: what a probe, a scraper and a hostile
//! peer would see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::claims::ClaimPath;
use crate::error::DenialCode;
use crate::ids::{PolicyEpoch, RelationName};
use crate::policy::{
    Access, ClaimRule, ColumnRule, Mode, Policy, PolicyExpression, Protection, RelationPattern,
    SourcePosition, TablePolicy, TenantType,
};

/// Switches for each probe, all good at first.
#[derive(Default)]
struct Faults {
    policy: AtomicBool,
    keys: AtomicBool,
    audit: AtomicBool,
}

struct Running {
    address: SocketAddr,
    status: Status,
    faults: Arc<Faults>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let faults = Arc::new(Faults::default());
    let policy = Arc::new(sample_policy());
    let (for_policy, for_keys, for_audit) = (faults.clone(), faults.clone(), faults.clone());
    let status = Status::new(Probes {
        policy: Box::new(move || {
            (!for_policy.policy.load(Ordering::Relaxed)).then(|| policy.clone())
        }),
        keys: Box::new(move || !for_keys.keys.load(Ordering::Relaxed)),
        audit: Box::new(move || !for_audit.audit.load(Ordering::Relaxed)),
    });
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Settings { listen }, status.clone()).await.unwrap();
    let address = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    Running { address, status, faults, shutdown, task }
}

fn sample_policy() -> Policy {
    let at = |line| SourcePosition { file: "policies/app.yaml".into(), line, column: 3 };
    let orders = TablePolicy {
        protection: Protection::Tenant {
            column: "tenant_id".to_owned(),
            tenant_type: TenantType::Uuid,
        },
        access: Access { select: true, insert: true, update: false, delete: false },
        condition: Some(PolicyExpression {
            text: "note <> 'literal-canary'".to_owned(),
            at: at(7),
        }),
        columns: [("pin".to_owned(), ColumnRule::Deny)].into(),
        mode: Mode::Enforce,
        rule: "public.orders".into(),
        at: at(7),
    };
    let shared = TablePolicy {
        protection: Protection::Shared,
        access: Access::READ,
        condition: None,
        columns: Default::default(),
        mode: Mode::Monitor,
        rule: "lookup.*".into(),
        at: at(9),
    };
    Policy {
        epoch: PolicyEpoch(7),
        tables: [(RelationName::new("public", "orders"), Arc::new(orders))].into(),
        patterns: vec![(
            RelationPattern { schema: "lookup".to_owned(), name: "*".to_owned() },
            Arc::new(shared),
        )],
        ddl: Some(ClaimRule {
            claim: ClaimPath::parse("\"https://example.com/c\".role").unwrap(),
            accepted: ["migrator".to_owned()].into(),
        }),
        ..Policy::default()
    }
}

/// Sends bytes as they are and reads until the server closes.
async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A refusal may come, and the connection go, before all of an over-long request is written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer =
        send(address, format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get_json(address: SocketAddr, path: &str) -> (u16, serde_json::Value) {
    let (code, body) = ask(address, "GET", path).await;
    (code, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn startup_is_unavailable_until_started_and_live_all_along() {
    let running = start().await;
    assert_eq!(ask(running.address, "GET", "/startup").await.0, 503);
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
    running.status.mark_started();
    assert_eq!(ask(running.address, "GET", "/startup").await.0, 200);
}

#[tokio::test]
async fn readiness_names_each_check_and_follows_it() {
    let running = start().await;
    let (code, body) = get_json(running.address, "/readyz").await;
    assert_eq!((code, &body["checks"]["started"]), (503, &false.into()));
    running.status.mark_started();
    let (code, body) = get_json(running.address, "/readyz").await;
    assert_eq!(code, 200);
    assert_eq!(
        body,
        serde_json::json!({
            "ready": true,
            "checks": {
                "started": true, "policy": true, "keys": true, "audit": true, "not_draining": true
            },
            "policy_epoch": 7
        })
    );
    for (name, fault) in [
        ("policy", &running.faults.policy),
        ("keys", &running.faults.keys),
        ("audit", &running.faults.audit),
    ] {
        fault.store(true, Ordering::Relaxed);
        let (code, body) = get_json(running.address, "/readyz").await;
        assert_eq!((code, &body["checks"][name]), (503, &false.into()), "{name}");
        fault.store(false, Ordering::Relaxed);
        assert_eq!(ask(running.address, "GET", "/readyz").await.0, 200);
    }
    running.status.mark_draining();
    let (code, body) = get_json(running.address, "/readyz").await;
    assert_eq!((code, &body["checks"]["not_draining"]), (503, &false.into()));
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let running = start().await;
    for path in ["/", "/metrics/", "/readyz/x", "/debug", "/debug/pprof", "/%72eadyz", "//readyz"] {
        assert_eq!(ask(running.address, "GET", path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        assert_eq!(ask(running.address, method, "/livez").await.0, 405, "{method}");
    }
    assert_eq!(ask(running.address, "HEAD", "/livez").await, (200, String::new()));
}

#[tokio::test]
async fn bodies_long_heads_and_garbage_are_refused_and_harm_nobody() {
    let running = start().await;
    for request in [
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(send(running.address, request.as_bytes()).await.starts_with("HTTP/1.1 413"));
    }
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(4 * MAX_HEAD_BYTES));
    let answer = send(running.address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    assert!(send(running.address, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let garbage = send(running.address, b"\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn a_connection_answers_once_and_closes() {
    let running = start().await;
    let twice = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    let answer = send(running.address, twice.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"));
}

#[tokio::test]
async fn a_silent_peer_is_cut_after_the_head_timeout() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /livez HT").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(HEAD_TIMEOUT * 2, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "still open after twice the time");
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_are_described_and_counters_start_at_zero() {
    let recorder = recorder::exporter().unwrap();
    let text = metrics::with_local_recorder(&recorder, || {
        recorder::describe();
        recorder::start_at_zero();
        metrics::histogram!("hedgerow_audit_write_seconds").record(0.002);
        recorder.handle().render()
    });
    for line in [
        "# TYPE hedgerow_decisions_total counter",
        "hedgerow_decisions_total{engine=\"postgres\",decision=\"allow\",code=\"\"} 0",
        "hedgerow_cross_tenant_attempts_total{engine=\"postgres\"} 0",
        "hedgerow_token_verifications_total{result=\"ok\"} 0",
        "hedgerow_audit_lost 0",
        "hedgerow_quota_rejections_total 0",
        "hedgerow_audit_write_seconds_bucket{le=\"0.0025\"} 1",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    for code in DenialCode::ALL {
        assert!(text.contains(&format!("decision=\"deny\",code=\"{code}\"}} 0")), "{code}");
    }
}

#[tokio::test]
async fn the_scrape_carries_the_epoch_of_the_policy_in_force() {
    let running = start().await;
    let answer = send(running.address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\nhedgerow_policy_epoch 7\n"), "{answer}");
}

#[tokio::test]
async fn the_policy_is_shown_without_the_text_of_its_conditions() {
    let running = start().await;
    let (code, body) = get_json(running.address, "/debug/policy").await;
    assert_eq!(code, 200);
    assert_eq!(
        body,
        serde_json::json!({
            "engine": "postgres",
            "epoch": 7,
            "tables": [{
                "relation": "public.orders", "rule": "public.orders", "at": "policies/app.yaml:7:3",
                "protection": {"kind": "tenant", "column": "tenant_id", "type": "uuid"},
                "access": ["select", "insert"], "mode": "enforce", "has_condition": true,
                "columns": {"pin": "deny"}
            }],
            "patterns": [{
                "relation": "lookup.*", "rule": "lookup.*", "at": "policies/app.yaml:9:3",
                "protection": {"kind": "shared"}, "access": ["select"], "mode": "monitor",
                "has_condition": false
            }],
            "functions": [],
            "ddl": {"claim": "\"https://example.com/c\".role", "in": ["migrator"]},
            "break_glass": null,
            "quotas": []
        })
    );
    assert!(!body.to_string().contains("literal-canary"));
    running.faults.policy.store(true, Ordering::Relaxed);
    assert_eq!(ask(running.address, "GET", "/debug/policy").await.0, 503);
}

#[tokio::test]
async fn the_policy_is_kept_from_peers_that_are_not_on_loopback() {
    for (peer, code) in [("10.1.2.3:4", "403"), ("[::ffff:127.0.0.1]:4", "200"), ("[::1]:4", "200")]
    {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let running = start().await;
        let router = routes::router(running.status, install_recorder().unwrap())
            .layer(Extension(Peer(peer.parse().unwrap())));
        tokio::spawn(serve(server, router, running.shutdown));
        client.write_all(b"GET /debug/policy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{peer}: {answer}");
        assert_eq!(answer.contains("public.orders"), code == "200", "{peer}");
    }
}

#[tokio::test]
async fn shutdown_ends_the_server_though_a_peer_holds_its_connection_open() {
    let running = start().await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET /l").await.unwrap();
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
    running.shutdown.cancel();
    tokio::time::timeout(SHUTDOWN_GRACE * 3, running.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_and_are_then_served() {
    let running = start().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(TcpStream::connect(running.address).await.unwrap());
    }
    let address = running.address;
    let waiting = tokio::spawn(async move { ask(address, "GET", "/livez").await.0 });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(held);
    assert_eq!(waiting.await.unwrap(), 200);
}
