//! A stand-in for Google Cloud Storage's XML API, after its documents ("PUT Object", "GET Object",
//! `x-goog-if-generation-match`). No emulator of the package registries takes the plain PUT of an object
//! with a precondition, which is what the sink sends; so this is ours, and Google's own servers were never
//! asked. It lets nobody in whose token the service account's key did not sign, and fails when told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::support::process;

/// Who writes.
const ACCOUNT: &str = "writer@acme.iam.gserviceaccount.com";

/// What the server knows.
struct Known {
    bucket: String,
    public_key: Vec<u8>,
    /// Content and generation of each object.
    objects: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    failing: AtomicBool,
    asked: AtomicU32,
    refused: AtomicU32,
}

/// A running stand-in with one bucket.
pub struct Google {
    pub endpoint: String,
    known: Arc<Known>,
    keys: tempfile::TempDir,
}

impl Google {
    /// Starts it on the present runtime.
    pub async fn start(bucket: &str) -> Self {
        let keys = tempfile::Builder::new().prefix("hedgerow-google-").tempdir().unwrap();
        let (private, public) = (keys.path().join("key.pem"), keys.path().join("public.der"));
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            process::succeed(command.args(arguments), std::time::Duration::from_secs(30))
        };
        let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
        let bits = "rsa_keygen_bits:2048";
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", bits, "-out", private]);
        openssl(&["rsa", "-in", private, "-RSAPublicKey_out", "-outform", "DER", "-out", public]);
        let account = serde_json::json!({
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key_id": "1",
            "private_key": std::fs::read_to_string(private).unwrap(),
        });
        std::fs::write(keys.path().join("account.json"), account.to_string()).unwrap();
        let known = Arc::new(Known {
            bucket: bucket.to_owned(),
            public_key: std::fs::read(public).unwrap(),
            objects: Mutex::default(),
            failing: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        });
        let router = Router::new()
            .route("/{bucket}/{*object}", put(put_object).get(get_object))
            .with_state(known.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, known, keys }
    }

    /// The key file of who may write.
    pub fn service_account(&self) -> PathBuf {
        self.keys.path().join("account.json")
    }

    /// From now on it fails every second request, or none.
    pub fn fail(&self, failing: bool) {
        self.known.failing.store(failing, Ordering::SeqCst);
    }

    /// Requests that it failed.
    pub fn refused(&self) -> u32 {
        self.known.refused.load(Ordering::SeqCst)
    }

    /// Puts an object there.
    pub fn put(&self, name: &str, text: &str) {
        self.known.objects.lock().unwrap().insert(name.to_owned(), (text.into(), 1));
    }

    /// Every object, by name.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let objects = self.known.objects.lock().unwrap();
        objects.iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect()
    }
}

impl Known {
    /// Lets a request in, or says why not.
    fn admit(&self, bucket: &str, head: &HeaderMap) -> Result<(), StatusCode> {
        let bearer = head.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.is_good(token)) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        if bucket != self.bucket {
            return Err(StatusCode::NOT_FOUND);
        }
        // Google asks to try again on 503.
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        if asked.is_multiple_of(2) && self.failing.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(())
    }

    /// Whether the account's own key signed the token, for now and for storage.
    fn is_good(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        let claims =
            signed.split_once('.').and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: serde_json::Value =
            serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        key.verify(signed.as_bytes(), &signature).is_ok()
            && claims["iss"] == ACCOUNT
            && claims["scope"].as_str().is_some_and(|scope| scope.contains("cloud-platform"))
            && claims["exp"].as_i64().is_some_and(|end| end > jiff::Timestamp::now().as_second())
    }
}

/// The headers of an object.
fn of_object(bytes: &[u8], generation: u64) -> [(HeaderName, String); 3] {
    let tag = ring::digest::digest(&ring::digest::SHA256, bytes);
    let tag: String = tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let modified = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    [
        (header::ETAG, format!("\"{tag}\"")),
        (header::LAST_MODIFIED, modified),
        (HeaderName::from_static("x-goog-generation"), generation.to_string()),
    ]
}

async fn put_object(
    State(known): State<Arc<Known>>,
    Path((bucket, object)): Path<(String, String)>,
    head: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(status) = known.admit(&bucket, &head) {
        return status.into_response();
    }
    let mut objects = known.objects.lock().unwrap();
    let present = objects.get(&object).map_or(0, |(_, generation)| *generation);
    if let Some(wanted) = head.get("x-goog-if-generation-match")
        && wanted.to_str().ok() != Some(&present.to_string())
    {
        let text =
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>PreconditionFailed</Code></Error>";
        return (StatusCode::PRECONDITION_FAILED, text).into_response();
    }
    let generation = present + 1;
    let headers = of_object(&body, generation);
    objects.insert(object, (body.to_vec(), generation));
    (StatusCode::OK, headers).into_response()
}

async fn get_object(
    State(known): State<Arc<Known>>,
    Path((bucket, object)): Path<(String, String)>,
    head: HeaderMap,
) -> Response {
    if let Err(status) = known.admit(&bucket, &head) {
        return status.into_response();
    }
    let objects = known.objects.lock().unwrap();
    match objects.get(&object) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((bytes, generation)) => {
            (StatusCode::OK, of_object(bytes, *generation), bytes.clone()).into_response()
        }
    }
}
