//! `hedgerow demo`: the whole of it on one terminal, with a throw-away PostgreSQL. Layer 6.
//!
//! It uses what an operator uses: a configuration file, policy files, and this same binary's
//! `rls`, `serve` and `audit`. What it starts, it stops; what it writes, it removes, but for the
//! directory that `--dir` names. It fails aloud: a statement that must be denied and is not ends
//! the demo with an error.

mod program;
mod server;
mod setup;
mod show;
mod token;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use self::program::{PATIENCE, Proxy, finished, hedgerow, last_lines};
use self::server::{Scratch, Server, free_port};
use self::setup::{
    OWNER, Passwords, TOKEN_SECONDS, Tenant, load_data, private_directory, tenants, write_files,
};
use crate::catalog_load::{Session, connect};
use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};

/// The demo's database.
const DATABASE: &str = "demo";

/// What the command line says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DemoArgs {
    /// End after the show instead of staying up
    #[arg(long, env = "HEDGEROW_ONCE", value_parser = super::flag)]
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
            if let Some(status) = self.proxy.exited()? {
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
            channel_binding: Binding::Prefer,
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
        println!(
            "The auditors' page: hedgerow console --audit {} --config {}",
            self.files.join("audit").display(),
            self.configuration()
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

/// `count` random bytes as hexadecimal digits.
fn random_hex(count: usize) -> anyhow::Result<String> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
