//! Sessions over in-memory streams, with a server that says what no real one would.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Audit, ClientAddress};
use crate::catalog_load::Catalogs;
use crate::claims::{Claims, Principal, TenantClaim};
use crate::decide::{Recent, Verdicts, Viewpoint};
use crate::endpoint::{Binding, Endpoint, TlsMode};
use crate::limiter::Limiter;
use crate::policy::Policy;
use crate::postgres::answer::End;
use crate::postgres::bearers::Bearer;
use crate::postgres::cancel::Flight;
use crate::postgres::egress::TenantValue;
use crate::postgres::judge::Judge;
use crate::postgres::limits::InForce;
use crate::postgres::meters::Meters;
use crate::postgres::parameters::Requested;
use crate::postgres::pool::{Key, Pool};
use crate::postgres::recorder::{Caller, Recorder};
use crate::postgres::session::{Beginning, Link, Rules, Session};
use crate::postgres::socket::Socket;
use crate::postgres::upstream::Connector;
use crate::postgres::who::{Door, Standing, Who};
use crate::postgres::{Limits, PoolMode};
use crate::sql;
use crate::wire::FrameBuffer;

fn session(audit: &Audit) -> (Session<DuplexStream>, DuplexStream, DuplexStream) {
    let (session, client, server, _flight) = session_at(audit, "/nowhere");
    (session, client, server)
}

/// A session whose upstream listens in this directory, for cancel requests.
fn session_at(
    audit: &Audit,
    host: &str,
) -> (Session<DuplexStream>, DuplexStream, DuplexStream, Arc<Flight>) {
    let endpoint = Endpoint {
        host: host.to_owned(),
        port: 1,
        database: None,
        user: "app".to_owned(),
        password: None,
        tls: TlsMode::Disable,
        channel_binding: Binding::Prefer,
        ca_file: None,
        client_certificate: None,
    };
    let meters = Arc::new(Meters::new());
    let tenant = TenantClaim::Text("a".to_owned());
    let judge = Judge {
        policy: Arc::new(ArcSwap::from_pointee(Policy::default())),
        catalogs: Catalogs::new(endpoint.clone()),
        followed: None,
        verdicts: Arc::new(Verdicts::new(1 << 20)),
        recent: Recent::default(),
        viewpoint: Viewpoint::new(
            &Principal::assumed(Some(tenant.clone()), Claims::default()),
            "d",
            sql::Limits { max_statement: 1000 },
        ),
        meters: Arc::clone(&meters),
        temporary: sql::temporary::Temporary::default(),
        limiter: Limiter::default(),
    };
    let caller = Caller {
        address: ClientAddress::Unix,
        user: "u".into(),
        application: None,
        database: "d".into(),
        upstream: "x".into(),
    };
    let recorder = Recorder::new(audit.clone(), &caller, meters);
    let rules = Rules { leeway: Duration::ZERO };
    let connector = Arc::new(Connector::new(endpoint).unwrap());
    let pool =
        Pool::new("d", Arc::clone(&connector), 4, Duration::from_secs(60), Arc::new(Meters::new()));
    let key = Key::new(Some(tenant.clone()), false, Vec::new());
    let flight = Flight::new(connector);
    let (client, near_client) = duplex(1 << 16);
    let (server, near_server) = duplex(1 << 16);
    let link = Link::new(Beginning {
        who: Arc::new(Who {
            bearer: Arc::new(Bearer {
                identity: None,
                viewpoint: judge.viewpoint.clone(),
                tenant: Arc::new(TenantValue::new(Some(&tenant))),
            }),
            key: Arc::clone(&key),
            standing: Standing::Tenant,
            expires_at: i64::MAX,
            ends: None,
            serial: 0,
        }),
        judge,
        recorder,
        rules,
        in_force: InForce::new(Limits::default()),
        door: Door {
            pool: Arc::clone(&pool),
            mode: PoolMode::Session,
            authenticator: None,
            policy: Arc::default(),
            database: "d".into(),
            requested: Requested::default(),
            limits: Limits::default(),
            variables: [].into(),
            serial: 0,
        },
        flight: Arc::clone(&flight),
        backend: Some(pool.backend_for_test(&key, Socket::Memory(near_server))),
        welcome: BytesMut::new(),
    });
    (Session::new((near_client, FrameBuffer::new()), link), client, server, flight)
}

/// What the client gets and how the session ends, when both sides say this and then close.
async fn converse(audit: &Audit, client_says: &[u8], server_says: &[u8]) -> (Vec<u8>, End) {
    let (mut session, mut client, mut server) = session(audit);
    let running = tokio::spawn(async move {
        session.run(&CancellationToken::new(), &Notify::new(), Duration::from_secs(1)).await
    });
    client.write_all(client_says).await.unwrap();
    // The request must be there before its answer.
    let mut heard = [0; 1];
    let _requests = tokio::time::timeout(Duration::from_millis(20), server.read(&mut heard)).await;
    let _closed = server.write_all(server_says).await;
    let reading = tokio::spawn(async move {
        let mut sent = Vec::new();
        let _closed = server.shutdown().await;
        let _read = server.read_to_end(&mut sent).await;
    });
    let mut got = Vec::new();
    let _closed = client.read_to_end(&mut got).await;
    drop(client);
    let end = running.await.expect("the session did not panic");
    reading.await.unwrap();
    (got, end)
}

fn opened() -> (TempDir, Audit) {
    let directory = TempDir::new().unwrap();
    let audit = Audit::open(audit::Settings::new(directory.path().join("audit"))).unwrap();
    (directory, audit)
}

/// Thousands of clients lie idle in front of a few backends.
#[tokio::test]
async fn what_an_idle_session_holds_is_small() {
    let (_directory, audit) = opened();
    let (mut session, _client, _server) = session(&audit);
    let state = size_of_val(&session);
    let (never, nobody) = (CancellationToken::new(), Notify::new());
    let waiting = size_of_val(&session.run(&never, &nobody, Duration::ZERO));
    eprintln!("an idle session: {state} bytes of state, {waiting} to wait");
    assert!(state <= 3 << 10, "{state}");
    assert!(waiting <= 1 << 10, "{waiting}");
}

#[tokio::test]
async fn an_answer_that_is_not_owed_ends_the_session() {
    let (_directory, audit) = opened();
    let query = b"Q\0\0\0\x0dSELECT 1\0";
    for (server_says, leaked) in [
        (&b"Z\0\0\0\x05I"[..], "ready without a request"),
        (b"D\0\0\0\x0b\0\x01\0\0\0\x01x", "row"),
        (b"1\0\0\0\x04", "parse complete"),
        (b"G\0\0\0\x07\0\0\0", "copy in"),
        (b"S\0\0\0\x1aclient_encoding\0LATIN1\0", "encoding"),
        (b"S\0\0\0\x23standard_conforming_strings\0off\0", "strings"),
        (b"Q\0\0\0\x03", "length"),
    ] {
        for request in [&b""[..], query] {
            // Rows and ReadyForQuery have their place behind a query.
            if !request.is_empty()
                && (server_says.starts_with(b"D") || server_says.starts_with(b"Z"))
            {
                continue;
            }
            let (got, end) = converse(&audit, request, server_says).await;
            let End::Farewell(answer) = end else { panic!("{leaked}: {end:?}") };
            let expected = if request.is_empty() { "08006" } else { "08007" };
            assert_eq!(answer.state.0, expected, "{leaked}");
            assert!(got.starts_with(b"E"), "{leaked}");
        }
    }
}

/// PostgreSQL sends its signal twice, to the process and to its group: a statement that reached the
/// backend in between was cancelled though nobody had asked for it.
#[tokio::test]
async fn no_statement_is_sent_while_a_cancel_request_for_the_one_before_is_on_its_way() {
    const CANCELLED: &[u8] = b"E\0\0\0\x0eC57014\0M\0\0Z\0\0\0\x05I";
    let (_directory, audit) = opened();
    let directory = TempDir::new().unwrap();
    let upstream = UnixListener::bind(directory.path().join(".s.PGSQL.1")).unwrap();
    let host = directory.path().display().to_string();
    let (mut session, mut client, mut server, flight) = session_at(&audit, &host);
    let running = tokio::spawn(async move {
        session.run(&CancellationToken::new(), &Notify::new(), Duration::from_secs(1)).await
    });
    let mut bytes = [0; 256];
    client.write_all(b"Q\0\0\0\x0dSELECT 1\0").await.unwrap();
    assert_eq!(server.read(&mut bytes).await.unwrap(), 14);
    let cancelling = tokio::spawn(async move { flight.cancel().await });
    let (mut cancel, _) = upstream.accept().await.unwrap();
    cancel.read_exact(&mut [0; 12]).await.unwrap();
    server.write_all(CANCELLED).await.unwrap();
    assert_eq!(client.read(&mut bytes).await.unwrap(), CANCELLED.len());

    client.write_all(b"Q\0\0\0\x0dSELECT 2\0").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), server.read(&mut bytes)).await;
    assert!(early.is_err(), "sent while the signal was on its way");
    drop(cancel);
    let sent = server.read(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..sent], b"Q\0\0\0\x0dSELECT 2\0");
    cancelling.await.unwrap();
    drop((client, server));
    running.await.unwrap();
}

#[tokio::test]
async fn a_notice_and_a_parameter_may_come_at_any_time() {
    let (_directory, audit) = opened();
    let says = b"S\0\0\0\x0eTimeZone\0\0N\0\0\0\x08Mx\0\0";
    let (got, end) = converse(&audit, b"", says).await;
    assert!(matches!(end, End::Farewell(_)), "the server closed: {end:?}");
    assert!(got.starts_with(b"S\0\0\0\x0eTimeZone\0\0N"), "{got:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_bytes_of_either_side_never_panic(
        client in prop::collection::vec(prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            Just(b"Q\0\0\0\x0dSELECT 1\0".to_vec()),
            Just(b"P\0\0\0\x10\0SELECT 1\0\0\0".to_vec()),
            Just(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0".to_vec()),
            Just(b"E\0\0\0\x09\0\0\0\0\0".to_vec()),
            Just(b"D\0\0\0\x06P\0".to_vec()),
            Just(b"C\0\0\0\x06S\0".to_vec()),
            Just(b"S\0\0\0\x04".to_vec()),
        ], 0..12),
        server in prop::collection::vec(prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            Just(b"1\0\0\0\x04".to_vec()),
            Just(b"2\0\0\0\x04".to_vec()),
            Just(b"T\0\0\0\x06\0\0".to_vec()),
            Just(b"D\0\0\0\x0b\0\x01\0\0\0\x01x".to_vec()),
            Just(b"C\0\0\0\x0dSELECT 1\0".to_vec()),
            Just(b"E\0\0\0\x0dC22012\0Mx\0\0".to_vec()),
            Just(b"Z\0\0\0\x05I".to_vec()),
        ], 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_directory, audit) = opened();
        runtime.block_on(async {
            let (client, server) = (client.concat(), server.concat());
            let talk = converse(&audit, &client, &server);
            tokio::time::timeout(Duration::from_secs(10), talk).await.expect("no hang");
        });
    }
}
