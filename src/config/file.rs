//! What `hedgerow.yaml` may say: its sections, as the operator writes them. Layer 6.
//!
//! These types give the reader and `hedgerow.schema.json`; [`super::validate`] gives them meaning.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::yaml::read::{
    At, ClaimPathText, DurationText, Entries, FromNode, Present, SizeText, expected,
};
use crate::yaml::{Fault, Key, Node, Value};
use crate::{choice, section};

section! {
    /// Hedgerow's configuration. `postgres` and `bigquery` are each optional; one must be there.
    pub struct ConfigFile {
        /// Who may call, and how tokens are verified.
        pub identity: Present<IdentityFile>,
        /// The PostgreSQL side.
        pub postgres: Option<Present<At<PostgresFile>>>,
        /// The BigQuery side.
        pub bigquery: Option<Present<BigQueryFile>>,
        /// Directory of the policies: every `*.yaml` below it.
        pub policies: Present<At<String>>,
        /// The audit trail.
        pub audit: Present<AuditFile>,
        /// Quotas that several sidecars share.
        pub quota: Option<QuotaFile>,
        /// Health and metrics; without it none are served.
        pub admin: Option<AdminFile>,
        /// Hedgerow's own log, on standard error.
        pub log: Option<LogFile>,
        /// How long transactions may go on after SIGTERM; default 25s.
        pub drain_timeout: Option<DurationText>,
    }
}

section! {
    /// Who may call, and how tokens are verified.
    pub struct IdentityFile {
        /// Path of the claim that names the tenant.
        pub tenant_claim: Present<ClaimPathText>,
        /// How far clocks may differ, for `exp`, `nbf` and `iat`; default 30s, at most 10m.
        pub leeway: Option<At<DurationText>>,
        /// Longest lifetime of a token; default 24h.
        pub max_lifetime: Option<At<DurationText>>,
        /// Who issues tokens.
        pub issuers: Present<At<Vec<At<IssuerFile>>>>,
        /// Tokens that were taken back.
        pub revocation: Option<At<RevocationFile>>,
    }
}

choice! {
    /// A signing algorithm.
    pub enum AlgorithmWord {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// EdDSA on Ed25519.
        EdDsa = "EdDSA",
        /// HMAC with SHA-256: a shared secret.
        Hs256 = "HS256",
    }
}

section! {
    /// An issuer and where its keys are: one of `jwks_url`, `jwks_file`, `hmac_secret_file`.
    pub struct IssuerFile {
        /// The exact `iss` of its tokens.
        pub issuer: At<String>,
        /// The `aud` of a token must hold one of these.
        pub audiences: Present<At<Vec<At<String>>>>,
        /// What the issuer signs with; never taken from the token's header.
        pub algorithms: Present<At<Vec<At<AlgorithmWord>>>>,
        /// URL of its key set.
        pub jwks_url: Option<Present<At<String>>>,
        /// File of its key set.
        pub jwks_file: Option<Present<At<String>>>,
        /// File of the shared secret of HS256: at least 32 bytes; one trailing newline is left off.
        pub hmac_secret_file: Option<Present<At<String>>>,
    }
}

section! {
    /// Tokens that were taken back.
    pub struct RevocationFile {
        /// File of revocations, one JSON object a line.
        pub file: Option<At<String>>,
        /// Redis with revocations: the set `hedgerow:revoked`, whose members are lines of such a file.
        pub redis: Option<At<String>>,
    }
}

section! {
    /// The PostgreSQL side.
    pub struct PostgresFile {
        /// Address and port for clients.
        pub listen: Option<Present<At<String>>>,
        /// Directory of a Unix socket for clients.
        pub unix_socket: Option<Present<At<String>>>,
        /// TLS towards clients; required unless `listen` is a loopback address.
        pub tls: Option<Present<ServerTlsFile>>,
        /// How clients hand over their token; default `password`.
        pub authentication: Option<At<AuthenticationWord>>,
        /// The same by user name.
        pub authentication_by_user: Option<Entries<At<AuthenticationWord>>>,
        /// The server behind Hedgerow.
        pub upstream: Present<UpstreamFile>,
        /// Connections to the upstream.
        pub pool: Option<PoolFile>,
        /// Upstream settings that carry claims, for row-level security: setting to claim path.
        pub session_variables: Option<Entries<ClaimPathText>>,
        /// Bounds on clients and statements.
        pub limits: Option<LimitsFile>,
        /// Refuse to start when a protected table lacks forced row-level security.
        pub require_rls: Option<bool>,
        /// How long transactions may go on after SIGTERM; default that of the file.
        pub drain_timeout: Option<DurationText>,
    }
}

choice! {
    /// How a client hands over its token.
    pub enum AuthenticationWord {
        /// As the password.
        Password = "password",
        /// By SASL OAUTHBEARER.
        OAuthBearer = "oauthbearer",
    }
}

section! {
    /// TLS towards clients.
    pub struct ServerTlsFile {
        /// Certificate chain in PEM.
        pub cert_file: At<String>,
        /// Private key in PEM.
        pub key_file: At<String>,
    }
}

section! {
    /// The PostgreSQL server behind Hedgerow.
    pub struct UpstreamFile {
        /// Host name, address, or directory of a Unix socket (begins with `/`).
        pub host: At<String>,
        /// Port; default 5432.
        pub port: Option<u16>,
        /// Database; default the client's.
        pub database: Option<String>,
        /// Role.
        pub user: String,
        /// File with the role's password; one trailing newline is left off.
        pub password_file: Option<Present<At<String>>>,
        /// Environment variable with the role's password.
        pub password_env: Option<Present<At<String>>>,
        /// TLS; default `disable` on this machine, else `verify-full`.
        pub tls: Option<Present<UpstreamTlsFile>>,
    }
}

choice! {
    /// How far TLS towards the upstream goes.
    pub enum TlsModeWord {
        /// No TLS.
        Disable = "disable",
        /// TLS, certificate not verified.
        Require = "require",
        /// TLS, certificate of a trusted authority.
        VerifyCa = "verify-ca",
        /// TLS, certificate of a trusted authority for this host name.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// Whether a password's proof is bound to the server's certificate (SCRAM-SHA-256-PLUS).
    pub enum BindingWord {
        /// Never.
        Disable = "disable",
        /// Where the server offers it.
        Prefer = "prefer",
        /// Always: a server that signs in otherwise is refused.
        Require = "require",
    }
}

section! {
    /// TLS towards the upstream.
    pub struct UpstreamTlsFile {
        /// How far it goes.
        pub mode: At<TlsModeWord>,
        /// Channel binding; default `prefer`.
        pub channel_binding: Option<At<BindingWord>>,
        /// Trusted authorities in PEM; default the system's.
        pub ca_file: Option<At<String>>,
        /// Client certificate in PEM.
        pub cert_file: Option<Present<At<String>>>,
        /// Key of the client certificate in PEM.
        pub key_file: Option<Present<At<String>>>,
    }
}

choice! {
    /// When a client gives its upstream connection back.
    pub enum PoolModeWord {
        /// After each transaction.
        Transaction = "transaction",
        /// At the end of the session.
        Session = "session",
    }
}

section! {
    /// Connections to the upstream.
    pub struct PoolFile {
        /// When a client gives its connection back; default `transaction`.
        pub mode: Option<At<PoolModeWord>>,
        /// Most connections, per database; default 20.
        pub max_connections: Option<u32>,
        /// How long an idle one is kept; default 5m.
        pub idle_timeout: Option<DurationText>,
    }
}

section! {
    /// Quotas that several sidecars share.
    pub struct QuotaFile {
        /// Redis through which they tell each other what they let through.
        pub redis: At<String>,
    }
}

section! {
    /// Bounds on clients and statements.
    pub struct LimitsFile {
        /// Most clients at once; default 1000.
        pub max_clients: Option<u32>,
        /// Longest statement; default 1MiB.
        pub max_statement: Option<SizeText>,
        /// Longest run of a statement; default `0s`: without a bound.
        pub statement_timeout: Option<DurationText>,
        /// How long a transaction may idle; default 5m, `0s`: without a bound.
        pub idle_in_transaction_timeout: Option<DurationText>,
        /// How long a client may take none of what it is sent; default 5m, `0s`: without a bound.
        pub slow_client_timeout: Option<DurationText>,
        /// How long a client may take to sign in; default 30s.
        pub startup_timeout: Option<At<DurationText>>,
        /// Most bytes of long messages held at a time, of all clients together; default 256MiB.
        pub max_buffered: Option<SizeText>,
    }
}

section! {
    /// The BigQuery side.
    pub struct BigQueryFile {
        /// Address and port for clients.
        pub listen: At<String>,
        /// TLS towards clients; required unless `listen` is a loopback address.
        pub tls: Option<Present<ServerTlsFile>>,
        /// The service; default `https://bigquery.googleapis.com`.
        pub upstream: Option<At<String>>,
        /// Hedgerow's own credentials: one of `file`, `metadata`, `none`.
        pub credentials: At<CredentialsFile>,
        /// Project that tenants use beside those that the policies name.
        pub default_project: Option<At<String>>,
        /// File of the key that binds job ids to tenants, made if absent; default: see docs/bigquery.md.
        pub ownership_key_file: Option<At<String>>,
        /// Whether the service must read, by a dry run, the tables that the decision saw before a text runs;
        /// default `false`.
        pub compare_dry_runs: Option<bool>,
        /// How long requests may go on after SIGTERM; default that of the file.
        pub drain_timeout: Option<DurationText>,
    }
}

section! {
    /// Hedgerow's own credentials towards BigQuery.
    pub struct CredentialsFile {
        /// A service account's key.
        pub file: Option<Present<At<String>>>,
        /// The metadata server's.
        pub metadata: Option<Present<At<bool>>>,
        /// None at all, for stand-ins.
        pub none: Option<Present<At<bool>>>,
    }
}

choice! {
    /// When audit records must be on disk.
    pub enum AuditModeWord {
        /// Denials before the answer, allowed statements within 10 ms.
        Balanced = "balanced",
        /// Every record before the answer.
        Strict = "strict",
    }
}

section! {
    /// The audit trail.
    pub struct AuditFile {
        /// Directory of the segments; made if absent.
        pub directory: At<String>,
        /// When records must be on disk; default `balanced`.
        pub mode: Option<AuditModeWord>,
        /// Ed25519 private key in PEM; without it one is made beside the directory.
        pub signing_key_file: Option<At<String>>,
        /// When a segment is closed.
        pub segment: Option<SegmentFile>,
        /// How long closed segments are kept; default 90d, `0`: for ever.
        pub retention: Option<DurationText>,
        /// The oldest closed segments are deleted when all together are larger than this; default:
        /// without a bound.
        pub max_total_size: Option<At<SizeText>>,
        /// Whether who is calling (subject, user, address, token id) is written sealed under a key of
        /// its tenant, which `hedgerow audit erase` destroys; default false.
        pub seal_personal: Option<bool>,
        /// 32 random bytes as base64, under which tenants' keys are kept; without it one is made beside
        /// the directory.
        pub personal_key_file: Option<At<String>>,
        /// Where records go beside the files.
        pub sinks: Option<Vec<At<SinkEntry>>>,
    }
}

section! {
    /// When a segment is closed.
    pub struct SegmentFile {
        /// When it is larger than this; default 64MiB.
        pub max_size: Option<SizeText>,
        /// When it is older than this; default 1h.
        pub max_age: Option<At<DurationText>>,
    }
}

/// A sink beside the files: the word `stdout`, or a map whose `type` says what it is.
#[derive(Clone, Debug)]
pub enum SinkEntry {
    /// Standard output, one record a line.
    Stdout(StdoutSink),
    /// OTLP logs over HTTP.
    Otlp(OtlpSink),
    /// A Kafka topic.
    Kafka(KafkaSink),
    /// A bucket.
    ObjectStore(ObjectStoreSink),
    /// A PostgreSQL table.
    Postgres(PostgresSink),
}

/// The types of sinks.
const SINK_TYPES: &str = "`stdout`, `otlp`, `kafka`, `object_store` or `postgres`";

impl FromNode for SinkEntry {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let entries = match &node.value {
            Value::Text(word) if word == "stdout" => {
                let r#type = StdoutWord::Stdout;
                return Some(Self::Stdout(StdoutSink { r#type, name: None, required: None }));
            }
            Value::Text(word) if SINK_TYPES.contains(&format!("`{word}`")) => {
                let what = format!("a map such as `{{type: {word}, …}}`");
                return expected(node, &what, faults);
            }
            Value::Map(entries) => entries,
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_) => {
                return expected(node, "`stdout`, or a map with the key `type`", faults);
            }
        };
        let Some((_, named)) = entries.iter().find(|(key, _)| key.text == "type") else {
            let message = format!("`{}` lacks the key `type`: {SINK_TYPES}", node.path);
            faults.push(Fault::new(&node.at, message));
            return None;
        };
        match &named.value {
            Value::Text(word) => match word.as_str() {
                "stdout" => StdoutSink::from_node(node, faults).map(Self::Stdout),
                "otlp" => OtlpSink::from_node(node, faults).map(Self::Otlp),
                "kafka" => {
                    let left = without_tls(node, entries, faults);
                    KafkaSink::from_node(&left, faults).map(Self::Kafka)
                }
                "object_store" => ObjectStoreSink::from_node(node, faults).map(Self::ObjectStore),
                "postgres" => PostgresSink::from_node(node, faults).map(Self::Postgres),
                _ => expected(named, SINK_TYPES, faults),
            },
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_)
            | Value::Map(_) => expected(named, SINK_TYPES, faults),
        }
    }
}

/// A Kafka sink without the keys that ask for TLS, each of which is a fault that says why.
fn without_tls(node: &Node, entries: &[(Key, Node)], faults: &mut Vec<Fault>) -> Node {
    const WORDS: [&str; 5] = ["tls", "ssl", "security_protocol", "ca_file", "client_certificate"];
    let (asking, left): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|(key, _)| WORDS.contains(&key.text.as_str()));
    faults.extend(asking.iter().map(|(key, _)| {
        let message = format!(
            "`{}.{}`: Kafka is spoken without TLS, for librdkafka's is OpenSSL's: name a TLS tunnel on \
             this machine in `brokers`",
            node.path, key.text
        );
        Fault::new(&key.at, message)
    }));
    Node { value: Value::Map(left), ..node.clone() }
}

impl JsonSchema for SinkEntry {
    fn schema_name() -> Cow<'static, str> {
        "SinkEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = [
            generator.subschema_for::<StdoutWord>(),
            generator.subschema_for::<StdoutSink>(),
            generator.subschema_for::<OtlpSink>(),
            generator.subschema_for::<KafkaSink>(),
            generator.subschema_for::<ObjectStoreSink>(),
            generator.subschema_for::<PostgresSink>(),
        ];
        json_schema!({
            "description": "A sink beside the files.",
            "anyOf": kinds,
        })
    }
}

choice! {
    /// The type of a sink.
    pub enum StdoutWord {
        /// Standard output, one record a line.
        Stdout = "stdout",
    }
}

choice! {
    /// The type of a sink.
    pub enum OtlpWord {
        /// OTLP logs over HTTP.
        Otlp = "otlp",
    }
}

choice! {
    /// The type of a sink.
    pub enum KafkaWord {
        /// A Kafka topic.
        Kafka = "kafka",
    }
}

choice! {
    /// The type of a sink.
    pub enum ObjectStoreWord {
        /// A bucket.
        ObjectStore = "object_store",
    }
}

choice! {
    /// The type of a sink.
    pub enum PostgresWord {
        /// A PostgreSQL table.
        Postgres = "postgres",
    }
}

section! {
    /// Standard output, one record a line; Hedgerow's own log goes to standard error.
    pub struct StdoutSink {
        /// `stdout`
        pub r#type: StdoutWord,
        /// Its name in metrics and of its cursor file; default its type.
        pub name: Option<At<String>>,
        /// Whether readiness turns false when it is stuck; default true.
        pub required: Option<bool>,
    }
}

section! {
    /// OTLP logs over HTTP, encoded as JSON.
    pub struct OtlpSink {
        /// `otlp`
        pub r#type: OtlpWord,
        /// Its name in metrics and of its cursor file; default its type.
        pub name: Option<At<String>>,
        /// Whether readiness turns false when it is stuck; default true.
        pub required: Option<bool>,
        /// The collector's URL; `/v1/logs` is added where it is missing.
        pub endpoint: At<String>,
        /// File with a bearer token; one trailing newline is left off.
        pub token_file: Option<Present<At<String>>>,
        /// Environment variable with a bearer token.
        pub token_env: Option<Present<At<String>>>,
        /// Whether plain HTTP to another machine is meant; default false.
        pub plaintext: Option<bool>,
    }
}

section! {
    /// A Kafka topic. A message's key is the chain, its headers `chain` and `sequence` tell a repeat.
    pub struct KafkaSink {
        /// `kafka`
        pub r#type: KafkaWord,
        /// Its name in metrics and of its cursor file; default its type.
        pub name: Option<At<String>>,
        /// Whether readiness turns false when it is stuck; default true.
        pub required: Option<bool>,
        /// `host:port` of brokers to begin with.
        pub brokers: Present<At<Vec<At<String>>>>,
        /// The topic.
        pub topic: At<String>,
        /// SASL PLAIN.
        pub sasl: Option<At<SaslFile>>,
        /// Whether brokers on other machines, without TLS, are meant; default false.
        pub plaintext: Option<bool>,
    }
}

choice! {
    /// How a user proves to be one to Kafka. SCRAM, OAUTHBEARER and GSSAPI are not built in.
    pub enum SaslWord {
        /// User and password in clear.
        Plain = "PLAIN",
    }
}

section! {
    /// SASL PLAIN: user and password. To brokers on this machine alone, for they go in clear.
    pub struct SaslFile {
        /// `PLAIN`, which it is without this key too.
        pub mechanism: Option<SaslWord>,
        /// The user.
        pub user: String,
        /// File with the password; one trailing newline is left off.
        pub password_file: Option<Present<At<String>>>,
        /// Environment variable with the password.
        pub password_env: Option<Present<At<String>>>,
    }
}

section! {
    /// A bucket. A segment goes there in parts: `<prefix>/<chain>/<segment>-<first sequence>.jsonl`.
    pub struct ObjectStoreSink {
        /// `object_store`
        pub r#type: ObjectStoreWord,
        /// Its name in metrics and of its cursor file; default its type.
        pub name: Option<At<String>>,
        /// Whether readiness turns false when it is stuck; default true.
        pub required: Option<bool>,
        /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
        pub url: At<String>,
        /// Another address than the service's own.
        pub endpoint: Option<At<String>>,
        /// S3: the region.
        pub region: Option<String>,
        /// S3: the access key's id; without it the environment's, the pod's or the machine's identity.
        pub access_key_id: Option<String>,
        /// S3, Azure: file with the secret key; one trailing newline is left off.
        pub secret_key_file: Option<Present<At<String>>>,
        /// S3, Azure: environment variable with the secret key.
        pub secret_key_env: Option<Present<At<String>>>,
        /// Google: a service account's key file.
        pub service_account_file: Option<At<String>>,
        /// Azure: the storage account.
        pub account: Option<String>,
        /// A part is written when it is this large; default 8MiB.
        pub part_size: Option<At<SizeText>>,
        /// And when its first record is this old; default 5m.
        pub max_delay: Option<DurationText>,
        /// Whether plain HTTP to another machine is meant; default false.
        pub plaintext: Option<bool>,
    }
}

section! {
    /// A PostgreSQL table, one row a record; chain and sequence are its primary key.
    pub struct PostgresSink {
        /// `postgres`
        pub r#type: PostgresWord,
        /// Its name in metrics and of its cursor file; default its type.
        pub name: Option<At<String>>,
        /// Whether readiness turns false when it is stuck; default true.
        pub required: Option<bool>,
        /// The server; `database` must be there.
        pub server: Present<At<UpstreamFile>>,
        /// The table, made if absent; default `public.hedgerow_audit`.
        pub table: Option<At<String>>,
    }
}

section! {
    /// Health and metrics.
    pub struct AdminFile {
        /// Address and port.
        pub listen: At<String>,
    }
}

choice! {
    /// How log lines look.
    pub enum LogFormatWord {
        /// One JSON object a line.
        Json = "json",
        /// Text.
        Text = "text",
    }
}

choice! {
    /// The least severe log line that is written.
    pub enum LogLevelWord {
        /// Errors.
        Error = "error",
        /// And warnings.
        Warn = "warn",
        /// And what an operator wants to know.
        Info = "info",
        /// And what a developer wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

section! {
    /// Hedgerow's own log.
    pub struct LogFile {
        /// How lines look; default `json`.
        pub format: Option<LogFormatWord>,
        /// The least severe line; default `info`.
        pub level: Option<LogLevelWord>,
    }
}
