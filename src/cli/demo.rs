//! `hedgerow demo`: the whole of it on one terminal, with a throw-away PostgreSQL. Layer 6.
//!
//! It uses what an operator uses: a configuration file, policy files, and this same binary's
//! `rls`, `serve` and `audit`. What it starts, it stops; what it writes, it removes, but for the
//! directory that `--dir` names. It fails aloud: a statement that must be denied and is not ends
//! the demo with an error.

mod server;
mod show;
mod token;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use self::server::{Scratch, Server, free_port};
use crate::catalog_load::{Session, connect};
use crate::endpoint::{Endpoint, Secret, TlsMode};

const DATABASE: &str = "demo";
const OWNER: &str = "hedgerow_owner";
const APPLICATION: &str = "hedgerow_app";
const SCHEMA_SQL: &str = include_str!("../../demo/schema.sql");
const DATA_SQL: &str = include_str!("../../demo/data.sql");
const CONFIGURATION: &str = include_str!("../../demo/hedgerow.yaml");
const POLICIES: &str = include_str!("../../demo/policies/demo.yaml");
/// How long the printed tokens are good for.
const TOKEN_SECONDS: i64 = 8 * 3600;
/// How long the proxy may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the command line says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DemoArgs {
    /// End after the show instead of staying up
    #[arg(long, env = "HEDGEROW_ONCE")]
    pub once: bool,
    /// Keep configuration, keys and audit files in this directory (made if need be, must be empty)
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the demo until it ends or is told to stop (SIGINT, SIGTERM).
///
/// # Errors
/// Whatever did not work, after everything was stopped and removed.
pub async fn run(arguments: &DemoArgs) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let show = async {
        let demo = Demo::start(arguments.dir.as_deref()).await?;
        demo.show().await?;
        Ok::<_, anyhow::Error>(demo)
    };
    let mut demo = tokio::select! {
        outcome = show => outcome?,
        () = stop.asked() => bail!("stopped before the show was over; everything was removed"),
    };
    if !arguments.once {
        demo.print_connections();
        tokio::select! {
            () = stop.asked() => println!("\nStopping."),
            status = demo.proxy.ended() => bail!("hedgerow serve ended by itself ({status})"),
        }
    }
    demo.end()
}

/// The signals that end the demo.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A tenant of the demo, and a token of one of its users.
struct Tenant {
    id: String,
    name: String,
    token: String,
}

/// Everything that runs. Fields are dropped in this order: proxy, server, files.
struct Demo {
    proxy: Proxy,
    _server: Server,
    _scratch: Scratch,
    files: PathBuf,
    kept: bool,
    listen: u16,
    tenants: Vec<Tenant>,
}

impl Demo {
    async fn start(directory: Option<&Path>) -> anyhow::Result<Self> {
        show::heading("PostgreSQL");
        let scratch = Scratch::new()?;
        let home = scratch.path().join("postgres");
        private_directory(&home)?;
        let server = Server::start(&home)?;
        println!("   a throw-away server listens on 127.0.0.1:{}", server.port());
        let passwords = Passwords { owner: random_hex(16)?, application: random_hex(16)? };
        load_data(&server, &passwords).await?;

        let files = directory.map_or_else(|| scratch.path().join("hedgerow"), Path::to_owned);
        let listen = free_port()?;
        let secret = write_files(&files, &server, &passwords, listen)?;
        let tenants = tenants(&server, &passwords, &secret).await?;

        show::heading("hedgerow rls --apply");
        let administrator = format!(
            "postgres://{OWNER}:{}@127.0.0.1:{}/{DATABASE}?sslmode=disable",
            passwords.owner,
            server.port()
        );
        let applied = hedgerow("rls")?
            .args(["--apply", "--config"])
            .arg(files.join("hedgerow.yaml"))
            .env("HEDGEROW_ADMIN_URL", administrator)
            .output()?;
        show::output(last_lines(&finished("hedgerow rls", &applied, &[0])?, 4));

        show::heading("hedgerow serve");
        let proxy = Proxy::start(&files)?;
        let kept = directory.is_some();
        let mut demo =
            Self { proxy, _server: server, _scratch: scratch, files, kept, listen, tenants };
        demo.wait_until_ready().await?;
        println!("   listens on 127.0.0.1:{listen}; configuration: {}", demo.configuration());
        Ok(demo)
    }

    fn configuration(&self) -> String {
        self.files.join("hedgerow.yaml").display().to_string()
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.proxy.child.try_wait()? {
                bail!("hedgerow serve ended ({status}):\n{}", self.proxy.log());
            }
            let first = self.tenants.first().context("no tenant")?;
            match self.connect(first).await {
                Ok(_session) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    bail!("hedgerow serve is not ready: {error:#}\n{}", self.proxy.log())
                }
                Err(_not_yet) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn connect(&self, tenant: &Tenant) -> anyhow::Result<Session> {
        let proxy = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.listen,
            database: None,
            user: "anyone".to_owned(),
            password: Some(Secret::new(&tenant.token)),
            tls: TlsMode::Disable,
            ca_file: None,
            client_certificate: None,
        };
        Ok(connect(&proxy, DATABASE).await?)
    }

    async fn show(&self) -> anyhow::Result<()> {
        let (Some(ours), Some(theirs)) = (self.tenants.first(), self.tenants.get(2)) else {
            bail!("the demo's data has no two tenants")
        };
        let sessions = [(ours, self.connect(ours).await?), (theirs, self.connect(theirs).await?)];

        show::heading("The same SELECT as two tenants");
        for sql in [
            "SELECT name, provider, account_number FROM cloud_accounts ORDER BY name",
            "SELECT count(*) AS resources, sum(monthly_cost) AS monthly_cost FROM resources",
        ] {
            let mut answers = Vec::new();
            for (tenant, session) in &sessions {
                show::question(&tenant.name, sql);
                let answer = show::ask(session, sql).await.map_err(in_words)?;
                answer.print();
                answers.push(answer.rows().to_vec());
            }
            let (first, second) = (answers.first(), answers.get(1));
            ensure!(first != second, "two tenants saw the same rows");
        }

        let [(_, session), _] = &sessions;
        show::heading("Another tenant's rows are not there");
        let sql = format!("SELECT count(*) FROM cloud_accounts WHERE tenant_id = '{}'", theirs.id);
        show::question(&ours.name, &sql);
        let answer = show::ask(session, &sql).await.map_err(in_words)?;
        answer.print();
        ensure!(answer.first() == Some("0"), "another tenant's rows were seen");

        show::heading("An attempt on another tenant is denied");
        for (sql, code) in [
            (
                format!(
                    "INSERT INTO policies (tenant_id, name, rule) VALUES ('{}', 'Ours now', '{{}}')",
                    theirs.id
                ),
                "HR1011",
            ),
            ("SELECT * FROM vendor_margins".to_owned(), "HR1004"),
            ("SELECT * FROM support_tickets".to_owned(), "HR1003"),
        ] {
            show::question(&ours.name, &sql);
            match show::ask(session, &sql).await {
                Ok(_) => bail!("that had to be denied"),
                Err(error) => {
                    show::error(&error);
                    let detail = error.as_db_error().and_then(|db| db.detail()).unwrap_or_default();
                    ensure!(detail.starts_with(code), "that had to be denied with {code}");
                }
            }
        }
        drop(sessions);

        let audit = self.files.join("audit");
        show::heading("The record: hedgerow audit search --decision deny");
        let mut search = hedgerow("audit")?;
        search.arg("search").arg(&audit).args(["--decision", "deny"]);
        show::output(&finished("hedgerow audit search", &search.output()?, &[0])?);
        show::heading("The record holds: hedgerow audit verify --open");
        let mut verify = hedgerow("audit")?;
        verify.arg("verify").arg(&audit).arg("--open");
        show::output(&finished("hedgerow audit verify", &verify.output()?, &[0])?);
        Ok(())
    }

    fn print_connections(&self) {
        show::heading("It stays up until Ctrl-C. Connect as");
        for tenant in &self.tenants {
            println!(
                "\n# {}\nPGPASSWORD={} psql \"host=127.0.0.1 port={} user=anyone dbname={DATABASE}\"",
                tenant.name, tenant.token, self.listen
            );
        }
        println!(
            "\nThe configuration is {}, audit files are beside it.\nThe tokens are good for {} hours.",
            self.configuration(),
            TOKEN_SECONDS / 3600
        );
    }

    /// Stops the proxy as an orchestrator would and looks at how it went.
    fn end(mut self) -> anyhow::Result<()> {
        let status = self.proxy.stop()?;
        ensure!(
            status.success(),
            "hedgerow serve did not end well ({status})\n{}",
            self.proxy.log()
        );
        let audit = self.files.join("audit");
        let verified = hedgerow("audit")?.arg("verify").arg(&audit).output()?;
        finished("hedgerow audit verify", &verified, &[0])?;
        println!("\nThe proxy stopped cleanly; its audit files are closed and verify.");
        if self.kept {
            println!("Configuration and audit files are in {}.", self.files.display());
        }
        Ok(())
    }
}

struct Passwords {
    owner: String,
    application: String,
}

/// Makes roles and database, and loads schema and rows as their owner.
async fn load_data(server: &Server, passwords: &Passwords) -> anyhow::Result<()> {
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
async fn tenants(
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
fn write_files(
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

fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| path.display().to_string())
}

fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
}

/// `count` random bytes as hexadecimal digits.
fn random_hex(count: usize) -> anyhow::Result<String> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// This same binary, with a subcommand and without our own settings.
fn hedgerow(subcommand: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // The twins of our own flags would be taken for the subcommand's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEDGEROW_") {
            command.env_remove(name);
        }
    }
    command.arg(subcommand).stdin(Stdio::null());
    Ok(command)
}

/// A program's standard output, if it ended with one of `expected`.
fn finished(what: &str, output: &std::process::Output, expected: &[i32]) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code().is_some_and(|code| expected.contains(&code)) {
        return Ok(text);
    }
    bail!("{what} ({}):\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn last_lines(text: &str, count: usize) -> &str {
    let from = text.trim_end().rmatch_indices('\n').nth(count - 1).map_or(0, |(at, _)| at + 1);
    text.get(from..).unwrap_or(text)
}

/// The server's words: `tokio_postgres::Error` alone says `db error`.
fn in_words(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => anyhow::anyhow!(
            "{} ({}) {}",
            db.message(),
            db.code().code(),
            db.detail().unwrap_or_default()
        ),
        None => error.into(),
    }
}

/// `hedgerow serve`; dropping it stops it.
struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Proxy {
    fn start(files: &Path) -> anyhow::Result<Self> {
        let log = files.join("hedgerow.log");
        let output = fs::File::create(&log)?;
        let child = hedgerow("serve")?
            .arg("--config")
            .arg(files.join("hedgerow.yaml"))
            .stdout(output.try_clone()?)
            .stderr(output)
            // Its own process group: Ctrl-C is for us, who stop things in order.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// The end of its log.
    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        last_lines(&text, 20).to_owned()
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// SIGTERM, some patience, then SIGKILL.
    fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let kill = format!("kill -TERM {}", self.child.id());
        Command::new("/bin/sh").args(["-c", &kill]).status()?;
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("hedgerow serve could not be stopped: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
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
