//! Golden messages and meanings of the configuration file.

use std::fs;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

/// A directory with a good configuration's files; `hedgerow.yaml` is the given text.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("policies/a.yaml", "tables: {t: {tenant: {column: org, type: text}}}\n");
        place.write("secret", &("x".repeat(32) + "\n"));
        place.write("short", &("x".repeat(31) + "\n"));
        place.write("password", "pass word\r\n");
        place.write("keys.json", r#"{"keys": []}"#);
        place.write("not.json", "[]");
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self, text: &str) -> Result<Loaded, Vec<Fault>> {
        self.write("hedgerow.yaml", text);
        let environment = |name: &str| (name == "PGPASS").then(|| "from env".to_owned());
        load_with(&self.0.path().join("hedgerow.yaml"), PolicyEpoch(3), &environment)
    }

    /// The faults, without the directory's name.
    fn faults(&self, text: &str) -> String {
        let faults = self.load(text).expect_err("the configuration has faults");
        let root = format!("{}/", self.0.path().display());
        let lines: Vec<String> =
            faults.iter().map(|fault| fault.to_string().replace(&root, "")).collect();
        lines.join("\n")
    }
}

const GOOD: &str = "\
identity:
  tenant_claim: org.id
  issuers:
    - {issuer: a, audiences: [x], algorithms: [HS256], hmac_secret_file: secret}
    - {issuer: b, audiences: [x, y], algorithms: [RS256, EdDSA], jwks_url: https://b.example/jwks}
    - {issuer: c, audiences: [x], algorithms: [ES256], jwks_file: keys.json}
postgres:
  listen: 127.0.0.1:6432
  upstream: {host: 127.0.0.1, user: app, password_file: password}
  session_variables: {App.Tenant: org.id}
policies: policies/
audit: {directory: audit}
";

#[test]
fn a_short_configuration_gets_the_contracts_defaults() {
    let loaded = Place::new().load(GOOD).unwrap();
    assert_eq!(loaded.policies.postgres.epoch, PolicyEpoch(3));
    let config = loaded.config;
    assert_eq!(config.identity.leeway.as_secs(), 30);
    assert_eq!(config.identity.max_lifetime.as_secs(), 86_400);
    assert_eq!(
        config.identity.issuers[1].keys,
        KeySource::JwksUrl("https://b.example/jwks".into())
    );
    let postgres = config.postgres.unwrap();
    assert_eq!(postgres.upstream.password.unwrap().expose(), "pass word");
    assert_eq!(postgres.upstream.port, 5432);
    assert_eq!(postgres.upstream.tls, crate::endpoint::TlsMode::Disable);
    assert_eq!(postgres.session_variables[0].0, "app.tenant");
    assert_eq!((postgres.limits.max_clients, postgres.limits.max_statement), (1000, 1 << 20));
    assert!(postgres.limits.statement_timeout.is_zero());
    assert_eq!(postgres.limits.idle_in_transaction_timeout.as_secs(), 300);
    assert_eq!(postgres.pool_max_connections, 20);
    assert_eq!(postgres.drain_timeout.as_secs(), 25);
    assert_eq!(config.audit.retention.unwrap().as_secs(), 90 * 86_400);
    assert_eq!(config.audit.segment_max_size, 64 << 20);
    assert_eq!(config.log, Log::default());
    assert_eq!(config.admin, None);
}

#[test]
fn no_secret_is_printed() {
    let loaded = Place::new().load(GOOD).unwrap();
    assert!(!format!("{:?}", loaded.config).contains("pass word"));
}

#[test]
fn a_password_may_come_from_the_environment() {
    let place = Place::new();
    let text = GOOD.replace("password_file: password", "password_env: PGPASS");
    let postgres = place.load(&text).unwrap().config.postgres.unwrap();
    assert_eq!(postgres.upstream.password.unwrap().expose(), "from env");
    assert_snapshot!(place.faults(&text.replace("PGPASS", "NOT_SET")), @r#"
hedgerow.yaml:9:56: the environment variable `NOT_SET` is not set
"#);
}

#[test]
fn all_faults_are_reported_at_once_with_their_places() {
    let place = Place::new();
    place.write("policies/b.yaml", "tables: {u: {tenat: x}}\n");
    assert_snapshot!(place.faults("\
identity:
  tenant_claim: org..id
  leeway: 11m
  max_lifetime: 0s
  issuers:
    - {issuer: a, audiences: [], algorithms: [], jwks_url: ftp://x}
    - {issuer: a, audiences: [x], algorithms: [HS256, RS256], hmac_secret_file: short}
    - {issuer: b, audiences: [x], algorithms: [HS256], jwks_file: not.json}
    - {issuer: c, audiences: [x], algorithms: [RS256], hmac_secret_file: secret}
    - {issuer: d, audiences: [x], algorithms: [RS256]}
    - {issuer: e, audiences: [x], algorithms: [none], jwks_url: http://e.example/, jwks_file: keys.json}
    - {issuer: f, audiences: [x], algorithms: [RS256], jwks_file: nowhere.json}
  revocation: {redis: 127.0.0.1}
postgres:
  listen: 0.0.0.0:6432
  authentication: cert
  upstream:
    host: db.example
    port: 0
    user: app
    password_file: password
    password_env: PGPASS
    tls: {mode: require, ca_file: password, cert_file: nowhere}
  pool: {mode: statement, max_connections: -1}
  session_variables: {tenant: org, app.x-y: sub, hedgerow.x: sub, app.a: sub, APP.A: sub}
  limits: {max_clients: many, max_statement: 1MB, statement_timeout: 5}
  require_rls: yes
policies: policies/
audit:
  directory: password
  mode: loose
  signing_key_file: password
  segment: {max_size: 0B, max_age: 0s}
  sinks: [stdout, kafka, {otlp: {}}, syslog]
admin: {listen: 0.0.0.0:6432, port: 1}
log: {level: verbose}
adminn: 1
"), @r#"
hedgerow.yaml:2:17: `identity.tenant_claim` must be a claim path such as `tenant_id`, `org.id` or `"https://example.com/claims".tenant`, not `org..id`
hedgerow.yaml:3:11: `leeway` must not be longer than `10m`
hedgerow.yaml:4:17: `max_lifetime` must be longer than nothing
hedgerow.yaml:6:30: `audiences` must name at least one audience
hedgerow.yaml:6:46: `algorithms` must name at least one algorithm
hedgerow.yaml:6:60: `jwks_url` must be a URL such as `https://auth.example.com/jwks.json`
hedgerow.yaml:7:16: the issuer `a` is given twice
hedgerow.yaml:7:47: HS256 stands alone: an issuer has either a shared secret or public keys
hedgerow.yaml:7:81: the secret in `short` has 31 bytes; HS256 needs at least 32
hedgerow.yaml:8:47: HS256 needs `hmac_secret_file`
hedgerow.yaml:8:67: `not.json` is not a JSON key set with `keys`
hedgerow.yaml:9:47: `hmac_secret_file` goes with `algorithms: [HS256]` only
hedgerow.yaml:10:7: one of `jwks_url`, `jwks_file`, `hmac_secret_file` must be given
hedgerow.yaml:11:48: `identity.issuers[5].algorithms[0]` must be `RS256`, `PS256`, `ES256`, `EdDSA` or `HS256`, not `none`
hedgerow.yaml:11:95: only one of `jwks_url`, `jwks_file`, `hmac_secret_file` may be given
hedgerow.yaml:12:67: `nowhere.json` cannot be read: No such file or directory (os error 2)
hedgerow.yaml:13:23: `redis` must be a URL such as `redis://127.0.0.1:6379/0`
hedgerow.yaml:15:11: `0.0.0.0:6432` can be reached from other machines: `tls` with `cert_file` and `key_file` is required, or listen on 127.0.0.1
hedgerow.yaml:16:19: `postgres.authentication` must be `password` or `oauthbearer`, not `cert`
hedgerow.yaml:19:11: `postgres.upstream.port` must be a whole number from 1 to 65535, not the number 0
hedgerow.yaml:22:19: only one of `password_file`, `password_env` may be given
hedgerow.yaml:23:35: `ca_file` is of no use with `mode: require`: write `verify-ca` or `verify-full`
hedgerow.yaml:23:35: `password` holds no PEM certificate
hedgerow.yaml:23:56: `cert_file` and `key_file` belong together
hedgerow.yaml:24:16: `postgres.pool.mode` must be `transaction` or `session`, not `statement`
hedgerow.yaml:24:44: `postgres.pool.max_connections` must be a whole number from 1 to 4294967295, not the number -1
hedgerow.yaml:25:23: `tenant` must be a setting with a class, such as `app.current_tenant`
hedgerow.yaml:25:36: `app.x-y` must be a setting with a class, such as `app.current_tenant`
hedgerow.yaml:25:50: `hedgerow.x`: the class `hedgerow` is taken
hedgerow.yaml:25:79: the setting `APP.A` is given twice
hedgerow.yaml:26:25: `postgres.limits.max_clients` must be a whole number from 1 to 4294967295, not `many`
hedgerow.yaml:26:46: `postgres.limits.max_statement`: `1MB` is not a size: write a whole number and a unit, one of B, KiB, MiB, GiB, for example `64KiB`
hedgerow.yaml:26:70: `postgres.limits.statement_timeout` must be a duration with its unit, such as `30s` or `5m`, not the number 5
hedgerow.yaml:27:16: `postgres.require_rls` must be `true` or `false`, not `yes`
hedgerow.yaml:30:14: `password` is not a directory
hedgerow.yaml:31:9: `audit.mode` must be `balanced` or `strict`, not `loose`
hedgerow.yaml:32:21: `password` holds no PEM private key
hedgerow.yaml:33:23: `audit.segment.max_size` must be a size greater than 0, not `0B`
hedgerow.yaml:34:19: `audit.sinks[1]` must be a map such as `{type: kafka, …}`, not `kafka`
hedgerow.yaml:34:26: `audit.sinks[2]` lacks the key `type`: `stdout`, `otlp`, `kafka`, `object_store` or `postgres`
hedgerow.yaml:34:38: `audit.sinks[3]` must be `stdout`, or a map with the key `type`, not `syslog`
hedgerow.yaml:35:17: `admin.listen` and `postgres.listen` have the same address
hedgerow.yaml:35:31: `admin` has no key `port`; known keys: `listen`
hedgerow.yaml:36:14: `log.level` must be `error`, `warn`, `info`, `debug` or `trace`, not `verbose`
hedgerow.yaml:37:1: the file has no key `adminn`; did you mean `admin`?
policies/b.yaml:1:14: `tables.u` has no key `tenat`; did you mean `tenant`?
"#);
}

#[test]
fn sections_that_must_be_there_are_named() {
    let place = Place::new();
    assert_snapshot!(place.faults("log: {level: info}\n"), @r#"
hedgerow.yaml:1:1: one of `postgres`, `bigquery` must be given
hedgerow.yaml:1:1: the file lacks the key `audit`
hedgerow.yaml:1:1: the file lacks the key `identity`
hedgerow.yaml:1:1: the file lacks the key `policies`
"#);
    assert_snapshot!(place.faults(&GOOD.replace("  listen: 127.0.0.1:6432\n", "")), @r#"
hedgerow.yaml:8:3: `postgres` needs `listen` or `unix_socket`
"#);
    assert_snapshot!(place.faults(""), @r#"
hedgerow.yaml:1:1: the file must be a map with the keys `identity`, `postgres`, `bigquery`, `policies`, `audit`, `quota`, `admin`, `log`, `drain_timeout`, not nothing
"#);
    assert_snapshot!(place.faults("postgres:\nidentity: 1\n"), @r#"
hedgerow.yaml:1:1: `postgres` has no value
hedgerow.yaml:1:1: one of `postgres`, `bigquery` must be given
hedgerow.yaml:1:1: the file lacks the key `audit`
hedgerow.yaml:1:1: the file lacks the key `policies`
hedgerow.yaml:2:11: `identity` must be a map with the keys `tenant_claim`, `leeway`, `max_lifetime`, `issuers`, `revocation`, not the number 1
"#);
}

#[test]
fn the_policy_directory_must_hold_policies() {
    let place = Place::new();
    assert_snapshot!(place.faults(&GOOD.replace("policies/", "nowhere/")), @r#"
hedgerow.yaml:11:11: the directory `nowhere/` cannot be read: No such file or directory (os error 2)
"#);
    fs::create_dir(place.0.path().join("empty")).unwrap();
    assert_snapshot!(place.faults(&GOOD.replace("policies/", "empty")), @r#"
hedgerow.yaml:11:11: there is no `*.yaml` file below `empty`
"#);
}

#[test]
fn policies_are_read_below_the_directory_and_yml_gets_a_warning() {
    let place = Place::new();
    place.write("policies/deep/b.yaml", "tables: {u: shared}\n");
    place.write("policies/c.yml", "no policy\n");
    place.write("policies/..data/d.yaml", "no policy\n");
    let loaded = place.load(GOOD).unwrap();
    assert_eq!(loaded.policies.postgres.tables.len(), 2);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].at.file.ends_with("policies/c.yml"));
}

#[test]
fn tls_is_required_beyond_loopback_and_its_files_are_read() {
    let place = Place::new();
    let text = GOOD.replace("127.0.0.1:6432", "10.0.0.1:6432");
    assert_snapshot!(place.faults(&text), @r#"
hedgerow.yaml:8:11: `10.0.0.1:6432` can be reached from other machines: `tls` with `cert_file` and `key_file` is required, or listen on 127.0.0.1
"#);
    let tls = "  tls: {cert_file: password, key_file: nowhere}\n";
    assert_snapshot!(place.faults(&text.replace("postgres:\n", &format!("postgres:\n{tls}"))), @r#"
hedgerow.yaml:8:20: `password` holds no PEM certificate
hedgerow.yaml:8:40: `nowhere` cannot be read: No such file or directory (os error 2)
"#);
    for loopback in ["localhost:6432", "'[::1]:6432'", "127.9.9.9:0"] {
        assert!(place.load(&GOOD.replace("127.0.0.1:6432", loopback)).is_ok(), "{loopback}");
    }
}

#[test]
fn an_upstream_on_another_machine_is_verified_unless_told_otherwise() {
    let place = Place::new();
    let text = GOOD.replace("host: 127.0.0.1", "host: db.example");
    let loaded = place.load(&text).unwrap();
    assert_eq!(loaded.config.postgres.unwrap().upstream.tls, crate::endpoint::TlsMode::VerifyFull);
    let text = text.replace("user: app", "tls: {mode: disable}, user: app");
    assert_eq!(place.load(&text).unwrap().warnings.len(), 1);
}

#[test]
fn channel_binding_is_preferred_and_needs_tls_where_it_is_required() {
    let place = Place::new();
    let binding = |tls: &str| {
        let text = GOOD.replace("user: app", &format!("{tls}user: app"));
        let loaded = place.load(&text).unwrap();
        loaded.config.postgres.unwrap().upstream.channel_binding
    };
    assert_eq!(binding(""), crate::endpoint::Binding::Prefer);
    let required = binding("tls: {mode: require, channel_binding: require}, ");
    assert_eq!(required, crate::endpoint::Binding::Require);
    let text =
        GOOD.replace("user: app", "tls: {mode: disable, channel_binding: require}, user: app");
    assert!(place.faults(&text).contains("channel binding needs TLS"));
}

#[test]
fn a_bigquery_side_is_accepted_and_checked() {
    let place = Place::new();
    place.write("sa.json", "{}");
    let bigquery = "bigquery:\n  listen: 127.0.0.1:9050\n  credentials: {file: sa.json}\n  default_project: acme\n";
    let loaded = place.load(&format!("{GOOD}{bigquery}")).unwrap();
    assert_eq!(loaded.config.bigquery.unwrap().upstream, "https://bigquery.googleapis.com");
    assert_snapshot!(place.faults(&format!("{GOOD}{}", bigquery.replace("file: sa.json", "metadata: false").replace("9050", "6432"))), @r#"
hedgerow.yaml:14:11: `bigquery.listen` and `postgres.listen` have the same address
hedgerow.yaml:15:27: `metadata` can only be `true`
"#);
    assert_snapshot!(place.faults(&format!("{GOOD}{}", bigquery.replace("file: sa.json", "").replace("9050", "x"))), @r#"
hedgerow.yaml:14:11: `127.0.0.1:x` is not an address with a port, such as `127.0.0.1:6432` or `[::1]:6432`
hedgerow.yaml:15:16: one of `file`, `metadata`, `none` must be given
"#);
}

#[test]
fn row_level_security_can_only_be_required_of_a_known_database() {
    let place = Place::new();
    let text = GOOD.replace("  session_v", "  require_rls: true\n  session_v");
    assert!(place.faults(&text).contains(":8:3: `require_rls` needs `upstream.database`"));
    assert!(place.load(&text.replace("user: app", "database: d, user: app")).is_ok());
}

#[test]
fn files_that_are_no_text_are_refused() {
    let place = Place::new();
    fs::write(place.0.path().join("policies/z.yaml"), b"\xff\xfe").unwrap();
    fs::create_dir(place.0.path().join("policies/dir.yaml")).unwrap();
    assert_snapshot!(place.faults(GOOD), @r#"
policies/z.yaml:1:1: the file is not UTF-8 text
"#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_mutilated_configuration_never_panics(
        at in 0usize..600, length in 0usize..20, put in "[a-z:{}\\[\\] \n\"'/.0-9]{0,8}"
    ) {
        let at = at.min(GOOD.len());
        let end = (at + length).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..at], &GOOD[end..]);
        let _ = validate::validate("f", &text, Path::new("/nowhere/f"), &|_| None);
    }
}

#[test]
fn sql_in_policies_is_judged_when_they_are_loaded() {
    let place = Place::new();
    place.write(
        "policies/b.yaml",
        "\
tenant: {column: org, type: text}
tables:
  a: {where: \"region = claim('region')\", columns: {email: {mask: \"left(email, 1) || '***'\"}}}
  b: {where: \"region =\"}
  c: {where: \"id IN (SELECT id FROM other)\"}
  d: {where: \"pg_sleep(1) IS NULL\"}
  e:
    columns:
      email: {mask: \"(SELECT email FROM users)\"}
  \"f_*.*\": {where: \"users.active\"}
",
    );
    assert_snapshot!(place.faults(GOOD), @r#"
policies/b.yaml:4:14: `b`: the SQL expression is refused: Expected: an expression, found: EOF
policies/b.yaml:5:14: `c`: the SQL expression is refused: sub-queries are not allowed: only the row itself and claims
policies/b.yaml:6:14: `d`: the SQL expression is refused: the function `pg_sleep` is not on the list of safe functions
policies/b.yaml:9:21: `e`: the SQL expression is refused: sub-queries are not allowed: only the row itself and claims
policies/b.yaml:10:20: `f_*.*`: the SQL expression is refused: `users.active`: a column is written without its table
"#);
}

#[test]
fn what_is_not_enforced_yet_is_said_with_its_place() {
    let place = Place::new();
    place.write(
        "policies/b.yaml",
        "\
mode: monitor
tenant: {column: org, type: text}
tables:
  a: {mode: monitor, columns: {email: {mask: \"'x'\"}, hash: deny}}
  b: {mode: enforce}
ddl: {claim: role, in: [migrator]}
break_glass: {claim: role, in: [dba], max_lifetime: 1h}
quotas:
  - {statements_per_second: 200, burst: 400, concurrent: 20}
",
    );
    let text = GOOD.replace(
        "  listen: 127.0.0.1:6432\n",
        "  listen: 127.0.0.1:6432\n  authentication: oauthbearer\n  pool: {mode: transaction}\n",
    );
    let text = text.replace(
        "  issuers:\n",
        "  revocation: {redis: \"redis://127.0.0.1:6379/0\"}\n  issuers:\n",
    );
    let warnings = place.load(&text).unwrap().warnings;
    let root = format!("{}/", place.0.path().display());
    let lines: Vec<String> =
        warnings.iter().map(|warning| warning.to_string().replace(&root, "")).collect();
    assert_snapshot!(lines.join("\n"), @r#"
policies/b.yaml:1:7: `mode: monitor`: what would be denied is recorded and let through
policies/b.yaml:4:13: `mode: monitor`: what would be denied is recorded and let through
"#);
}

/// The valid file with these lines below `audit.sinks`, which then begin at line 17.
fn with_sinks(sinks: &str) -> String {
    assert!(GOOD.contains("audit: {directory: audit}"));
    GOOD.replace(
        "audit: {directory: audit}",
        &format!("audit:\n  directory: audit\n  max_total_size: 1GiB\n  sinks:\n{sinks}"),
    )
}

#[test]
fn every_kind_of_sink_is_read() {
    use crate::sinks::{Kind, object_store::Service};
    let place = Place::new();
    let text = with_sinks(
        "    - stdout
    - {type: stdout, name: again, required: false}
    - {type: otlp, endpoint: \"https://collector.example.com\", token_file: secret}
    - {type: kafka, brokers: [localhost:9092], topic: audit.v1, sasl: {mechanism: PLAIN, user: u, password_env: PGPASS}}
    - {type: kafka, name: far, brokers: [kafka.example.com:9092], topic: audit, plaintext: true}
    - {type: object_store, url: s3://bucket/a/b, region: eu-west-1, access_key_id: id, secret_key_file: secret}
    - {type: object_store, name: gcs, url: gs://bucket, part_size: 1MiB, max_delay: 1m}
    - {type: object_store, name: azure, url: az://container/x, account: acme}
    - {type: postgres, server: {host: 127.0.0.1, database: d, user: u}, table: audit.records}
",
    );
    let loaded = place.load(&text).unwrap();
    let sinks = loaded.config.audit.sinks;
    assert_eq!(loaded.config.audit.max_total_size, Some(1 << 30));
    let names: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    let all =
        ["stdout", "again", "otlp", "kafka", "far", "object_store", "gcs", "azure", "postgres"];
    assert_eq!(names, all);
    assert!(sinks[0].required && !sinks[1].required);
    assert!(
        matches!(&sinks[2].kind, Kind::Otlp(s) if s.url == "https://collector.example.com/v1/logs")
    );
    assert!(
        matches!(&sinks[3].kind, Kind::Kafka(s) if s.sasl.as_ref().unwrap().1.expose() == "from env")
    );
    let Kind::ObjectStore(bucket) = &sinks[5].kind else { panic!("{:?}", sinks[5]) };
    assert_eq!((bucket.bucket.as_str(), bucket.prefix.as_str()), ("bucket", "a/b"));
    assert!(matches!(&bucket.service, Service::S3 { key: Some((id, _)), .. } if id == "id"));
    assert!(
        matches!(&sinks[8].kind, Kind::Postgres(s) if s.schema == "audit" && s.table == "records")
    );
    let shown = format!("{sinks:?}");
    assert!(!shown.contains("from env"), "a secret is never shown: {shown}");
}

#[test]
fn faults_of_sinks_are_reported_with_their_places() {
    let place = Place::new();
    let text = with_sinks(
        "    - stdout
    - {type: stdout}
    - {type: otlp, endpoint: \"http://collector.example.com:4318\", token_env: NOT_SET}
    - {type: otlp, name: Other, endpoint: collector}
    - {type: kafka, brokers: [kafka.example.com:9092, x], topic: \"a b\"}
    - {type: kafka, name: k, brokers: [localhost:9092], topic: t, sasl: {user: u}, toppic: t}
    - {type: object_store, url: \"ftp://x\"}
    - {type: object_store, name: s3, url: s3://b, access_key_id: id, account: a}
    - {type: object_store, name: s4, url: s3://b/../c, part_size: 1GiB}
    - {type: postgres, server: {host: db.example.com, database: d, user: u, tls: {mode: disable}}}
    - {type: postgres, name: p, server: {host: localhost, user: u}, table: a.b.c}
    - {type: syslog}
    - {type: kafka, name: l, brokers: [localhost:9092], topic: t, tls: {ca_file: x}, security_protocol: ssl}
    - {type: kafka, name: m, brokers: [localhost:9092], topic: t, sasl: {mechanism: SCRAM-SHA-512, user: u, password_env: PGPASS}}
    - {type: kafka, name: n, brokers: [kafka.example.com:9092], topic: t, plaintext: true, sasl: {user: u, password_env: PGPASS}}
",
    )
    .replace("1GiB\n  sinks", "1MiB\n  sinks");
    assert_snapshot!(place.faults(&text), @r#"
hedgerow.yaml:14:19: `max_total_size` must be at least twice `segment.max_size`: the segment that is being written stays
hedgerow.yaml:17:7: two sinks are called `stdout`: give one of them a `name` of its own
hedgerow.yaml:18:30: the records would leave this machine in clear: `endpoint` must be `https://…`, or write `plaintext: true`
hedgerow.yaml:18:78: the environment variable `NOT_SET` is not set
hedgerow.yaml:19:26: `name` must be at most 40 lower-case letters, digits, `-` and `_`, such as `archive`
hedgerow.yaml:19:43: `endpoint` must be a URL such as `http://127.0.0.1:4318`
hedgerow.yaml:20:31: Kafka is spoken without TLS: name a broker or a tunnel on this machine, or write `plaintext: true`
hedgerow.yaml:20:55: `x` is not a broker's `host:port`
hedgerow.yaml:20:66: `a b` is not a topic
hedgerow.yaml:21:73: one of `password_file`, `password_env` must be given
hedgerow.yaml:21:84: `audit.sinks[5]` has no key `toppic`; did you mean `topic`?
hedgerow.yaml:22:33: `url` must be `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`
hedgerow.yaml:23:7: `access_key_id` and its `secret_key_file` or `secret_key_env` belong together
hedgerow.yaml:23:7: `account` goes with `az://` only
hedgerow.yaml:24:43: `url` must be `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`
hedgerow.yaml:24:67: `part_size` must not be larger than `256MiB`
hedgerow.yaml:25:32: the records would leave this machine in clear: `tls` must not be off
hedgerow.yaml:26:41: `server` of a sink needs `database`
hedgerow.yaml:26:76: `a.b.c` is not `schema.table`
hedgerow.yaml:27:14: `audit.sinks[11].type` must be `stdout`, `otlp`, `kafka`, `object_store` or `postgres`, not `syslog`
hedgerow.yaml:28:67: `audit.sinks[12].tls`: Kafka is spoken without TLS, for librdkafka's is OpenSSL's: name a TLS tunnel on this machine in `brokers`
hedgerow.yaml:28:86: `audit.sinks[12].security_protocol`: Kafka is spoken without TLS, for librdkafka's is OpenSSL's: name a TLS tunnel on this machine in `brokers`
hedgerow.yaml:29:85: `audit.sinks[13].sasl.mechanism` must be `PLAIN`, not `SCRAM-SHA-512`
hedgerow.yaml:30:98: SASL PLAIN sends the password in clear: name brokers or a TLS tunnel on this machine
"#);
}
