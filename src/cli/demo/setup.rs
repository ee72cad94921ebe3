//! What the demo works with: rows, configuration, keys, tokens. Layer 6.
//!
//! Refuses to write into a directory that holds anything.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::time::Instant;

use super::server::{Server, free_port};
use super::{DATABASE, in_words, random_hex, show, token};
use crate::catalog_load::connect;

pub(super) const OWNER: &str = "hedgerow_owner";
const APPLICATION: &str = "hedgerow_app";
const SCHEMA_SQL: &str = include_str!("../../../demo/schema.sql");
const DATA_SQL: &str = include_str!("../../../demo/data.sql");
const CONFIGURATION: &str = include_str!("../../../demo/hedgerow.yaml");
const POLICIES: &str = include_str!("../../../demo/policies/demo.yaml");
/// How long the printed tokens are good for.
pub(super) const TOKEN_SECONDS: i64 = 8 * 3600;

/// A tenant of the demo, and a token of one of its users.
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) token: String,
}

/// Passwords of the two roles.
pub(super) struct Passwords {
    pub(super) owner: String,
    pub(super) application: String,
}

/// Makes roles and database, and loads schema and rows as their owner.
pub(super) async fn load_data(server: &Server, passwords: &Passwords) -> anyhow::Result<()> {
    let begun = Instant::now();
    let session = connect(&server.superuser(), "postgres").await?;
    for statement in [
        format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{}'", passwords.owner),
        format!("CREATE ROLE {APPLICATION} LOGIN PASSWORD '{}'", passwords.application),
        format!("CREATE DATABASE {DATABASE} OWNER {OWNER}"),
    ] {
        session.client.batch_execute(&statement).await.map_err(in_words)?;
    }
    let owner = connect(&server.role(OWNER, &passwords.owner), DATABASE).await?;
    owner.client.batch_execute(SCHEMA_SQL).await.map_err(in_words).context("schema")?;
    owner.client.batch_execute(DATA_SQL).await.map_err(in_words).context("rows")?;
    let rows = show::ask(
        &owner,
        "SELECT sum(n) FROM (SELECT (xpath('/row/n/text()', query_to_xml(format( \
         'SELECT count(*) AS n FROM %s', oid::regclass), false, true, '')))[1]::text::int AS n \
         FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
         AND relnamespace = 'public'::regnamespace) AS counts",
    )
    .await
    .map_err(in_words)?;
    println!(
        "   {} rows of 20 tenants loaded in {:.1} s",
        rows.first().unwrap_or("?"),
        begun.elapsed().as_secs_f32()
    );
    Ok(())
}

/// The tenants, each with a token of its administrator.
pub(super) async fn tenants(
    server: &Server,
    passwords: &Passwords,
    secret: &[u8],
) -> anyhow::Result<Vec<Tenant>> {
    let owner = connect(&server.role(OWNER, &passwords.owner), DATABASE).await?;
    let sql = "SELECT t.id, t.name, u.email FROM tenants t \
               JOIN users u ON u.tenant_id = t.id AND u.role = 'admin' ORDER BY t.id";
    let now = jiff::Timestamp::now().as_second();
    let answer = show::ask(&owner, sql).await.map_err(in_words)?;
    let tenants = answer.rows().iter().filter_map(|row| {
        let [id, name, email] = row.as_slice() else { return None };
        let claims = json!({
            "iss": "https://auth.demo.example/",
            "aud": "hedgerow-demo",
            "sub": email,
            "jti": random_hex(8).ok()?,
            "tenant_id": id,
            "role": "admin",
        });
        let token = token::mint(secret, &claims, now, TOKEN_SECONDS);
        Some(Tenant { id: id.clone(), name: name.clone(), token })
    });
    Ok(tenants.collect())
}

/// Writes configuration, policies and keys; gives the tokens' secret.
pub(super) fn write_files(
    files: &Path,
    server: &Server,
    passwords: &Passwords,
    listen: u16,
) -> anyhow::Result<Vec<u8>> {
    if fs::read_dir(files).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", files.display());
    }
    let admin = free_port()?;
    let configuration = CONFIGURATION
        .lines()
        // The schema lies in the source tree, not beside this file.
        .filter(|line| !line.starts_with("# yaml-language-server"))
        .map(|line| line.replace("127.0.0.1:6432", &format!("127.0.0.1:{listen}")))
        .map(|line| line.replace("127.0.0.1:9187", &format!("127.0.0.1:{admin}")))
        .map(|line| line.replace("port: 5432", &format!("port: {}", server.port())) + "\n")
        .collect::<String>();
    let policies = POLICIES
        .lines()
        .filter(|line| !line.starts_with("# yaml-language-server"))
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    for directory in ["", "policies", "keys", "audit"] {
        private_directory(&files.join(directory))?;
    }
    let secret = random_hex(32)?;
    private_file(&files.join("hedgerow.yaml"), &configuration)?;
    private_file(&files.join("policies/demo.yaml"), &policies)?;
    private_file(&files.join("keys/token.secret"), &secret)?;
    private_file(&files.join("keys/upstream.password"), &passwords.application)?;
    Ok(secret.into_bytes())
}

pub(super) fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| path.display().to_string())
}

fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::server::Scratch;
    use super::*;

    #[tokio::test]
    async fn the_data_set_loads_and_nothing_is_left_behind() {
        let Ok(scratch) = Scratch::new() else { return };
        let home = scratch.path().join("postgres");
        private_directory(&home).unwrap();
        let server = match Server::start(&home) {
            Ok(server) => server,
            Err(error) if error.to_string().starts_with("no PostgreSQL") => {
                return eprintln!("skipped: {error:#}");
            }
            Err(error) => panic!("{error:#}"),
        };
        let passwords = Passwords { owner: "o".to_owned(), application: "a".to_owned() };
        load_data(&server, &passwords).await.unwrap();
        let files = scratch.path().join("files");
        let secret = write_files(&files, &server, &passwords, 1).unwrap();
        assert!(secret.len() >= 32);
        assert!(write_files(&files, &server, &passwords, 1).is_err(), "never overwrites");
        let tenants = tenants(&server, &passwords, &secret).await.unwrap();
        assert_eq!((tenants.len(), tenants[0].name.as_str()), (20, "Acme Robotics"));
        let catalog = crate::catalog_load::load(&server.role(OWNER, "o"), DATABASE).await.unwrap();
        assert_eq!(catalog.relations.len(), 11 + 12 + 5, "tables, partitions, sequences");
        let (path, port) = (scratch.path().to_owned(), server.port());
        drop((server, scratch));
        assert!(!path.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
