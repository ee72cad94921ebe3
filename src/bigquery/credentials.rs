//! Hedgerow's own access token towards Google: by a service account's key, or the metadata server.
//! Layer 5.
//!
//! A token is fetched once for all requests that wait for it, and again before it ends. Refuses a
//! `token_uri` in clear beyond this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::Credentials;
use crate::identity::{Algorithm, SigningKey};
use crate::keys::check_url;

const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
const DEFAULT_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const METADATA_HOST: &str = "metadata.google.internal";
/// How long an assertion is good, in seconds: the longest that Google takes.
const ASSERTION_SECONDS: u64 = 3600;
/// How long before its end a token is fetched anew.
const MARGIN: Duration = Duration::from_secs(120);
/// For one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer of the token's source, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The credentials cannot be used. For the operator.
#[derive(Debug, thiserror::Error)]
#[error("bigquery.credentials: {0}")]
pub struct CredentialError(pub String);

/// Where access tokens come from.
pub(super) struct TokenSource {
    kind: Kind,
    client: reqwest::Client,
    current: Mutex<Option<Token>>,
}

enum Kind {
    Account(Box<Account>),
    Metadata(String),
    None,
}

struct Account {
    email: String,
    key: SigningKey,
    token_uri: String,
}

struct Token {
    text: Arc<str>,
    fresh_until: Instant,
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

/// The secret of a service account's key file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn account_secret(path: &Path) -> Result<Vec<u8>, CredentialError> {
    Ok(key_file(path)?.private_key.into_bytes())
}

fn key_file(path: &Path) -> Result<KeyFile, CredentialError> {
    let fault = |what: &str| CredentialError(format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| fault(&error.to_string()))?;
    // The parser's own text may quote the key.
    serde_json::from_slice(&text).map_err(|_| fault("is not a service account's key file"))
}

impl TokenSource {
    /// A source for the configured credentials.
    ///
    /// # Errors
    /// [`CredentialError`]
    pub(super) fn new(
        credentials: &Credentials,
        client: reqwest::Client,
        metadata_host: Option<String>,
    ) -> Result<Self, CredentialError> {
        let kind = match credentials {
            Credentials::None => Kind::None,
            Credentials::Metadata => {
                Kind::Metadata(metadata_host.unwrap_or_else(|| METADATA_HOST.to_owned()))
            }
            Credentials::File(path) => {
                let file = key_file(path)?;
                let fault = |what: String| CredentialError(format!("{}: {what}", path.display()));
                let mut key = SigningKey::from_file_bytes(file.private_key.as_bytes())
                    .and_then(|key| key.with_algorithm(Algorithm::Rs256))
                    .map_err(|error| fault(format!("`private_key` {error}")))?;
                if let Some(id) = file.private_key_id {
                    key = key.with_kid(id);
                }
                let token_uri = file.token_uri.unwrap_or_else(|| DEFAULT_TOKEN_URI.to_owned());
                check_url(&token_uri).map_err(|error| fault(format!("`token_uri` {error}")))?;
                Kind::Account(Box::new(Account { email: file.client_email, key, token_uri }))
            }
        };
        Ok(Self { kind, client, current: Mutex::new(None) })
    }

    /// A token that is good for a while; `None` where the service wants none.
    ///
    /// # Errors
    /// A sentence for the log, without any secret.
    pub(super) async fn token(&self) -> Result<Option<Arc<str>>, String> {
        if matches!(self.kind, Kind::None) {
            return Ok(None);
        }
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| token.fresh_until > Instant::now()) {
            return Ok(Some(Arc::clone(&token.text)));
        }
        let granted = self.fetch().await?;
        let text: Arc<str> = granted.access_token.into();
        let life = Duration::from_secs(granted.expires_in);
        let margin = MARGIN.min(life / 2);
        let fresh_until = Instant::now() + life.saturating_sub(margin);
        *current = Some(Token { text: Arc::clone(&text), fresh_until });
        Ok(Some(text))
    }

    /// Forgets the token: the service refused it.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }

    async fn fetch(&self) -> Result<Granted, String> {
        let request = match &self.kind {
            Kind::None => return Err("no credentials are configured".to_owned()),
            Kind::Metadata(host) => self
                .client
                .get(format!(
                    "http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
                ))
                .query(&[("scopes", SCOPE)])
                .header("metadata-flavor", "Google"),
            Kind::Account(account) => {
                let assertion = account.assertion(now())?;
                self.client.post(&account.token_uri).form(&[
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", assertion.as_str()),
                ])
            }
        };
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut response = request.timeout(FETCH_TIMEOUT).send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err("the token's source answers too much".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(format!("the token's source answers with status {}", status.as_u16()));
        }
        serde_json::from_slice(&body).map_err(|_| "the token's source answers no token".to_owned())
    }
}

impl Account {
    fn assertion(&self, now: u64) -> Result<String, String> {
        let claims: Map<String, Value> = [
            ("iss", json!(self.email)),
            ("scope", json!(SCOPE)),
            ("aud", json!(self.token_uri)),
            ("iat", json!(now)),
            ("exp", json!(now + ASSERTION_SECONDS)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        self.key.mint(&claims).map_err(|error| error.to_string())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::extract::State;
    use axum::http::{HeaderMap, Uri};

    use super::*;

    /// A source of tokens that counts, and remembers what it was asked last.
    #[derive(Clone, Default)]
    struct Source(Arc<AtomicU32>, Arc<std::sync::Mutex<String>>);

    async fn grant(
        State(Source(count, last)): State<Source>,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> String {
        let number = count.fetch_add(1, Ordering::SeqCst);
        *last.lock().unwrap() = format!("{uri} {headers:?} {body}");
        json!({"access_token": format!("token-{number}"), "expires_in": 3600}).to_string()
    }

    async fn source() -> (Source, String) {
        let source = Source::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = axum::Router::new().fallback(grant).with_state(source.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (source, address)
    }

    fn client() -> reqwest::Client {
        super::super::upstream::client(true).unwrap()
    }

    #[tokio::test]
    async fn a_service_account_signs_for_a_token_which_is_kept_until_it_is_refused() {
        let (source, address) = source().await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sa.json");
        let key = include_str!("../../tests/data/identity/rsa-pkcs8.pem");
        let file = json!({
            "type": "service_account", "client_email": "sa@p.example", "private_key": key,
            "private_key_id": "k1", "token_uri": format!("http://{address}/token"),
        });
        std::fs::write(&path, file.to_string()).unwrap();
        let tokens = TokenSource::new(&Credentials::File(path.clone()), client(), None).unwrap();
        assert_eq!(tokens.token().await.unwrap().as_deref(), Some("token-0"));
        assert_eq!(tokens.token().await.unwrap().as_deref(), Some("token-0"));
        let asked = source.1.lock().unwrap().clone();
        assert!(asked.contains("jwt-bearer") && asked.contains("assertion=ey"), "{asked}");
        tokens.forget().await;
        assert_eq!(tokens.token().await.unwrap().as_deref(), Some("token-1"));
        assert_eq!(account_secret(&path).unwrap(), key.as_bytes());
        let odd =
            file.to_string().replace(&format!("http://{address}"), "http://elsewhere.example");
        std::fs::write(&path, odd).unwrap();
        let refused = TokenSource::new(&Credentials::File(path.clone()), client(), None);
        assert!(refused.is_err(), "a token would travel in clear");
        std::fs::write(&path, "{\"private_key\": \"hidden\"").unwrap();
        let error = account_secret(&path).unwrap_err().to_string();
        assert!(!error.contains("hidden"), "{error}");
    }

    #[tokio::test]
    async fn the_metadata_server_is_asked_in_its_own_way() {
        let (source, address) = source().await;
        let tokens = TokenSource::new(&Credentials::Metadata, client(), Some(address)).unwrap();
        assert_eq!(tokens.token().await.unwrap().as_deref(), Some("token-0"));
        let asked = source.1.lock().unwrap().clone();
        assert!(asked.contains("/default/token") && asked.contains("\"Google\""), "{asked}");
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_reached_is_told_without_secrets() {
        let tokens = TokenSource::new(&Credentials::Metadata, client(), Some("127.0.0.1:1".into()));
        assert!(tokens.unwrap().token().await.is_err());
        let tokens = TokenSource::new(&Credentials::None, client(), None).unwrap();
        assert_eq!(tokens.token().await.unwrap(), None);
    }
}
