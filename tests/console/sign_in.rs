//! Who may look where people sign in.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::hostile::hostile;
use crate::site::{Site, write};

const ISSUER: &str = "https://auth.example.com/";

fn configuration(root: &Path) -> String {
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
