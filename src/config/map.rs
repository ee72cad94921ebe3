//! [`Config`] → the settings of the layers below. Layer 6.
//!
//! Nothing is checked here: what [`super::load`] let through is valid.

use super::{
    AlgorithmWord, AuditModeWord, AuthenticationWord, Config, Credentials, Issuer, KeySource,
    PoolModeWord,
};
use crate::identity::{Algorithm, IssuerSettings, VerifierSettings};
use crate::{admin, audit, bigquery, keys, postgres};

impl Config {
    /// Who may call.
    pub fn keys_settings(&self) -> keys::Settings {
        let issuer = |issuer: &Issuer| IssuerSettings {
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms.iter().copied().map(Algorithm::from).collect(),
        };
        let source = |issuer: &Issuer| match &issuer.keys {
            KeySource::JwksUrl(url) => keys::KeySource::JwksUrl(url.clone()),
            KeySource::JwksFile(path) => keys::KeySource::JwksFile(path.clone()),
            KeySource::HmacSecretFile(path) => keys::KeySource::HmacSecretFile(path.clone()),
        };
        let revocation = self.identity.revocation.as_ref();
        keys::Settings {
            verifier: VerifierSettings {
                tenant_claim: self.identity.tenant_claim.clone(),
                leeway: self.identity.leeway,
                max_lifetime: self.identity.max_lifetime,
                issuers: self.identity.issuers.iter().map(issuer).collect(),
            },
            sources: self.identity.issuers.iter().map(source).collect(),
            revocation_file: revocation.and_then(|revocation| revocation.file.clone()),
            revocation_redis: revocation.and_then(|revocation| revocation.redis.clone()),
        }
    }

    /// The audit trail.
    pub fn audit_settings(&self) -> audit::Settings {
        audit::Settings {
            mode: match self.audit.mode {
                AuditModeWord::Balanced => audit::Mode::Balanced,
                AuditModeWord::Strict => audit::Mode::Strict,
            },
            signing_key_file: self.audit.signing_key_file.clone(),
            max_size: self.audit.segment_max_size,
            max_age: self.audit.segment_max_age,
            retention: self.audit.retention,
            personal: self.audit.seal_personal.then(|| {
                let key = self.audit.personal_key_file.clone();
                audit::personal::Places::beside(&self.audit.directory, key)
            }),
            max_total_size: self.audit.max_total_size,
            sinks: self.audit.sinks.iter().map(|sink| sink.name.clone()).collect(),
            ..audit::Settings::new(&self.audit.directory)
        }
    }

    /// Health and metrics, if they are served.
    pub fn admin_settings(&self) -> Option<admin::Settings> {
        self.admin.map(|listen| admin::Settings { listen })
    }

    /// The BigQuery front, if there is one.
    pub fn bigquery_settings(&self) -> Option<bigquery::Settings> {
        let side = self.bigquery.as_ref()?;
        let beside_audit = || {
            let directory = &self.audit.directory;
            let mut name = directory.file_name().unwrap_or("audit".as_ref()).to_owned();
            name.push("-bigquery-ownership.key");
            directory.with_file_name(name)
        };
        let ownership_key = match (&side.ownership_key_file, &side.credentials) {
            (Some(file), _) => Some(file.clone()),
            (None, Credentials::File(_)) => None,
            (None, Credentials::Metadata | Credentials::None) => Some(beside_audit()),
        };
        Some(bigquery::Settings {
            listen: side.listen,
            tls: side.tls.as_ref().map(|tls| (tls.cert_file.clone(), tls.key_file.clone())),
            upstream: side.upstream.clone(),
            credentials: match &side.credentials {
                Credentials::File(file) => bigquery::Credentials::File(file.clone()),
                Credentials::Metadata => bigquery::Credentials::Metadata,
                Credentials::None => bigquery::Credentials::None,
            },
            default_project: side.default_project.clone(),
            ownership_key,
            compare_dry_runs: side.compare_dry_runs,
            max_statement: crate::sql::Limits::default().max_statement,
            drain_timeout: side.drain_timeout,
        })
    }

    /// The PostgreSQL front, if there is one.
    pub fn postgres_settings(&self) -> Option<postgres::Settings> {
        let side = self.postgres.as_ref()?;
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Some(postgres::Settings {
            listen: side.listen,
            unix_socket: side.unix_socket.clone(),
            tls: side.tls.as_ref().map(|tls| postgres::ClientTls {
                certificate: tls.cert_file.clone(),
                key: tls.key_file.clone(),
            }),
            endpoint: side.upstream.clone(),
            authentication: postgres::Authentication {
                usual: side.authentication.into(),
                by_user: side
                    .authentication_by_user
                    .iter()
                    .map(|(user, method)| (user.clone(), (*method).into()))
                    .collect(),
            },
            pool_mode: match side.pool_mode {
                PoolModeWord::Session => postgres::PoolMode::Session,
                PoolModeWord::Transaction => postgres::PoolMode::Transaction,
            },
            max_connections: count(side.pool_max_connections),
            idle_timeout: side.pool_idle_timeout,
            session_variables: side.session_variables.clone(),
            limits: side.limits,
            leeway: self.identity.leeway,
            drain_timeout: side.drain_timeout,
        })
    }
}

impl From<AuthenticationWord> for postgres::Method {
    fn from(word: AuthenticationWord) -> Self {
        match word {
            AuthenticationWord::Password => Self::Password,
            AuthenticationWord::OAuthBearer => Self::OAuthBearer,
        }
    }
}

impl From<AlgorithmWord> for Algorithm {
    fn from(word: AlgorithmWord) -> Self {
        match word {
            AlgorithmWord::Rs256 => Self::Rs256,
            AlgorithmWord::Ps256 => Self::Ps256,
            AlgorithmWord::Es256 => Self::Es256,
            AlgorithmWord::EdDsa => Self::EdDsa,
            AlgorithmWord::Hs256 => Self::Hs256,
        }
    }
}
