//! A bucket of S3, Google Cloud Storage or Azure. Layer 4.
//!
//! A segment goes there in parts, cut between records: `<prefix>/<chain>/<segment>-<first sequence>.jsonl`.
//! The parts of a segment, one behind the other, are the segment byte for byte, and
//! `hedgerow audit verify` checks them as such.
//!
//! A part is written once. Where it ends is on disk here before it is begun, so that a repeat after a
//! crash has the same name and the same bytes; an object of that name that holds something else is an
//! error and stays as it is. So the bucket may lock objects by default, and nothing is ever overwritten.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{
    Attribute, Attributes, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, RetryConfig,
};

use super::DeliveryError;
use crate::audit::Batch;
use crate::endpoint::Secret;

/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// When a part is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// When it has this many bytes.
    pub size: u64,
    /// When its first record is this old; and when its segment is closed.
    pub max_delay: Duration,
}

impl Parts {
    /// Whether these records are to be written now.
    pub(super) fn is_due(&self, batch: &Batch, stopping: bool) -> bool {
        let bytes: u64 = batch.records.iter().map(|record| record.line.len() as u64 + 1).sum();
        let closed = batch.records.last().is_some_and(|record| record.kind() == "checkpoint");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = batch.records.first().map_or(0, crate::audit::Record::milliseconds);
        let age = now.saturating_sub(Duration::from_millis(first));
        stopping || closed || bytes >= self.size || age >= self.max_delay
    }
}

/// Which service, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// S3. Without a key: the environment's (`AWS_…`), the pod's or the machine's identity.
    S3 {
        /// Region; without it `AWS_REGION`, else us-east-1.
        region: Option<String>,
        /// Access key id and secret.
        key: Option<(String, Secret)>,
    },
    /// Google Cloud Storage. Without a file: the environment's or the machine's identity.
    Gcs {
        /// A service account's key file.
        service_account_file: Option<std::path::PathBuf>,
    },
    /// Azure Blob Storage. Without a key: the environment's (`AZURE_…`) or the machine's identity.
    Azure {
        /// The storage account.
        account: String,
        /// Its access key.
        key: Option<Secret>,
    },
}

/// Where the bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which service.
    pub service: Service,
    /// Bucket, or container.
    pub bucket: String,
    /// What every name begins with; may be empty.
    pub prefix: String,
    /// Another address than the service's own.
    pub endpoint: Option<String>,
    /// Whether plain HTTP is meant.
    pub allow_http: bool,
    /// When a part is written.
    pub parts: Parts,
}

/// A bucket.
pub(super) struct Bucket {
    settings: Settings,
    store: Option<Box<dyn ObjectStore>>,
}

impl Bucket {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, store: None }
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.settings.parts
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        if self.store.is_none() {
            self.store = Some(open(&self.settings).map_err(DeliveryError::new)?);
        }
        let (Some(store), Some(first)) = (&self.store, batch.records.first()) else {
            return Err(DeliveryError::plain("no store, or no record"));
        };
        let name = format!(
            "{}/{}/{:010}-{:012}.jsonl",
            self.settings.prefix,
            batch.end.chain,
            batch.end.segment,
            first.sequence()
        );
        let path = ObjectPath::from(name);
        let mut text = Vec::new();
        for record in &batch.records {
            text.extend_from_slice(record.line.as_bytes());
            text.push(b'\n');
        }
        let text = bytes::Bytes::from(text);
        let put = |mode: PutMode| {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::ContentType, "application/x-ndjson".into());
            let options = PutOptions { mode, attributes, ..PutOptions::default() };
            store.put_opts(&path, text.clone().into(), options)
        };
        let done = match put(PutMode::Create).await {
            // A service that cannot say "only if it is not there yet": the bytes would be the same.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                put(PutMode::Overwrite).await
            }
            other => other,
        };
        match done {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => {
                let there = store.get(&path).await.map_err(DeliveryError::new)?;
                if there.bytes().await.map_err(DeliveryError::new)? == text {
                    Ok(())
                } else {
                    Err(DeliveryError(format!(
                        "the object {path} is there and holds something else"
                    )))
                }
            }
            Err(error) => Err(DeliveryError::new(error)),
        }
    }
}

fn open(settings: &Settings) -> object_store::Result<Box<dyn ObjectStore>> {
    let client = ClientOptions::new()
        .with_timeout(ANSWER_WITHIN)
        .with_connect_timeout(CONNECT_WITHIN)
        .with_allow_http(settings.allow_http);
    // Trying again is the carrier's business, which tells and counts it.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    Ok(match &settings.service {
        Service::S3 { region, key } => {
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(&settings.bucket)
                .with_client_options(client)
                .with_retry(retry);
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            if let Some((id, secret)) = key {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
            }
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint).with_allow_http(settings.allow_http);
            }
            Box::new(builder.build()?)
        }
        Service::Gcs { service_account_file } => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(&settings.bucket)
                .with_client_options(client)
                .with_retry(retry);
            if let Some(file) = service_account_file {
                builder = builder.with_service_account_path(file.to_string_lossy());
            }
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            Box::new(builder.build()?)
        }
        Service::Azure { account, key } => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_account(account)
                .with_container_name(&settings.bucket)
                .with_client_options(client)
                .with_retry(retry);
            if let Some(key) = key {
                builder = builder.with_access_key(key.expose());
            }
            if let Some(endpoint) = &settings.endpoint {
                builder =
                    builder.with_endpoint(endpoint.clone()).with_allow_http(settings.allow_http);
            }
            Box::new(builder.build()?)
        }
    })
}
