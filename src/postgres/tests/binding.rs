//! Signing in to a real server over TLS, past one who stands in between: both of Hedgerow's ways there,
//! sessions' backends and its own sessions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::catalog_load::{connect, testing};
use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};
use crate::postgres::upstream::Connector;

const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

/// A server with TLS, a password for one role and a certificate for another.
struct Place {
    server: testing::Server,
    port: u16,
}

impl Place {
    async fn new() -> Option<Self> {
        let server = testing::Server::start()?;
        let owner = connect(&server.endpoint("owner"), "postgres").await.unwrap();
        owner
            .client
            .batch_execute(
                "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE old LOGIN PASSWORD 'secret'; \
                 CREATE ROLE \"by certificate\" LOGIN; CREATE ROLE trusted LOGIN",
            )
            .await
            .unwrap();
        let home = server.home().to_owned();
        authority(&home, "ca");
        certificate(&home, "ca", "server", "/CN=localhost");
        certificate(&home, "ca", "client", "/CN=by certificate");
        certificate(&home, "ca", "stranger", "/CN=nobody");
        authority(&home, "other-ca");
        certificate(&home, "other-ca", "other", "/CN=localhost");
        server.give(&home.join("server.key"));
        server.give(&home.join("server.pem"));
        server.authenticate(
            "local all app scram-sha-256\nlocal all all trust\n\
             hostssl all \"by certificate\" 127.0.0.1/32 cert\n\
             hostssl all old 127.0.0.1/32 password\nhostssl all trusted 127.0.0.1/32 trust\n\
             hostssl all all 127.0.0.1/32 scram-sha-256\n",
        );
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server.stop();
        let file = |name: &str| home.join(name).display().to_string();
        server.start_again(&format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on -c ssl_cert_file={} \
             -c ssl_key_file={} -c ssl_ca_file={}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        ));
        Some(Self { server, port })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.home().join(name)
    }

    fn endpoint(&self, user: &str, channel_binding: Binding) -> Endpoint {
        Endpoint {
            host: "localhost".to_owned(),
            port: self.port,
            user: user.to_owned(),
            password: Some(Secret::new("secret")),
            tls: TlsMode::VerifyFull,
            channel_binding,
            ca_file: Some(self.file("ca.pem")),
            ..self.server.endpoint("app")
        }
    }
}

fn openssl(home: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    for argument in arguments.split_whitespace() {
        command.arg(argument.replace('+', " "));
    }
    let made = command.current_dir(home).stderr(Stdio::null()).stdout(Stdio::null()).status();
    assert!(made.unwrap().success(), "{arguments}");
}

fn authority(home: &Path, name: &str) {
    openssl(
        home,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -addext basicConstraints=critical,CA:TRUE -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ),
    );
}

fn certificate(home: &Path, authority: &str, name: &str, subject: &str) {
    let subject = subject.replace(' ', "+");
    openssl(
        home,
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj {subject} \
             -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.csr"
        ),
    );
    openssl(
        home,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial \
             -days 2 -copy_extensions copy -out {name}.pem"
        ),
    );
}

/// Whether sessions' backends and Hedgerow's own sessions come in: why not, in words.
async fn both(endpoint: Endpoint) -> Result<(), String> {
    let own = connect(&endpoint, "postgres").await;
    let backend = Connector::new(endpoint).unwrap().open("postgres", &[]).await;
    match (own, backend) {
        (Ok(_), Ok(_)) => Ok(()),
        (Err(_), Err(fault)) => Err(fault.to_string()),
        (own, backend) => panic!(
            "the two ways differ: {:?} and {:?}",
            own.err().map(|error| error.to_string()),
            backend.err().map(|fault| fault.to_string())
        ),
    }
}

/// What the one in between does with the server's offer.
const LEAVES_IT: u8 = 0;
const TAKES_OUT_PLUS: u8 = 1;
const ASKS_FOR_NOTHING: u8 = 2;

/// One who stands in between, with a certificate of its own, and relays everything.
async fn in_between(place: &Place) -> (u16, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(place.file("other.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(place.file("other.key")).unwrap();
    let mut shows = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    shows.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(place.file("ca.pem")).unwrap()).unwrap();
    let asks = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (shows, asks) = (TlsAcceptor::from(Arc::new(shows)), TlsConnector::from(Arc::new(asks)));
    let (does, server) = (Arc::new(AtomicU8::new(LEAVES_IT)), place.port);
    let doing = Arc::clone(&does);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (shows, asks, doing) = (shows.clone(), asks.clone(), Arc::clone(&doing));
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                assert_eq!(request, SSL_REQUEST);
                client.write_all(b"S").await?;
                let mut client = shows.accept(client).await?;
                let mut upstream = TcpStream::connect(("127.0.0.1", server)).await?;
                upstream.write_all(&SSL_REQUEST).await?;
                assert_eq!(upstream.read_u8().await?, b'S');
                let name = ServerName::try_from("localhost").unwrap();
                let mut upstream = asks.connect(name, upstream).await?;
                // The startup packet, then what the server says to it.
                let mut bytes = vec![0; 4096];
                let count = client.read(&mut bytes).await?;
                upstream.write_all(&bytes[..count]).await?;
                let count = upstream.read(&mut bytes).await?;
                let mut offer = bytes[..count].to_vec();
                match doing.load(Ordering::SeqCst) {
                    TAKES_OUT_PLUS => {
                        let at = offer.windows(PLUS.len()).position(|part| part == PLUS).unwrap();
                        offer.drain(at..at + PLUS.len());
                        offer[4] -= u8::try_from(PLUS.len()).unwrap();
                    }
                    ASKS_FOR_NOTHING => offer = vec![b'R', 0, 0, 0, 8, 0, 0, 0, 3],
                    _ => {}
                }
                client.write_all(&offer).await?;
                client.flush().await?;
                copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
            });
        }
    });
    (port, does)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_proved_to_the_server_with_this_certificate_alone() {
    let Some(place) = Place::new().await else { return };
    use Binding::{Disable, Prefer, Require};
    for binding in [Disable, Prefer, Require] {
        both(place.endpoint("app", binding)).await.unwrap();
    }
    // Whoever asks for it signs in in no other way.
    for user in ["old", "trusted"] {
        both(place.endpoint(user, Prefer)).await.unwrap();
        let why = both(place.endpoint(user, Require)).await.unwrap_err();
        assert!(why.contains("without channel binding"), "{why}");
    }

    let (port, does) = in_between(&place).await;
    // Any certificate will do: the one in between is taken for the server.
    let past = |binding| Endpoint {
        port,
        tls: TlsMode::Require,
        ca_file: None,
        ..place.endpoint("app", binding)
    };
    both(past(Disable)).await.expect("without a binding nobody notices");
    let why = both(past(Prefer)).await.unwrap_err();
    assert!(why.contains("channel binding check failed"), "{why}");
    assert!(both(past(Require)).await.is_err());
    does.store(TAKES_OUT_PLUS, Ordering::SeqCst);
    both(past(Disable)).await.expect("the relay itself works");
    let why = both(past(Prefer)).await.unwrap_err();
    assert!(why.contains("channel binding"), "the server noticed: {why}");
    let why = both(past(Require)).await.unwrap_err();
    assert!(why.contains("without channel binding"), "{why}");
    does.store(ASKS_FOR_NOTHING, Ordering::SeqCst);
    let why = both(past(Require)).await.unwrap_err();
    assert!(why.contains("without channel binding"), "no password in clear: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_signs_in_where_a_password_is_not_asked_for() {
    let Some(place) = Place::new().await else { return };
    let with = |name: &str| Endpoint {
        password: None,
        client_certificate: Some((
            place.file(&format!("{name}.pem")),
            place.file(&format!("{name}.key")),
        )),
        ..place.endpoint("by certificate", Binding::Prefer)
    };
    both(with("client")).await.unwrap();
    assert!(both(with("stranger")).await.is_err(), "another name than the role's");
    assert!(both(with("other")).await.is_err(), "another authority's");
    assert!(both(place.endpoint("by certificate", Binding::Prefer)).await.is_err(), "none at all");
    // A certificate is no channel binding.
    let why =
        both(Endpoint { channel_binding: Binding::Require, ..with("client") }).await.unwrap_err();
    assert!(why.contains("without channel binding"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_opens_a_unix_socket_too() {
    let Some(place) = Place::new().await else { return };
    let socket = |password: &str| Endpoint {
        port: place.port,
        password: Some(Secret::new(password)),
        ..place.server.endpoint("app")
    };
    both(socket("secret")).await.unwrap();
    let why = both(socket("wrong")).await.unwrap_err();
    assert!(why.contains("28P01"), "{why}");
}
