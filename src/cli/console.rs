//! `hedgerow console`: arguments in, the auditors' page out. Layer 6.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{ConfigArgs, ERROR, Global, explain, log};
use crate::audit::TrustedKeys;
use crate::config::Loaded;
use crate::console::{Access, Built, RequiredClaim, Server, Settings, SignIn};
use crate::keys::Authenticator;

/// Stack of a thread that reads statements: parsing nests.
const STACK_BYTES: usize = 32 << 20;

const AFTER_HELP: &str = "\
Examples:
  hedgerow console --audit /var/lib/hedgerow/audit
  hedgerow console --audit /collected/orders-0 /collected/orders-1 --public-key audit-key.pem
  hedgerow console --audit /collected --config hedgerow.yaml

Each PATH is a segment file, a directory of them, or a directory of such directories. The files are
only read, and followed as they grow. Open http://127.0.0.1:9188 for the page.

Without --public-key the key that lies beside the records is used, which is to trust whoever can
write there. With --config a record's page shows what its statement becomes under the policies.

On a loopback address whoever reaches it may look. On any other address people sign in with a JWT:
  hedgerow console --audit /collected --listen 0.0.0.0:9188 --config hedgerow.yaml \\
    --require-claim role=auditor --tls-cert-file tls.crt --tls-key-file tls.key --host audit.example.com
The token passes the rules of `identity` in the configuration, and holds the claim (or a list with
it). --plain-http in place of the certificate says that a proxy in front ends TLS.";

/// Show audit files on a web page
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ConsoleArgs {
    /// Segment files, or directories of them
    #[arg(long, env = "HEDGEROW_AUDIT", value_name = "PATH", num_args = 1.., required = true)]
    pub audit: Vec<PathBuf>,
    /// Where to serve the page
    #[arg(long, env = "HEDGEROW_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9188")]
    pub listen: SocketAddr,
    /// Trust the Ed25519 public keys in this PEM file, and no others
    #[arg(long, env = "HEDGEROW_PUBLIC_KEY", value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// The configuration file: token rules for signing in, policies to explain statements by
    #[arg(long, env = "HEDGEROW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Who may look signs in with a token that holds this claim; needed beyond loopback
    #[arg(
        long,
        env = "HEDGEROW_REQUIRE_CLAIM",
        value_name = "PATH=VALUE[,VALUE]",
        value_parser = RequiredClaim::parse,
        requires = "config"
    )]
    pub require_claim: Option<RequiredClaim>,
    /// A name under which the page is reached, besides addresses and localhost; may be repeated
    #[arg(long, env = "HEDGEROW_HOST", value_name = "NAME", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Certificate chain of the page, PEM
    #[arg(long, env = "HEDGEROW_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "HEDGEROW_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// A proxy in front ends TLS: tokens may come over plain HTTP
    #[arg(long, env = "HEDGEROW_PLAIN_HTTP", value_parser = super::flag)]
    pub plain_http: bool,
    /// Bound of the index in memory; over it the oldest records are left in their files
    #[arg(
        long,
        env = "HEDGEROW_MEMORY",
        value_name = "SIZE",
        value_parser = size,
        default_value = "512MiB"
    )]
    pub memory: u64,
}

fn size(text: &str) -> Result<u64, String> {
    crate::units::parse_size(text).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: &ConsoleArgs, global: Global) -> ExitCode {
    let loaded = match &args.config {
        Some(config) => match (ConfigArgs { config: config.clone() }).load() {
            Ok(loaded) => Some(loaded),
            Err(code) => return code,
        },
        None => None,
    };
    log::start(global, loaded.as_ref().map_or_else(Default::default, |loaded| loaded.config.log));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let served =
        runtime.context("no runtime").and_then(|runtime| runtime.block_on(serve(args, loaded)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerow console: {error:#}");
            ExitCode::from(ERROR)
        }
    }
}

async fn serve(args: &ConsoleArgs, loaded: Option<Loaded>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for path in &args.audit {
        std::fs::metadata(path).with_context(|| path.display().to_string())?;
    }
    let keys = args.public_key.as_deref().map(TrustedKeys::read).transpose()?;
    let tls = tls(args)?;
    let access = access(args, loaded.as_ref(), tls.is_some()).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let settings = Settings {
        paths: args.audit.clone(),
        keys,
        memory: args.memory,
        listen: args.listen,
        hosts: args.host.clone(),
        access,
        tls,
        explainer: loaded.map(|loaded| explain::for_records(loaded)),
    };
    let server = Server::bind(settings).await.with_context(|| args.listen.to_string())?;
    println!("The console is on {scheme}://{}; Ctrl-C ends it.", server.local_addr()?);
    let progress = tokio::spawn(show_progress(server.built()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    progress.abort();
    stop.cancel();
    running.await.context("the server ended by itself")
}

/// Who may look. SECURITY: nothing but loopback is open without a token.
async fn access(args: &ConsoleArgs, loaded: Option<&Loaded>, tls: bool) -> anyhow::Result<Access> {
    let loopback = args.listen.ip().to_canonical().is_loopback();
    let (Some(required), Some(loaded)) = (&args.require_claim, loaded) else {
        if loopback {
            return Ok(Access::Loopback);
        }
        bail!(
            "{} is not a loopback address, so people must sign in: give --config hedgerow.yaml and \
             --require-claim PATH=VALUE (see `hedgerow console --help`)",
            args.listen
        );
    };
    ensure!(
        loopback || tls || args.plain_http,
        "{} is not a loopback address, and tokens must not travel in clear: give --tls-cert-file and \
         --tls-key-file, or --plain-http where a proxy in front ends TLS",
        args.listen
    );
    let authenticator = Authenticator::start(loaded.config.keys_settings()).await?;
    // Behind a proxy that ends TLS the browser still speaks TLS.
    let secure = tls || (args.plain_http && !loopback);
    Ok(Access::SignIn(Box::new(SignIn::new(authenticator, required.clone(), secure))))
}

fn tls(args: &ConsoleArgs) -> anyhow::Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&args.tls_cert_file, &args.tls_key_file) else {
        return Ok(None);
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| certificate.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| certificate.display().to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Tells how the index grows, until it is built.
async fn show_progress(built: impl Fn() -> Built + Send) {
    let terminal = std::io::stderr().is_terminal();
    let began = std::time::Instant::now();
    let mut shown = false;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let Built { bytes: (done, total), records, complete } = built();
        if complete {
            let seconds = began.elapsed().as_secs_f64();
            if shown && terminal {
                eprint!("\r\x1b[K");
            }
            eprintln!("indexed {records} records in {seconds:.1} s; now verifying their chains");
            return;
        }
        if terminal && total > 0 {
            shown = true;
            eprint!("\rreading: {:3} %, {records} records", done.saturating_mul(100) / total);
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }
}
