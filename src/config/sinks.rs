//! `audit.sinks` → [`sinks::Settings`]. Layer 6.
//!
//! Secrets come from files or the environment, never from the configuration itself. What leaves this
//! machine goes over TLS, unless the operator writes `plaintext: true`.

use std::collections::HashSet;
use std::time::Duration;

use super::file::{
    KafkaSink, ObjectStoreSink, OtlpSink, PostgresSink, SaslFile, SinkEntry, StdoutSink,
};
use super::refer::Checker;
use super::upstream;
use crate::endpoint::Secret;
use crate::sinks::object_store::{Parts, Service};
use crate::sinks::{self, Kind, Settings};
use crate::yaml::read::{At, Present};
use crate::yaml::{SourcePosition, quoted};

/// When a part goes to a bucket, unless the file says otherwise.
const PART_SIZE: u64 = 8 << 20;
/// See [`PART_SIZE`].
const PART_DELAY: Duration = Duration::from_secs(300);
/// Most bytes of a part: it is held in memory.
const MAX_PART_SIZE: u64 = 256 << 20;
/// The table, unless the file says otherwise.
const TABLE: &str = "public.hedgerow_audit";

/// Checks every sink.
pub fn sinks(entries: Vec<At<SinkEntry>>, check: &mut Checker<'_>) -> Vec<Settings> {
    let mut names = HashSet::new();
    entries
        .into_iter()
        .filter_map(|At { value, at }| {
            let (name, required, kind) = match value {
                SinkEntry::Stdout(StdoutSink { name, required, r#type: _ }) => {
                    (named(name, "stdout", check), required, Some(Kind::Stdout))
                }
                SinkEntry::Otlp(sink) => {
                    (named(sink.name.clone(), "otlp", check), sink.required, otlp(sink, &at, check))
                }
                SinkEntry::Kafka(sink) => {
                    (named(sink.name.clone(), "kafka", check), sink.required, kafka(sink, check))
                }
                SinkEntry::ObjectStore(sink) => (
                    named(sink.name.clone(), "object_store", check),
                    sink.required,
                    object_store(sink, &at, check),
                ),
                SinkEntry::Postgres(sink) => {
                    (named(sink.name.clone(), "postgres", check), sink.required, table(sink, check))
                }
            };
            let (name, place) = name?;
            let place = place.unwrap_or(at);
            if !names.insert(name.clone()) {
                let message = format!(
                    "two sinks are called {}: give one of them a `name` of its own",
                    quoted(&name)
                );
                check.fault(&place, message);
            }
            Some(Settings { name, kind: kind?, required: required.unwrap_or(true) })
        })
        .collect()
}

/// The sink's name and where it stands; it becomes part of a file's name.
fn named(
    name: Option<At<String>>,
    default: &str,
    check: &mut Checker<'_>,
) -> Option<(String, Option<SourcePosition>)> {
    let Some(At { value, at }) = name else { return Some((default.to_owned(), None)) };
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if value.len() > 40 || !value.chars().all(letters) {
        let message =
            "`name` must be at most 40 lower-case letters, digits, `-` and `_`, such as `archive`";
        check.fault(&at, message);
        return None;
    }
    Some((value, Some(at)))
}

fn otlp(sink: OtlpSink, at: &SourcePosition, check: &mut Checker<'_>) -> Option<Kind> {
    let token =
        check.secret(at, "token", [("token_file", sink.token_file), ("token_env", sink.token_env)]);
    let plaintext = sink.plaintext.unwrap_or(false);
    let base = url(&sink.endpoint, "endpoint", "http://127.0.0.1:4318", plaintext, check)?;
    let base = base.trim_end_matches('/');
    let url = match base.ends_with("/v1/logs") {
        true => base.to_owned(),
        false => format!("{base}/v1/logs"),
    };
    Some(Kind::Otlp(sinks::otlp::Settings { url, token: token? }))
}

fn kafka(sink: KafkaSink, check: &mut Checker<'_>) -> Option<Kind> {
    let At { value: brokers, at } = sink.brokers.0?;
    if brokers.is_empty() {
        check.fault(&at, "`brokers` must name at least one `host:port`");
    }
    let plaintext = sink.plaintext.unwrap_or(false);
    for broker in &brokers {
        let host = broker.value.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            (port && !host.is_empty() && !broker.value.contains([',', ' ', '/'])).then_some(host)
        });
        match host {
            None => {
                let message = format!("{} is not a broker's `host:port`", quoted(&broker.value));
                check.fault(&broker.at, message);
            }
            Some(host) if !plaintext && !is_this_machine(host) => check.fault(
                &broker.at,
                "Kafka is spoken without TLS: name a broker or a tunnel on this machine, or write \
                 `plaintext: true`",
            ),
            Some(_) => {}
        }
    }
    let topic_is_a_name = !sink.topic.value.starts_with('.')
        && sink.topic.value.len() <= 249
        && sink.topic.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !topic_is_a_name {
        check.fault(&sink.topic.at, format!("{} is not a topic", quoted(&sink.topic.value)));
    }
    let sasl = match sink.sasl {
        None => None,
        Some(At { value: SaslFile { user, password_file, password_env, mechanism: _ }, at }) => {
            let broker = |broker: &At<String>| {
                broker.value.rsplit_once(':').is_some_and(|(host, _)| is_this_machine(host))
            };
            // SECURITY: `plaintext` says that records may be read on the way, not that a password may.
            if plaintext && !brokers.iter().all(broker) {
                check.fault(
                    &at,
                    "SASL PLAIN sends the password in clear: name brokers or a TLS tunnel on this machine",
                );
            }
            let sources = [("password_file", password_file), ("password_env", password_env)];
            let password = check.secret(&at, "password", sources)?;
            if password.is_none() {
                let message = "one of `password_file`, `password_env` must be given";
                check.fault(&at, message);
            }
            Some((user, password?))
        }
    };
    Some(Kind::Kafka(sinks::kafka::Settings {
        brokers: brokers.into_iter().map(|broker| broker.value).collect(),
        topic: sink.topic.value,
        sasl,
    }))
}

fn object_store(
    sink: ObjectStoreSink,
    at: &SourcePosition,
    check: &mut Checker<'_>,
) -> Option<Kind> {
    let secret = check.secret(
        at,
        "secret key",
        [("secret_key_file", sink.secret_key_file), ("secret_key_env", sink.secret_key_env)],
    );
    let plaintext = sink.plaintext.unwrap_or(false);
    let endpoint = match &sink.endpoint {
        None => None,
        Some(named) => Some(url(named, "endpoint", "https://s3.example.com", plaintext, check)?),
    };
    let service_account_file = match sink.service_account_file {
        None => None,
        Some(named) => Some(check.read(&named)?.0),
    };
    let size = sink.part_size.as_ref().map_or(PART_SIZE, |size| size.value.0);
    if let Some(given) = sink.part_size.filter(|size| size.value.0 > MAX_PART_SIZE) {
        check.fault(&given.at, "`part_size` must not be larger than `256MiB`");
    }
    let max_delay = sink.max_delay.map_or(PART_DELAY, |delay| delay.0);
    let secret = secret?;
    let wrong = "`url` must be `s3://bucket/prefix`, `gs://bucket/prefix` or \
                 `az://container/prefix`";
    let Some((scheme, rest)) = sink.url.value.split_once("://") else {
        check.fault(&sink.url.at, wrong);
        return None;
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket_is_a_name = !bucket.is_empty()
        && bucket.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let prefix = prefix.trim_matches('/');
    let prefix_is_a_path = prefix.split('/').all(|part| part != "." && part != "..");
    if !bucket_is_a_name || !prefix_is_a_path {
        check.fault(&sink.url.at, wrong);
        return None;
    }
    let mut only = |key: &str, given: bool, wanted: &str| {
        if given && scheme != wanted {
            check.fault(at, format!("`{key}` goes with `{wanted}://` only"));
        }
    };
    only("region", sink.region.is_some(), "s3");
    only("access_key_id", sink.access_key_id.is_some(), "s3");
    only("service_account_file", service_account_file.is_some(), "gs");
    only("account", sink.account.is_some(), "az");
    let service = match scheme {
        "s3" => {
            if sink.access_key_id.is_some() != secret.is_some() {
                let message = "`access_key_id` and its `secret_key_file` or `secret_key_env` belong \
                               together";
                check.fault(at, message);
            }
            Service::S3 { region: sink.region, key: sink.access_key_id.zip(secret) }
        }
        "gs" => {
            if secret.is_some() {
                check.fault(at, "`gs://` takes `service_account_file`, not a secret key");
            }
            Service::Gcs { service_account_file }
        }
        "az" => {
            let Some(account) = sink.account else {
                check.fault(at, "`az://` needs `account`: the storage account");
                return None;
            };
            Service::Azure { account, key: secret }
        }
        _ => {
            check.fault(&sink.url.at, wrong);
            return None;
        }
    };
    Some(Kind::ObjectStore(sinks::object_store::Settings {
        service,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint,
        allow_http: plaintext || sink.endpoint.is_some_and(|named| is_http(&named.value)),
        parts: Parts { size, max_delay },
    }))
}

fn table(sink: PostgresSink, check: &mut Checker<'_>) -> Option<Kind> {
    let named = sink.table.as_ref().map_or(TABLE, |table| table.value.as_str());
    let (schema, table) = named.split_once('.').unwrap_or(("public", named));
    let (schema, table) = (schema.to_owned(), table.to_owned());
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(named) = sink.table.filter(|_| !is_name(&schema) || !is_name(&table)) {
        let message = format!("{} is not `schema.table`", quoted(&named.value));
        check.fault(&named.at, message);
    }
    let At { value: server, at } = sink.server.0?;
    let host = server.host.value.clone();
    let endpoint = upstream::upstream(server, check)?;
    if endpoint.tls == crate::endpoint::TlsMode::Disable
        && !is_this_machine(&host)
        && !host.starts_with('/')
    {
        check.fault(&at, "the records would leave this machine in clear: `tls` must not be off");
    }
    let Some(database) = endpoint.database.clone() else {
        check.fault(&at, "`server` of a sink needs `database`");
        return None;
    };
    Some(Kind::Postgres(sinks::postgres::Settings { endpoint, database, schema, table }))
}

/// A URL over TLS, or to this machine, or where plain text is meant.
fn url(
    named: &At<String>,
    key: &str,
    example: &str,
    plaintext: bool,
    check: &mut Checker<'_>,
) -> Option<String> {
    let parsed = reqwest::Url::parse(&named.value).ok();
    let host = parsed.as_ref().and_then(|parsed| parsed.host_str());
    let bare = parsed.as_ref().is_some_and(|parsed| {
        parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none()
    });
    match (parsed.as_ref().map(reqwest::Url::scheme), host) {
        (Some("https"), Some(_)) if bare => {}
        (Some("http"), Some(host)) if bare && (plaintext || is_this_machine(host)) => {}
        (Some("http"), Some(_)) if bare => {
            let message = format!(
                "the records would leave this machine in clear: `{key}` must be `https://…`, or \
                 write `plaintext: true`"
            );
            check.fault(&named.at, message);
            return None;
        }
        _ => {
            check.fault(&named.at, format!("`{key}` must be a URL such as `{example}`"));
            return None;
        }
    }
    Some(named.value.clone())
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://")
}

/// Whether the host can only be this machine.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Checker<'_> {
    /// A secret from a file or the environment. `Some(None)`: none is given; `None`: a fault.
    pub(super) fn secret(
        &mut self,
        section: &SourcePosition,
        what: &str,
        sources: [(&str, Option<Present<At<String>>>); 2],
    ) -> Option<Option<Secret>> {
        if sources.iter().all(|(_, value)| value.is_none()) {
            return Some(None);
        }
        let (source, value) = self.exactly_one(section, true, sources.into_iter().collect())?;
        let value = value?;
        let text = if source.ends_with("_file") {
            self.secret_text(&value)?
        } else {
            let found = (self.environment)(&value.value);
            if found.is_none() {
                let message =
                    format!("the environment variable {} is not set", quoted(&value.value));
                self.fault(&value.at, message);
            }
            found?
        };
        if text.is_empty() || text.contains(['\0', '\n', '\r']) {
            let message =
                format!("the {what} in {} is empty or more than one line", quoted(&value.value));
            self.fault(&value.at, message);
            return None;
        }
        Some(Some(Secret::new(text)))
    }
}
