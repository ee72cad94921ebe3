//! Who may look where people sign in.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::hostile::hostile;
use crate::site::{Site, write};

const ISSUER: &str = "https://auth.example.com/";

pub fn configuration(root: &Path) -> String {
    fs::write(root.join("secret"), "0123456789abcdef0123456789abcdef0123456789").unwrap();
    fs::create_dir(root.join("policies")).unwrap();
    fs::write(
        root.join("policies/shop.yaml"),
        "engine: postgres\nmode: enforce\ntenant: {column: tenant_id, type: text}\ntables:\n  \
         public.orders: {tenant: tenant_id}\n",
    )
    .unwrap();
    let file = root.join("hedgerow.yaml");
    fs::write(
        &file,
        format!(
            "identity:\n  tenant_claim: tenant_id\n  issuers:\n    - issuer: {ISSUER}\n      \
             audiences: [console]\n      algorithms: [HS256]\n      hmac_secret_file: secret\n\
             postgres:\n  listen: 127.0.0.1:6432\n  upstream: {{host: 127.0.0.1, port: 5432, user: app}}\n\
             policies: policies/\naudit: {{directory: own-audit}}\n"
        ),
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

fn token(root: &Path, claims: &str) -> String {
    let claims = format!(r#"{{"iss":"{ISSUER}","aud":"console","sub":"rosa"{claims}}}"#);
    let output = Command::new(env!("CARGO_BIN_EXE_hedgerow"))
        .args(["token", "--ttl", "10m", "--key"])
        .arg(root.join("secret"))
        .args(["--claims", &claims])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn nobody_sees_a_record_without_a_token_that_holds_the_claim() {
    let root = tempfile::tempdir().unwrap();
    let config = configuration(root.path());
    let audit = root.path().join("audit");
    write(&audit, hostile());
    let site = Site::start(&[
        "--audit",
        audit.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--config",
        &config,
        "--require-claim",
        "role=auditor",
    ]);
    for path in ["/", "/sources", "/?show=all"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.header("location").starts_with("/sign-in?next="));
    }
    let chain = audit_chain(&audit);
    for path in [
        "/rows?after=0.0.0".to_owned(),
        "/export.csv".to_owned(),
        "/export.jsonl".to_owned(),
        format!("/record/{chain}/1/2"),
        format!("/record/{chain}/1/2/raw"),
    ] {
        let answer = site.get(&path);
        assert!(matches!(answer.status, 303 | 401), "{path}: {}", answer.status);
        assert!(!answer.body.contains("HR1004"), "{path}");
    }
    let (good, poor) = (token(root.path(), r#","role":["auditor"]"#), token(root.path(), ""));
    let bearer = |token: &str, path: &str| {
        site.ask("GET", path, &format!("Authorization: Bearer {token}\r\n"), "")
    };
    assert_eq!(bearer(&poor, "/").status, 403, "the claim is missing");
    assert_eq!(bearer("nonsense", "/").status, 401);
    assert_eq!(bearer(&good, "/").status, 200);
    site.until("it is read", || bearer(&good, "/").body.contains("1 chain intact"));
    assert!(bearer(&good, "/export.csv").body.contains("HR1004"));

    let form = |token: &str| format!("token={token}&next=%2Fsources");
    let failed = site.ask("POST", "/sign-in", "", &form("a.b.c"));
    assert_eq!(failed.status, 401);
    assert!(failed.body.contains("HR2001") && failed.header("set-cookie").is_empty());
    let foreign = site.ask("POST", "/sign-in", "Origin: https://evil.example\r\n", &form(&good));
    assert_eq!(foreign.status, 403);
    let signed_in = site.ask("POST", "/sign-in", "", &form(&good));
    assert_eq!((signed_in.status, signed_in.header("location").as_str()), (303, "/sources"));
    let cookie = signed_in.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&good), "the token stays here");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let page = site.ask("GET", "/sources", &cookie, "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("rosa") && page.body.contains("Sign out"));
    assert_eq!(site.ask("POST", "/sign-out", &cookie, "").status, 303);
    assert_eq!(site.ask("GET", "/sources", &cookie, "").status, 303, "the session is over");
}

/// A certificate for 127.0.0.1 that signed itself: files `tls.crt` and `tls.key`.
fn certificate(root: &Path) {
    let file = |end: &str| root.join(format!("tls.{end}")).display().to_string();
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=console"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &file("key"), "-out", &file("crt")]);
    assert!(command.output().unwrap().status.success());
}

/// Asks over TLS, trusting that certificate alone: the answer, head and body.
fn ask_by_tls(site: &Site, root: &Path, request: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root.join("tls.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::IpAddress(site.address.ip().into());
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(site.address).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Some servers close without saying goodbye; what came is looked at by itself.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn over_tls_a_session_begins_with_the_claim_and_its_cookie_is_for_tls_alone() {
    let root = tempfile::tempdir().unwrap();
    let config = configuration(root.path());
    certificate(root.path());
    let audit = root.path().join("audit");
    write(&audit, hostile());
    let file = |name: &str| root.path().join(name).display().to_string();
    let site = Site::start_tls(&[
        "--audit",
        audit.to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
        "--config",
        &config,
        "--require-claim",
        "role=auditor,security",
        "--tls-cert-file",
        &file("tls.crt"),
        "--tls-key-file",
        &file("tls.key"),
    ]);
    let ask = |method: &str, path: &str, headers: &str, body: &str| {
        let length = body.len();
        let host = site.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        ask_by_tls(&site, root.path(), &request)
    };
    let refused = ask("GET", "/", "", "");
    assert!(refused.starts_with("HTTP/1.1 303") && refused.contains("/sign-in?next="), "{refused}");
    // Plain HTTP finds nobody there.
    let mut plain = TcpStream::connect(site.address).unwrap();
    plain.write_all(b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));

    let form = |token: &str| ask("POST", "/sign-in", "", &format!("token={token}&next=%2F"));
    let other = form(&token(root.path(), r#","role":"developer""#));
    assert!(other.starts_with("HTTP/1.1 401") && !other.contains("set-cookie"), "{other}");
    let good = form(&token(root.path(), r#","role":"security""#));
    assert!(good.starts_with("HTTP/1.1 303"), "{good}");
    let cookie = good.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.starts_with("__Host-hedgerow-console="), "{cookie}");
    for part in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let mut home = String::new();
    site.until("the records are read", || {
        home = ask("GET", "/", &cookie, "");
        home.contains("1 chain intact")
    });
    assert!(home.starts_with("HTTP/1.1 200") && home.contains("rosa"), "{home}");
    // What the live view asks for every two seconds.
    let rows = ask("GET", "/rows?after=0.0.0", &cookie, "");
    assert!(rows.starts_with("HTTP/1.1 200") && rows.contains("x-newest"), "{rows}");
    let without = ask("GET", "/rows?after=0.0.0", "", "");
    assert!(
        without.starts_with("HTTP/1.1 401") || without.starts_with("HTTP/1.1 303"),
        "{without}"
    );
}

#[test]
fn an_open_address_takes_no_token_in_clear_unless_told() {
    let root = tempfile::tempdir().unwrap();
    let config = configuration(root.path());
    let path = root.path().to_str().unwrap();
    let open = [
        "--audit",
        path,
        "--listen",
        "0.0.0.0:0",
        "--config",
        &config,
        "--require-claim",
        "role=auditor",
    ];
    let refused = crate::site::command(&open);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--tls-cert-file"));
}

#[test]
fn with_policies_the_rewritten_statement_stands_beside_the_original() {
    let root = tempfile::tempdir().unwrap();
    let config = configuration(root.path());
    let audit = root.path().join("audit");
    let mut one = crate::audit_data::event(
        &mut crate::audit_data::Dice(3),
        jiff::Timestamp::now(),
        "orders-api",
        "acme",
    );
    crate::audit_data::with_statement(&mut one, "select", "SELECT id FROM orders WHERE id = $1");
    write(&audit, vec![one]);
    let site = Site::start(&[
        "--audit",
        audit.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--config",
        &config,
    ]);
    site.until_home_says("1 chain intact");
    let page = site.get(&site.get("/?show=allowed&q=orders").links("/record/").remove(0)).body;
    let sent = page.split("guards marked").nth(1).expect("the rewritten side");
    assert!(sent.contains("<mark>") && sent.contains("tenant_id"), "{sent}");
    assert!(page.contains("Computed by this console"), "and says that it was computed");
}

fn audit_chain(directory: &Path) -> String {
    let name = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .find(|name| name.ends_with(".jsonl"))
        .unwrap();
    name.strip_prefix("audit-").unwrap().rsplit_once('-').unwrap().0.to_owned()
}
