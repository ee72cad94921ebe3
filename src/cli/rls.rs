//! `hedgerow rls`: the row-level security, roles and grants that follow from the policies, printed
//! or applied. Layer 6.
//!
//! Refuses a plan with holes: a policy whose column does not exist is an error, not a table left
//! out.

mod apply;
mod render;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use tokio_postgres::config::Host;

use super::Counts;
use crate::catalog_load::{connect, load};
use crate::claims::ClaimPath;
use crate::endpoint::{Endpoint, Secret, TlsMode};
use crate::policy::Policy;

/// What the command works on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The upstream, as the proxy signs in to it: its role is the one that the grants are for.
    pub upstream: Endpoint,
    /// The database.
    pub database: String,
    /// The policies.
    pub policy: Arc<Policy>,
    /// The session variable that carries the tenant claim, for example `app.current_tenant`.
    pub setting: String,
    /// All session variables, and the claim that each carries.
    pub variables: Vec<(String, ClaimPath)>,
}

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct RlsArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    pub config: PathBuf,
    /// Apply instead of print
    #[arg(long, env = "HEDGEROW_APPLY", value_parser = super::flag)]
    pub apply: bool,
    /// The database [default: that of the configuration]
    #[arg(long, value_name = "NAME", env = "HEDGEROW_DATABASE")]
    pub database: Option<String>,
    /// Sign in here instead of as the upstream's role: postgres://user:password@host:port/database
    /// (better in the environment, where other users do not see it)
    #[arg(long, value_name = "URL", env = "HEDGEROW_ADMIN_URL", hide_env_values = true)]
    pub admin_url: Option<String>,
    /// Sign in to the upstream as this role; its password is in HEDGEROW_ADMIN_PASSWORD
    #[arg(long, value_name = "ROLE", env = "HEDGEROW_ADMIN_USER")]
    pub admin_user: Option<String>,
}

impl RlsArgs {
    /// Leaves out what the environment says against the command line.
    ///
    /// # Errors
    /// Flags that exclude each other.
    pub(super) fn settle(&mut self, given: &ArgMatches) -> Result<(), String> {
        match super::one_of(given, "admin_user", "admin_url")? {
            Counts::First => self.admin_url = None,
            Counts::Other => self.admin_user = None,
            Counts::Given => {}
        }
        Ok(())
    }

    /// Prints or applies what follows from `policy`. `session_variables` and `tenant_claim` are the
    /// configuration's; `admin_password` is the environment's `HEDGEROW_ADMIN_PASSWORD`.
    ///
    /// # Errors
    /// No session variable that carries the tenant claim, and all that [`run`] refuses.
    pub async fn run(
        &self,
        upstream: &Endpoint,
        policy: &Arc<Policy>,
        session_variables: &[(String, ClaimPath)],
        tenant_claim: &ClaimPath,
        admin_password: Option<Secret>,
    ) -> anyhow::Result<()> {
        let (setting, _) =
            session_variables.iter().find(|(_, path)| path == tenant_claim).context(
                "no session variable carries the tenant claim: row-level security would not know \
                 the tenant; add one to postgres.session_variables, for example \
                 app.current_tenant: tenant_id",
            )?;
        let (admin, admin_database) = match (&self.admin_url, &self.admin_user) {
            (Some(url), _) => {
                let (endpoint, database) = admin_endpoint(url)?;
                (Some(endpoint), database)
            }
            (None, Some(user)) => {
                let user = user.clone();
                (Some(Endpoint { user, password: admin_password, ..upstream.clone() }), None)
            }
            (None, None) => (None, None),
        };
        let database = self.database.clone().or(admin_database).or(upstream.database.clone());
        let target = Target {
            upstream: upstream.clone(),
            database: database.context("the configuration names no database: --database")?,
            policy: Arc::clone(policy),
            setting: setting.clone(),
            variables: session_variables.to_vec(),
        };
        let text = run(&target, admin.as_ref(), self.apply).await?;
        std::io::stdout().write_all(text.as_bytes()).context("standard output")
    }
}

/// Prints the script for `target`, or applies it, signed in as `admin` (or as the upstream's own
/// role). The text is for standard output.
///
/// # Errors
/// No connection, a policy that does not fit the schema, or missing privileges.
pub async fn run(target: &Target, admin: Option<&Endpoint>, apply: bool) -> anyhow::Result<String> {
    let endpoint = admin.unwrap_or(&target.upstream);
    let catalog = load(endpoint, &target.database).await?;
    let variables = render::Variables { tenant: &target.setting, claims: &target.variables };
    let plan = render::plan(&catalog, &target.policy, variables, &target.upstream.user).map_err(
        |errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the policies do not fit the schema:\n  {}", lines.join("\n  "))
        },
    )?;
    if !apply {
        return Ok(plan.script());
    }
    let mut session = connect(endpoint, &target.database).await?;
    let outcome = apply::apply(&mut session, &plan).await.with_context(|| {
        format!(
            "nothing was changed (signed in as {}; --admin-url names another role)",
            endpoint.user
        )
    })?;
    let mut report = String::new();
    for change in &outcome.changes {
        let _ = writeln!(report, "changed  {change}");
    }
    for warning in &outcome.warnings {
        let _ = writeln!(report, "warning  {warning}");
    }
    let _ = match outcome.changes.len() {
        0 => writeln!(report, "nothing to change: the database has all that the policies ask for"),
        1 => writeln!(report, "1 change made"),
        changes => writeln!(report, "{changes} changes made"),
    };
    Ok(report)
}

/// An administrator's connection from `postgres://user:password@host:port/database?sslmode=…`, and
/// the database that it names.
///
/// # Errors
/// A URL that cannot be read, several hosts, an `sslmode` that may fall back to clear text.
pub fn admin_endpoint(url: &str) -> anyhow::Result<(Endpoint, Option<String>)> {
    // libpq's verifying modes are ours; the driver's parser does not know them.
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut tls, mut ca_file, mut rest) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", "disable")) => tls = Some(TlsMode::Disable),
            Some(("sslmode", "require")) => tls = Some(TlsMode::Require),
            Some(("sslmode", "verify-ca")) => tls = Some(TlsMode::VerifyCa),
            Some(("sslmode", "verify-full")) => tls = Some(TlsMode::VerifyFull),
            Some(("sslmode", other)) => {
                bail!("sslmode={other}: use disable, require, verify-ca or verify-full")
            }
            Some(("sslrootcert", path)) => ca_file = Some(path.into()),
            _ => rest.push(pair),
        }
    }
    let url = format!("{address}?{}", rest.join("&"));
    // The driver's error may quote the URL, and the URL holds a password.
    let Ok(config) = url.parse::<tokio_postgres::Config>() else {
        bail!("the administrator's URL cannot be read: postgres://user:password@host:port/database")
    };
    let [host] = config.get_hosts() else { bail!("the administrator's URL must name one host") };
    let (host, local) = match host {
        Host::Tcp(name) => {
            (name.clone(), matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"))
        }
        Host::Unix(directory) => (directory.display().to_string(), true),
    };
    // Without an sslmode: clear text stays on this machine.
    let default_tls = if local { TlsMode::Disable } else { TlsMode::VerifyFull };
    let password = config.get_password().map(String::from_utf8_lossy);
    let endpoint = Endpoint {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        database: config.get_dbname().map(str::to_owned),
        user: config.get_user().context("the administrator's URL must name a user")?.to_owned(),
        password: password.map(|password| Secret::new(password.into_owned())),
        tls: tls.unwrap_or(default_tls),
        channel_binding: crate::endpoint::Binding::Prefer,
        ca_file,
        client_certificate: None,
    };
    let database = endpoint.database.clone();
    Ok((endpoint, database))
}

#[cfg(test)]
mod tests;
