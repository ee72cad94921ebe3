//! What `hedgerow.yaml` may say: its sections, as the operator writes them. Layer 6.
//!
//! These types give the reader and `hedgerow.schema.json`; [`super::validate`] gives them meaning.

use schemars::JsonSchema;

use crate::yaml::read::{
    At, ClaimPathText, DurationText, Entries, FromNode, Present, SizeText, expected,
};
use crate::yaml::{Fault, Node, Value};
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
        /// Redis with revocations.
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

section! {
    /// TLS towards the upstream.
    pub struct UpstreamTlsFile {
        /// How far it goes.
        pub mode: At<TlsModeWord>,
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
        /// Project of requests that name none.
        pub default_project: Option<String>,
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

/// A sink beside the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum SinkEntry {
    /// Standard output, one record a line.
    Stdout,
}

impl FromNode for SinkEntry {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let word = match &node.value {
            Value::Text(word) => Some(word.as_str()),
            Value::Map(entries) => entries.first().map(|(key, _)| key.text.as_str()),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_) => None,
        };
        match (word, &node.value) {
            (Some("stdout"), Value::Text(_)) => Some(Self::Stdout),
            (Some(word @ ("otlp" | "kafka" | "object_store")), _) => {
                let message = format!("`{}`: the sink `{word}` is not built yet", node.path);
                faults.push(Fault::new(&node.at, message));
                None
            }
            _ => expected(node, "`stdout`", faults),
        }
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
