//! The authenticator against real files and a small HTTP server: rotation, unknown keys, failures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::claims::ClaimPath;
use crate::error::DenialCode;
use crate::identity::{Algorithm, IssuerSettings, MAX_KEY_SET_BYTES, SigningKey};

const ISSUER: &str = "https://auth.example.com/";

/// Key pairs to rotate through: Ed25519 seeds that ring turns into JWKs.
struct Pair {
    private: SigningKey,
    public: Value,
}

fn pair(kid: &str, seed: u8) -> Pair {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    let seed = [seed; 32];
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let x = URL_SAFE_NO_PAD.encode(public.public_key().as_ref());
    let public = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x});
    let mut jwk = public.clone();
    jwk["d"] = URL_SAFE_NO_PAD.encode(seed).into();
    Pair { private: SigningKey::from_file_bytes(jwk.to_string().as_bytes()).unwrap(), public }
}

fn jwks(pairs: &[&Pair]) -> String {
    json!({"keys": pairs.iter().map(|pair| &pair.public).collect::<Vec<_>>()}).to_string()
}

fn claims(issuer: &str, now: i64) -> Map<String, Value> {
    let claims = json!({
        "iss": issuer, "sub": "alice", "aud": "orders", "iat": now, "exp": now + 600,
        "tenant_id": "acme",
    });
    claims.as_object().unwrap().clone()
}

fn token(pair: &Pair) -> String {
    pair.private.mint(&claims(ISSUER, system_time())).unwrap()
}

fn settings(source: KeySource) -> Settings {
    let algorithms =
        if source.is_secret() { vec![Algorithm::Hs256] } else { vec![Algorithm::EdDsa] };
    Settings {
        verifier: VerifierSettings {
            tenant_claim: ClaimPath::parse("tenant_id").unwrap(),
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(3600),
            issuers: vec![IssuerSettings {
                issuer: ISSUER.into(),
                audiences: vec!["orders".into()],
                algorithms,
            }],
        },
        sources: vec![source],
        revocation_file: None,
        revocation_redis: None,
    }
}

/// Nothing happens by itself within a test, unless the test asks for it.
fn idle() -> Timing {
    const NEVER: Duration = Duration::from_secs(3600);
    Timing {
        file_poll: NEVER,
        url_refresh: NEVER,
        unknown_key_interval: Duration::ZERO,
        first_retry: NEVER,
        longest_retry: NEVER,
        fetch_timeout: Duration::from_millis(500),
    }
}

async fn start(source: KeySource, timing: Timing) -> Authenticator {
    Authenticator::start_with(settings(source), timing, Box::new(system_time)).await.unwrap()
}

async fn code(authenticator: &Authenticator, token: &str) -> Option<DenialCode> {
    authenticator.authenticate(token).await.err().map(|denial| denial.code)
}

const KEY: Option<DenialCode> = Some(DenialCode::TokenKey);

/// Waits until `holds`, for at most five seconds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..250 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("within five seconds: {what}");
}

/// What the server answers.
#[derive(Clone)]
enum Answer {
    Body(String),
    Status(&'static str),
    Redirect(String),
    /// A chunked body without end.
    Endless,
    /// A body after a tenth of a second.
    Late(String),
    /// Nothing, for ever.
    Silence,
}

struct Server {
    url: String,
    answer: Arc<Mutex<Answer>>,
    hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let hits = Arc::new(AtomicUsize::new(0));
        let (answers, counter) = (Arc::clone(&answer), Arc::clone(&hits));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = respond(&mut stream, answer).await;
                });
            }
        });
        Self { url, answer, hits, task }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn source(&self) -> KeySource {
        KeySource::JwksUrl(self.url.clone())
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

async fn respond(stream: &mut tokio::net::TcpStream, answer: Answer) -> std::io::Result<()> {
    let head = match answer {
        Answer::Body(body) => ok(&body),
        Answer::Late(body) => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            ok(&body)
        }
        Answer::Status(status) => {
            format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}")
        }
        Answer::Redirect(location) => {
            format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(format!("400\r\n{}\r\n", " ".repeat(0x400)).as_bytes()).await?;
            }
        }
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Ok(());
        }
    };
    stream.write_all(head.as_bytes()).await
}

#[tokio::test]
async fn a_key_published_later_is_fetched_when_a_token_names_it() {
    let (old, new) = (pair("old", 1), pair("new", 2));
    let server = Server::start(Answer::Body(jwks(&[&old]))).await;
    let authenticator = start(server.source(), idle()).await;
    assert!(authenticator.healthy());
    assert_eq!(code(&authenticator, &token(&old)).await, None);
    assert_eq!(code(&authenticator, &token(&new)).await, KEY);
    server.answer(Answer::Body(jwks(&[&old, &new])));
    assert_eq!(code(&authenticator, &token(&new)).await, None);
    assert_eq!(code(&authenticator, &token(&old)).await, None);
}

#[tokio::test]
async fn a_removed_key_takes_its_remembered_tokens_with_it() {
    let (old, new) = (pair("old", 1), pair("new", 2));
    let server = Server::start(Answer::Body(jwks(&[&old]))).await;
    let timing = Timing { url_refresh: Duration::from_millis(50), ..idle() };
    let authenticator = start(server.source(), timing).await;
    let remembered = token(&old);
    assert_eq!(code(&authenticator, &remembered).await, None);
    assert_eq!(code(&authenticator, &remembered).await, None);
    server.answer(Answer::Body(jwks(&[&new])));
    eventually("the old key is gone", async || code(&authenticator, &remembered).await == KEY)
        .await;
    assert_eq!(code(&authenticator, &token(&new)).await, None);
}

#[tokio::test]
async fn a_key_replaced_under_the_same_id_does_not_verify_old_tokens() {
    let (old, new) = (pair("same", 1), pair("same", 2));
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let timing = Timing { file_poll: Duration::from_millis(20), ..idle() };
    let authenticator = start(KeySource::JwksFile(path.clone()), timing).await;
    let remembered = token(&old);
    assert_eq!(code(&authenticator, &remembered).await, None);
    std::fs::write(&path, jwks(&[&new])).unwrap();
    eventually("the new key is in force", async || {
        code(&authenticator, &token(&new)).await.is_none()
    })
    .await;
    assert_eq!(code(&authenticator, &remembered).await, Some(DenialCode::TokenInvalid));
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_in_each_interval() {
    let known = pair("known", 1);
    let server = Server::start(Answer::Body(jwks(&[&known]))).await;
    let timing = Timing { unknown_key_interval: Duration::from_secs(30), ..idle() };
    let authenticator = start(server.source(), timing).await;
    assert_eq!(server.hits(), 1);
    let strangers: Vec<_> = (0..50)
        .map(|number| {
            let authenticator = authenticator.clone();
            let token = token(&pair(&format!("stranger-{number}"), 9));
            tokio::spawn(async move { code(&authenticator, &token).await })
        })
        .collect();
    for stranger in strangers {
        assert_eq!(stranger.await.unwrap(), KEY);
    }
    assert_eq!(server.hits(), 2);
    // Wrong signatures and wrong claims cause none.
    let forged = pair("known", 9);
    assert_eq!(code(&authenticator, &token(&forged)).await, Some(DenialCode::TokenInvalid));
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_fetch() {
    let (old, new) = (pair("old", 1), pair("new", 2));
    let server = Server::start(Answer::Body(jwks(&[&old]))).await;
    let timing = Timing { unknown_key_interval: Duration::from_secs(30), ..idle() };
    let authenticator = start(server.source(), timing).await;
    server.answer(Answer::Late(jwks(&[&old, &new])));
    let wanted = token(&new);
    let patience = Duration::from_millis(20);
    let impatient = tokio::time::timeout(patience, authenticator.authenticate(&wanted)).await;
    assert!(impatient.is_err());
    eventually("the key has come", async || code(&authenticator, &wanted).await.is_none()).await;
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn failures_keep_the_last_good_keys() {
    let known = pair("known", 1);
    let server = Server::start(Answer::Body(jwks(&[&known]))).await;
    let authenticator = start(server.source(), idle()).await;
    let elsewhere = Server::start(Answer::Body(jwks(&[&pair("stranger", 9)]))).await;
    let stranger = token(&pair("stranger", 9));
    let mut padded = jwks(&[&known, &pair("stranger", 9)]);
    padded.push_str(&" ".repeat(MAX_KEY_SET_BYTES));
    for answer in [
        Answer::Status("500 Internal Server Error"),
        Answer::Status("404 Not Found"),
        Answer::Status("201 Created"),
        Answer::Body(String::new()),
        Answer::Body("<html>".into()),
        Answer::Body(r#"{"keys":[]}"#.into()),
        Answer::Body(padded),
        Answer::Redirect(elsewhere.url.clone()),
        Answer::Endless,
        Answer::Silence,
    ] {
        server.answer(answer);
        let hits = server.hits();
        assert_eq!(code(&authenticator, &stranger).await, KEY);
        assert_eq!(server.hits(), hits + 1);
        assert_eq!(code(&authenticator, &token(&known)).await, None);
        assert!(authenticator.healthy());
    }
    assert_eq!(elsewhere.hits(), 0, "a redirect was followed");
    let address = server.url.clone();
    drop(server);
    assert_eq!(code(&authenticator, &token(&known)).await, None, "{address} is down");
}

#[tokio::test]
async fn an_answer_is_not_read_beyond_the_limit() {
    let server = Server::start(Answer::Endless).await;
    let door = Door::new(&server.source(), Duration::from_secs(60)).unwrap();
    let error = door.read().await.unwrap_err();
    assert!(matches!(error, LoadError::TooLarge), "{error}");
    server.answer(Answer::Body(" ".repeat(MAX_KEY_SET_BYTES)));
    assert_eq!(door.read().await.unwrap().len(), MAX_KEY_SET_BYTES);
}

#[tokio::test]
async fn an_unreachable_url_at_start_is_tried_again() {
    let known = pair("known", 1);
    let server = Server::start(Answer::Status("503 Service Unavailable")).await;
    let timing = Timing {
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(40),
        unknown_key_interval: Duration::from_secs(3600),
        ..idle()
    };
    let authenticator = start(server.source(), timing).await;
    assert!(!authenticator.healthy());
    assert_eq!(code(&authenticator, &token(&known)).await, KEY);
    server.answer(Answer::Body(jwks(&[&known])));
    eventually("the keys are there", async || authenticator.healthy()).await;
    assert_eq!(code(&authenticator, &token(&known)).await, None);
}

#[tokio::test]
async fn a_broken_file_is_fatal_at_start_and_ignored_later() {
    let known = pair("known", 1);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("jwks.json");
    let attempt = async |source| Authenticator::start(settings(source)).await;
    let file = || KeySource::JwksFile(path.clone());
    let text = |error: StartError| error.to_string();

    let missing = text(attempt(file()).await.unwrap_err());
    assert!(missing.contains("jwks.json cannot be read"), "{missing}");
    let not_a_file = text(attempt(KeySource::JwksFile(directory.path().into())).await.unwrap_err());
    assert!(not_a_file.contains("not a regular file"), "{not_a_file}");
    std::fs::write(&path, "{").unwrap();
    let malformed = text(attempt(file()).await.unwrap_err());
    assert!(malformed.contains("is not a JSON object"), "{malformed}");
    std::fs::write(&path, " ".repeat(MAX_KEY_SET_BYTES + 1)).unwrap();
    assert!(text(attempt(file()).await.unwrap_err()).contains("more than 65536 bytes"));
    std::fs::write(&path, [7; 31]).unwrap();
    let short = text(attempt(KeySource::HmacSecretFile(path.clone())).await.unwrap_err());
    assert!(short.contains("31 bytes"), "{short}");

    std::fs::write(&path, jwks(&[&known])).unwrap();
    let timing = Timing { file_poll: Duration::from_millis(10), ..idle() };
    let authenticator = start(file(), timing).await;
    for content in [Some("{"), Some(""), None] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(code(&authenticator, &token(&known)).await, None);
        assert!(authenticator.healthy());
    }
}

#[tokio::test]
async fn a_secret_file_verifies_hs256_and_is_watched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let timing = Timing { file_poll: Duration::from_millis(10), ..idle() };
    let authenticator = start(KeySource::HmacSecretFile(path.clone()), timing).await;
    let mint = |secret: &[u8]| {
        let key = SigningKey::from_file_bytes(secret).unwrap();
        key.mint(&claims(ISSUER, system_time())).unwrap()
    };
    assert_eq!(super::jwks_age(&authenticator.0.state), Duration::ZERO, "there is no JWKS");
    let old = mint(b"0123456789abcdef0123456789abcdef");
    assert_eq!(code(&authenticator, &old).await, None);
    std::fs::write(&path, [8; 40]).unwrap();
    eventually("the new secret is in force", async || code(&authenticator, &old).await.is_some())
        .await;
    assert_eq!(code(&authenticator, &mint(&[8; 40])).await, None);
}

#[tokio::test]
async fn a_remembered_token_expires_on_time() {
    let known = pair("known", 1);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&known])).unwrap();
    let clock = Arc::new(AtomicI64::new(system_time()));
    let reading = Arc::clone(&clock);
    let authenticator = Authenticator::start_with(
        settings(KeySource::JwksFile(path)),
        idle(),
        Box::new(move || reading.load(Ordering::SeqCst)),
    )
    .await
    .unwrap();
    let token = known.private.mint(&claims(ISSUER, clock.load(Ordering::SeqCst))).unwrap();
    assert_eq!(code(&authenticator, &token).await, None);
    clock.fetch_add(629, Ordering::SeqCst);
    assert_eq!(code(&authenticator, &token).await, None);
    clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(code(&authenticator, &token).await, Some(DenialCode::TokenExpired));
}

#[tokio::test]
async fn missing_and_huge_tokens_are_refused_at_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&pair("known", 1)])).unwrap();
    let authenticator = start(KeySource::JwksFile(path), idle()).await;
    assert_eq!(code(&authenticator, "").await, Some(DenialCode::TokenMissing));
    let huge = "x".repeat(16 << 20);
    assert_eq!(code(&authenticator, &huge).await, Some(DenialCode::TokenInvalid));
    assert_eq!(code(&authenticator, "a.b.c").await, Some(DenialCode::TokenInvalid));
}

#[tokio::test]
async fn a_remembered_token_is_not_verified_again() {
    let known = pair("known", 1);
    let server = Server::start(Answer::Body(jwks(&[&known]))).await;
    let authenticator = start(server.source(), idle()).await;
    let token = token(&known);
    let first = authenticator.verify(&token).await.unwrap();
    let again = authenticator.verify(&token).await.unwrap();
    assert!(std::ptr::eq(first.principal(), again.principal()));
}

#[test]
fn settings_are_checked_all_at_once() {
    let url = |text: &str| KeySource::JwksUrl(text.into());
    let mut wrong = settings(url("http://auth.example.com/"));
    wrong.verifier.issuers[0].algorithms = vec![Algorithm::Hs256];
    wrong.verifier.issuers[0].audiences.clear();
    wrong.sources.push(url("https://auth.example.com/"));
    assert_eq!(
        check_settings(&wrong).unwrap_err(),
        [
            SettingsError::Verifier(identity::SettingsError::NoAudience(0)),
            SettingsError::SourceCount { issuers: 1, sources: 2 },
            SettingsError::SecretNeeded(0),
            SettingsError::Url { index: 0, error: UrlError::Scheme },
        ]
    );
    let mut secret = settings(KeySource::HmacSecretFile("secret".into()));
    assert_eq!(check_settings(&secret), Ok(()));
    secret.verifier.issuers[0].algorithms = vec![Algorithm::Rs256];
    assert_eq!(check_settings(&secret).unwrap_err(), [SettingsError::PublicKeysNeeded(0)]);
}

#[tokio::test]
async fn nobody_is_let_in_before_redis_told_what_was_taken_back() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = TempDir::new().unwrap();
    let (file, pair) = (directory.path().join("jwks.json"), pair("one", 1));
    std::fs::write(&file, jwks(&[&pair])).unwrap();
    let mut settings = settings(KeySource::JwksFile(file));
    let start = |settings| Authenticator::start_with(settings, idle(), Box::new(system_time));
    let without = start(settings.clone()).await.unwrap();
    assert_eq!((without.healthy(), code(&without, &token(&pair)).await), (true, None));
    settings.revocation_redis = Some(Secret::new(format!("redis://{nobody}/0")));
    let with = start(settings).await.unwrap();
    assert!(!with.healthy());
    assert_eq!(code(&with, &token(&pair)).await, Some(DenialCode::RevocationsUnknown));
}
