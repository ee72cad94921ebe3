//! A Kafka topic, by librdkafka. Layer 4.
//!
//! A record is a message: its value is the line as it is in the file, its key the chain, so that a
//! chain keeps its order in one partition; the headers `chain` and `sequence` tell a repeat. The
//! producer is idempotent and waits for all in-sync replicas.
//!
//! librdkafka is built without TLS here, for its TLS is OpenSSL's and Hedgerow has one TLS stack. So
//! the brokers must be on this machine (a TLS tunnel, a node's agent), or the operator says that
//! plain text is meant; a password goes to brokers on this machine alone. The configuration refuses TLS
//! and SASL mechanisms other than PLAIN by name.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::DeliveryError;
use crate::audit::Batch;
use crate::endpoint::Secret;

/// How long librdkafka itself tries to deliver a message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(30);

/// Where the topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of brokers to begin with.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// SASL PLAIN: user and password.
    pub sasl: Option<(String, Secret)>,
}

/// A topic.
pub(super) struct Topic {
    settings: Settings,
    producer: Option<FutureProducer>,
}

impl Topic {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, producer: None }
    }

    fn producer(&mut self) -> Result<FutureProducer, DeliveryError> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.settings.brokers.join(","))
            .set("client.id", "hedgerow")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", "lz4")
            .set("linger.ms", "5")
            .set("message.timeout.ms", MESSAGE_WITHIN.as_millis().to_string())
            .set("socket.timeout.ms", "10000")
            .set("message.max.bytes", "4194304");
        if let Some((user, password)) = &self.settings.sasl {
            config
                .set("security.protocol", "sasl_plaintext")
                .set("sasl.mechanism", "PLAIN")
                .set("sasl.username", user)
                .set("sasl.password", password.expose());
        }
        let producer: FutureProducer = config.create().map_err(DeliveryError::new)?;
        Ok(self.producer.insert(producer).clone())
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        let delivered = self.send(batch).await;
        if delivered.is_err()
            && let Some(producer) = self.producer.take()
        {
            // What is still queued would come behind the repeat, and an idempotent producer that gave
            // up on a message has lost its place: begin anew.
            producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        }
        delivered
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        let producer = self.producer()?;
        let mut deliveries = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            let sequence = record.sequence().to_string();
            let headers = OwnedHeaders::new()
                .insert(Header { key: "chain", value: Some(record.chain()) })
                .insert(Header { key: "sequence", value: Some(&sequence) });
            let message = FutureRecord::to(&self.settings.topic)
                .key(record.chain())
                .payload(&record.line)
                .headers(headers);
            let sent = producer.send_result(message);
            deliveries.push(sent.map_err(|(error, _)| DeliveryError::new(error))?);
        }
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(DeliveryError::new(error)),
                Err(_) => return Err(DeliveryError::plain("the producer is gone")),
            }
        }
        Ok(())
    }
}
