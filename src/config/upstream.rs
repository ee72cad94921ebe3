//! The `postgres.upstream` section → [`Endpoint`]. Layer 6.

use super::file::{BindingWord, TlsModeWord, UpstreamFile, UpstreamTlsFile};
use super::refer::Checker;
use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};
use crate::yaml::quoted;
use crate::yaml::read::{At, Present};

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

/// Checks the upstream; `None` when something is wrong with it.
pub fn upstream(file: UpstreamFile, check: &mut Checker<'_>) -> Option<Endpoint> {
    let host_at = file.host.at.clone();
    let password = password(&file, check);
    let local = is_this_machine(&file.host.value);
    if file.host.value.contains([',', ' ', '=']) {
        check.fault(&host_at, format!("{} is not one host name", quoted(&file.host.value)));
    }
    let (tls, channel_binding, ca_file, client_certificate) = match file.tls {
        Some(Present(Some(tls))) => tls_settings(tls, check),
        Some(Present(None)) => (TlsMode::VerifyFull, Binding::Prefer, None, None),
        None if local => (TlsMode::Disable, Binding::Prefer, None, None),
        None => (TlsMode::VerifyFull, Binding::Prefer, None, None),
    };
    if file.host.value.starts_with('/') && tls != TlsMode::Disable {
        check.fault(&host_at, "a Unix socket has no TLS: leave `tls` out, or `mode: disable`");
    }
    if !local && tls == TlsMode::Disable {
        check.warn(&host_at, "the upstream is another machine and `tls.mode` is `disable`");
    }
    Some(Endpoint {
        host: file.host.value,
        port: file.port.unwrap_or(DEFAULT_PORT),
        database: file.database,
        user: file.user,
        password,
        tls,
        channel_binding,
        ca_file,
        client_certificate,
    })
}

fn password(file: &UpstreamFile, check: &mut Checker<'_>) -> Option<Secret> {
    let sources = vec![
        ("password_file", file.password_file.clone()),
        ("password_env", file.password_env.clone()),
    ];
    let (source, value) = check.exactly_one(&file.host.at, true, sources)?;
    let value: At<String> = value?;
    let password = if source == "password_file" {
        check.secret_text(&value)?
    } else {
        let found = (check.environment)(&value.value);
        if found.is_none() {
            let message = format!("the environment variable {} is not set", quoted(&value.value));
            check.fault(&value.at, message);
        }
        found?
    };
    if password.is_empty() || password.contains('\0') {
        let message = format!("the password in {} is empty or holds a NUL", quoted(&value.value));
        check.fault(&value.at, message);
    }
    Some(Secret::new(password))
}

type TlsSettings = (
    TlsMode,
    Binding,
    Option<std::path::PathBuf>,
    Option<(std::path::PathBuf, std::path::PathBuf)>,
);

fn tls_settings(tls: UpstreamTlsFile, check: &mut Checker<'_>) -> TlsSettings {
    let mode = match tls.mode.value {
        TlsModeWord::Disable => TlsMode::Disable,
        TlsModeWord::Require => TlsMode::Require,
        TlsModeWord::VerifyCa => TlsMode::VerifyCa,
        TlsModeWord::VerifyFull => TlsMode::VerifyFull,
    };
    let binding = match &tls.channel_binding {
        None => Binding::Prefer,
        Some(word) => match word.value {
            BindingWord::Disable => Binding::Disable,
            BindingWord::Prefer => Binding::Prefer,
            BindingWord::Require => Binding::Require,
        },
    };
    if let (Some(word), Binding::Require, TlsMode::Disable) = (&tls.channel_binding, binding, mode)
    {
        check.fault(&word.at, "channel binding needs TLS: `mode` must not be `disable`");
    }
    let ca_file = tls.ca_file.and_then(|file| {
        if matches!(mode, TlsMode::Disable | TlsMode::Require) {
            let message = format!(
                "`ca_file` is of no use with `mode: {}`: write `verify-ca` or `verify-full`",
                tls.mode.value.word()
            );
            check.fault(&file.at, message);
        }
        check.certificates(&file)
    });
    let client = match (tls.cert_file, tls.key_file) {
        (Some(Present(cert)), Some(Present(key))) => {
            let cert = cert.and_then(|file| check.certificates(&file));
            let key = key.and_then(|file| check.private_key(&file));
            cert.zip(key)
        }
        (None, None) => None,
        (Some(Present(given)), None) | (None, Some(Present(given))) => {
            if let Some(given) = given {
                check.fault(&given.at, "`cert_file` and `key_file` belong together");
            }
            None
        }
    };
    if client.is_some() && mode == TlsMode::Disable {
        check.fault(&tls.mode.at, "a client certificate needs TLS: `mode` must not be `disable`");
    }
    (mode, binding, ca_file, client)
}

/// Whether the host can only be this machine.
fn is_this_machine(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
