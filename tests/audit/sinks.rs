//! Sinks: what was written arrives, whole and in order, over failures and restarts.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hedgerow::audit::Cursor;
use hedgerow::endpoint::{Binding, Endpoint, Secret, TlsMode};
use hedgerow::sinks::{Kind, kafka, otlp, postgres as table};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::{http, postgres, process};
use crate::trail::{Trail, eventually, run, sequence, sink};

const FINISH: Duration = Duration::from_secs(20);

/// A collector that keeps what it is given and answers what it is told.
#[derive(Clone)]
struct Collector {
    lines: Arc<Mutex<Vec<String>>>,
    attributes: Arc<Mutex<Vec<Value>>>,
    answer: Arc<AtomicU16>,
    asked: Arc<AtomicU16>,
}

impl Collector {
    /// Starts it; the address of its HTTP port.
    async fn start() -> (Self, String) {
        let collector = Self {
            lines: Arc::default(),
            attributes: Arc::default(),
            answer: Arc::new(AtomicU16::new(200)),
            asked: Arc::default(),
        };
        let router = Router::new().route("/v1/logs", post(take)).with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

async fn take(State(to): State<Collector>, head: HeaderMap, body: String) -> (StatusCode, String) {
    to.asked.fetch_add(1, Ordering::SeqCst);
    let answer = to.answer.load(Ordering::SeqCst);
    if answer != 200 {
        return (StatusCode::from_u16(answer).unwrap(), String::new());
    }
    if head.get("authorization").is_none_or(|value| value != "Bearer the-token") {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    for record in records {
        to.lines.lock().unwrap().push(record["body"]["stringValue"].as_str().unwrap().to_owned());
        to.attributes.lock().unwrap().push(record["attributes"].clone());
    }
    (StatusCode::OK, "{}".to_owned())
}

fn otlp(url: &str) -> Kind {
    Kind::Otlp(otlp::Settings { url: url.to_owned(), token: Some(Secret::new("the-token")) })
}

/// Nobody listens here.
fn nowhere() -> Kind {
    otlp(&format!("http://{}/v1/logs", process::free_address()))
}

#[test]
fn a_collector_gets_every_record_once_and_in_order() {
    run(async {
        let trail = Trail::new();
        let (collector, url) = Collector::start().await;
        let sinks = trail.start(vec![sink("otlp", otlp(&url))]);
        trail.write(2_500).await;
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        assert_eq!(collector.lines(), trail.lines());
        let attributes = collector.attributes.lock().unwrap()[5].to_string();
        for wanted in ["hedgerow.sequence", "\"intValue\":\"6\"", "hedgerow.chain", "acme"] {
            assert!(attributes.contains(wanted), "{wanted} in {attributes}");
        }
    });
}

#[test]
fn a_sink_goes_on_where_it_left_off() {
    run(async {
        let trail = Trail::new();
        let (collector, url) = Collector::start().await;
        for _ in 0..3 {
            let sinks = trail.start(vec![sink("otlp", otlp(&url))]);
            trail.write(300).await;
            let all = trail.lines().len();
            eventually("all is delivered", || collector.lines().len() == all).await;
            sinks.finish(FINISH).await;
        }
        assert_eq!(collector.lines(), trail.lines(), "nothing twice, nothing left out");
        trail.audit.close().await;
    });
}

#[test]
fn a_collector_that_fails_for_a_while_gets_everything_and_the_other_sink_does_not_wait() {
    run(async {
        let trail = Trail::new();
        let (failing, failing_url) = Collector::start().await;
        let (working, working_url) = Collector::start().await;
        failing.answer.store(503, Ordering::SeqCst);
        let sinks = trail.start(vec![
            sink("failing", otlp(&failing_url)),
            sink("nowhere", nowhere()),
            sink("working", otlp(&working_url)),
        ]);
        trail.write(1_500).await;
        let all = trail.lines();
        eventually("the working sink is done", || working.lines().len() >= all.len()).await;
        eventually("the failing one was tried again", || failing.asked.load(Ordering::SeqCst) > 2)
            .await;
        assert!(failing.lines().is_empty());
        failing.answer.store(200, Ordering::SeqCst);
        trail.audit.close().await;
        let all = trail.lines();
        eventually("the failing sink catches up", || failing.lines().len() == all.len()).await;
        assert_eq!(failing.lines(), all);
        sinks.finish(Duration::from_secs(2)).await;
        assert_eq!(working.lines(), all);
    });
}

#[test]
fn what_retention_deletes_before_a_sink_had_it_is_said() {
    run(async {
        let trail = Trail::with(|settings| {
            settings.max_total_size = Some(600_000);
            settings.sinks = vec!["late".to_owned()];
        });
        // A cursor at the beginning: the sink had the first records and then stopped.
        let (collector, url) = Collector::start().await;
        let sinks = trail.start(vec![sink("late", otlp(&url))]);
        trail.write(10).await;
        eventually("the first are delivered", || !collector.lines().is_empty()).await;
        sinks.finish(FINISH).await;
        trail.write(3_000).await;
        let size = |trail: &Trail| -> u64 {
            let segments = crate::trail::segments(&trail.directory());
            // One may go while they are looked at.
            let size = |path| std::fs::metadata(path).map_or(0, |file| file.len());
            segments.iter().map(size).sum()
        };
        eventually("the directory is within its size", || size(&trail) <= 800_001).await;
        assert!(trail.lines().iter().any(|line| line.contains("was delivered by: late")));
        let sinks = trail.start(vec![sink("late", otlp(&url))]);
        eventually("the gap is a record", || {
            trail.lines().iter().any(|line| {
                line.contains("sink late: records of chain") && line.contains("\"kind\":\"gap\"")
            })
        })
        .await;
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        let there: BTreeSet<u64> = trail.lines().iter().map(|line| sequence(line)).collect();
        let delivered: BTreeSet<u64> =
            collector.lines().iter().map(|line| sequence(line)).collect();
        assert!(delivered.is_superset(&there), "what is left is delivered");
        let keys = hedgerow::audit::TrustedKeys::read(
            &trail.directory().join(hedgerow::audit::PUBLIC_KEY_FILE),
        )
        .unwrap();
        let paths = [trail.directory()];
        let what = hedgerow::audit::Verification { paths: &paths, keys: &keys, open: false };
        hedgerow::audit::verify(&what, |_| {}).unwrap();
    });
}

fn consumer(brokers: &str) -> BaseConsumer {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "false")
        .create()
        .unwrap();
    consumer.subscribe(&["audit"]).unwrap();
    consumer
}

#[test]
fn a_kafka_topic_gets_every_record_in_order_over_failing_brokers() {
    run(async {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("audit", 4, 3).unwrap();
        let brokers = cluster.bootstrap_servers();
        let trail = Trail::new();
        let kind = Kind::Kafka(kafka::Settings {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            topic: "audit".to_owned(),
            sasl: None,
        });
        let sinks = trail.start(vec![sink("kafka", kind)]);
        trail.write(800).await;
        // Some of what is sent from now on is answered with errors that end a delivery.
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            ],
        );
        trail.write(800).await;
        trail.audit.close().await;
        let all = trail.lines();
        let consumer = consumer(&brokers);
        let mut seen: Vec<(u64, String)> = Vec::new();
        let mut known = BTreeSet::new();
        eventually("every record is in the topic", || {
            while let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let Ok(message) = message else { continue };
                let line = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                let headers = message.headers().unwrap();
                let number = sequence(&line);
                assert!(headers.iter().any(|header| header.key == "sequence"
                    && header.value == Some(number.to_string().as_bytes())));
                known.insert(number);
                seen.push((number, line));
            }
            known.len() == all.len()
        })
        .await;
        sinks.finish(FINISH).await;
        // A repeat may come behind a failure; without repeats the order is that of the trail.
        let mut known = BTreeSet::new();
        let once: Vec<String> = seen
            .into_iter()
            .filter(|(number, _)| known.insert(*number))
            .map(|(_, line)| line)
            .collect();
        assert_eq!(once, all);
    });
}

#[test]
fn a_table_has_every_record_once_whatever_is_repeated() {
    run(async {
        let server = postgres::server();
        let database = server.clone_of("template1");
        let trail = Trail::new();
        let endpoint = Endpoint {
            host: server.socket_directory().to_str().unwrap().to_owned(),
            port: server.port,
            database: None,
            user: postgres::SUPERUSER.to_owned(),
            password: None,
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        };
        let kind = Kind::Postgres(table::Settings {
            endpoint,
            database: database.clone(),
            schema: "public".to_owned(),
            table: "hedgerow_audit".to_owned(),
        });
        let sinks = trail.start(vec![sink("table", kind.clone())]);
        trail.write(1_200).await;
        let count = || -> usize {
            let there = "SELECT coalesce((xpath('/row/c/text()', query_to_xml(\
                'SELECT count(*) AS c FROM hedgerow_audit', false, true, '')))[1]::text, '0')";
            let made = server.run(&database, "SELECT to_regclass('hedgerow_audit') IS NOT NULL");
            if made.value() != "t" {
                return 0;
            }
            server.run(&database, there).value().parse().unwrap()
        };
        let all = trail.lines().len();
        eventually("every record is in the table", || count() >= all).await;
        sinks.finish(FINISH).await;
        // As after a crash before the cursor was written.
        Cursor::default().write(&trail.directory(), "table").unwrap();
        let sinks = trail.start(vec![sink("table", kind)]);
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        let rows = server
            .run(&database, "SELECT record::text FROM hedgerow_audit ORDER BY chain, sequence");
        assert_eq!(rows.lines(), trail.lines(), "byte for byte");
        let row = server.run(
            &database,
            "SELECT DISTINCT kind, decision, tenant FROM hedgerow_audit WHERE tenant IS NOT NULL",
        );
        assert_eq!(row.lines(), ["statement|rewrite|acme"]);
    });
}

#[test]
fn standard_output_holds_the_records_and_nothing_else() {
    let options = Options { audit_extra: "  sinks: [stdout]\n".to_owned(), ..Options::new(POLICY) };
    let world = World::with(&options);
    let mut a = world.a();
    for _ in 0..50 {
        a.query("SELECT id FROM users");
        assert!(a.query("SELECT * FROM vault").denied());
    }
    a.terminate();
    world.hedgerow.terminate();
    let printed = world.hedgerow.standard_output();
    let printed: Vec<&str> = printed.lines().collect();
    let there: Vec<String> = crate::trail::segments(&world.hedgerow.audit_directory())
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(there.len() > 100);
    assert_eq!(printed, there);
    world.finish();
}

#[test]
fn a_sink_that_nobody_answers_makes_the_process_unready_and_refuses_no_statement() {
    let nobody = process::free_address();
    let options = Options {
        audit_extra: format!("  sinks:\n    - {{type: otlp, endpoint: \"http://{nobody}\"}}\n"),
        ..Options::new(POLICY)
    };
    let world = World::with(&options);
    let mut a = world.a();
    process::eventually("readiness turns false", Duration::from_secs(90), || {
        assert_eq!(a.query("SELECT count(*) FROM users").value(), "3");
        let (status, _) = http::get(world.hedgerow.admin, "/readyz")?;
        (status == 503).then_some(())
    });
    assert_eq!(a.query("SELECT count(*) FROM users").value(), "3");
    let metrics = process::eventually("the metric says so", Duration::from_secs(30), || {
        let (_, metrics) = http::get(world.hedgerow.admin, "/metrics")?;
        metrics.contains("hedgerow_audit_sink_stuck{sink=\"otlp\"} 1").then_some(metrics)
    });
    assert!(!metrics.contains("hedgerow_audit_sink_failures_total{sink=\"otlp\"} 0"), "{metrics}");
    a.terminate();
    world.finish();
}
