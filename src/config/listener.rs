//! Listening addresses: their form, TLS beyond loopback, two listeners on one. Layer 6.

use std::net::SocketAddr;

use super::ServerTls;
use super::file::ServerTlsFile;
use super::refer::Checker;
use crate::yaml::quoted;
use crate::yaml::read::{At, Present};

/// Reads `address:port`; `localhost` is 127.0.0.1. `None` when it has another form.
pub fn address(listen: &At<String>, check: &mut Checker<'_>) -> Option<SocketAddr> {
    let text = match listen.value.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => listen.value.clone(),
    };
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    check.fault(
        &listen.at,
        format!(
            "{} is not an address with a port, such as `127.0.0.1:6432` or `[::1]:6432`",
            quoted(&listen.value)
        ),
    );
    None
}

/// The listener's certificate, which every address but loopback needs: tokens travel over it.
pub fn tls(
    listen: Option<(&At<String>, SocketAddr)>,
    tls: Option<Present<ServerTlsFile>>,
    check: &mut Checker<'_>,
) -> Option<ServerTls> {
    match (tls, listen) {
        (Some(Present(tls)), _) => tls.and_then(|tls| check.server_tls(tls)),
        (None, Some((listen, address))) if !address.ip().is_loopback() => {
            let message = format!(
                "{} can be reached from other machines: `tls` with `cert_file` and `key_file` \
                 is required, or listen on 127.0.0.1",
                quoted(&listen.value)
            );
            check.fault(&listen.at, message);
            None
        }
        (None, _) => None,
    }
}

/// Two listeners may not have the same address.
pub fn distinct(listeners: &[(&str, &At<String>, SocketAddr)], check: &mut Checker<'_>) {
    for (index, (name, at, address)) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(index);
        if address.port() != 0
            && let Some((first, ..)) = earlier.find(|(_, _, other)| other == address)
        {
            check.fault(&at.at, format!("`{name}` and `{first}` have the same address"));
        }
    }
}
