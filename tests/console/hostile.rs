//! Records hold attackers' text; requests come from other sites.

use hedgerow::audit::Event;
use hedgerow::error::{Denial, DenialCode};
use jiff::Timestamp;

use crate::audit_data::{Dice, event, with_statement};
use crate::site::{Site, command, write};

/// What must never reach a page as it is.
pub const PAYLOADS: &[&str] = &[
    "<script>document.title='pwned'</script>",
    "\"><img src=x onerror=\"document.title='pwned'\">",
    "'-alert(1)-'</td></table><svg onload=alert(1)>",
    "</code></pre></title><iframe srcdoc='<script>top.document.title=1</script>'>",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}&lt;b&gt;",
];

/// Events with a payload in every field that a client fills.
pub fn hostile() -> Vec<Event> {
    PAYLOADS
        .iter()
        .map(|payload| {
            let mut one = event(&mut Dice(1), Timestamp::now(), payload, payload)
                .denied(&Denial::of(DenialCode::RelationDenied, *payload));
            with_statement(&mut one, "select", &format!("SELECT {payload}"));
            one.fingerprint = Some((*payload).into());
            one.subject = Some((*payload).into());
            one.session = Some((*payload).into());
            one.client_user = Some((*payload).into());
            one.token_id = Some((*payload).into());
            one.issuer = Some((*payload).into());
            one.message = Some((*payload).into());
            one.database = Some((*payload).into());
            one
        })
        .collect()
}

#[test]
fn no_page_holds_a_clients_markup() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("audit"), hostile());
    let site = Site::over(root.path());
    let home = site.until_home_says("1 chain intact");
    let mut pages: Vec<String> =
        ["/", "/?by=statement", "/?show=all", "/sources"].map(String::from).into();
    pages.push("/rows?after=0.0.0".to_owned());
    pages.extend(home.links("/record/"));
    pages.extend(home.links("/?"));
    for payload in PAYLOADS {
        let encoded: String = payload.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for name in
            ["q", "tenant", "service", "fp", "since", "until", "code", "source", "by", "show"]
        {
            pages.push(format!("/?{name}={encoded}"));
        }
        pages.push(format!("/record/{encoded}/1/1"));
    }
    assert!(pages.len() > 60);
    for path in pages {
        let page = site.get(&path);
        let lower = page.body.to_lowercase();
        for markup in
            ["<img", "<iframe", "onerror=\"", "<script>", "<svg onload", "href=\"javascript:"]
        {
            assert!(!lower.contains(markup), "{path} holds {markup}");
        }
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert!(!lower.contains("style=\"") && !lower.contains("<style"), "{path}: inline style");
        for outside in ["http://", "https://"] {
            for attribute in ["src=\"", "href=\"", "action=\""] {
                assert!(!lower.contains(&format!("{attribute}{outside}")), "{path} asks outside");
            }
        }
    }
}

#[test]
fn a_spreadsheet_takes_no_cell_of_an_export_for_a_formula() {
    let root = tempfile::tempdir().unwrap();
    let formulas = [
        "=HYPERLINK(\"http://evil.example\")",
        "+1+1",
        "-2",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "＝1",
        "x;=1",
    ];
    let events = formulas.iter().map(|formula| {
        let one = event(&mut Dice(1), Timestamp::now(), formula, formula);
        one.denied(&Denial::of(DenialCode::Function, *formula))
    });
    write(&root.path().join("audit"), events.collect());
    let site = Site::over(root.path());
    site.until_home_says("1 chain intact");
    let csv = site.get("/export.csv").body;
    assert_eq!(csv.matches("HR1005").count(), formulas.len());
    for line in csv.lines() {
        // A semicolon too ends a cell where that is the separator.
        for cell in line.split([',', ';']) {
            let cell = cell.trim_start_matches('"').trim_start_matches(' ');
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '＝']), "{cell:?}");
        }
    }
}

#[test]
fn a_command_that_a_page_offers_runs_nothing_but_itself() {
    let root = tempfile::tempdir().unwrap();
    let statement = "--config=/tmp/evil '; touch pwned; '\u{3}\ntouch pwned\u{1b}[201~";
    let mut one = event(&mut Dice(1), Timestamp::now(), "orders-api", "--help' -x")
        .denied(&Denial::of(DenialCode::RelationDenied, "vault"));
    with_statement(&mut one, "select", statement);
    write(&root.path().join("audit"), vec![one]);
    let site = Site::over(root.path());
    site.until_home_says("1 chain intact");
    let page = site.get(&site.get("/").links("/record/").remove(0)).body;
    let command = page.split("<pre class=\"command\"").nth(1).expect("a command is offered");
    let command = command.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    let command = command.replace("&#39;", "'").replace("&#38;", "&").replace("&amp;", "&");
    assert!(!command.chars().any(char::is_control), "{command:?}");
    // What a shell makes of it, a line a word.
    let script = format!("hedgerow() {{ printf '%s\\0' \"$@\"; }}; {command}");
    let mut shell = std::process::Command::new("bash");
    let output = shell.args(["-c", &script]).current_dir(root.path()).output().unwrap();
    let words: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().split('\0').collect();
    assert!(!root.path().join("pwned").exists());
    let tenant = "--tenant=--help' -x";
    let wanted = ["explain", "--config", "hedgerow.yaml", tenant, "--", statement, ""];
    assert_eq!(words, wanted);
}

#[test]
fn other_sites_and_names_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("audit"), hostile());
    let site = Site::over(root.path());
    let ask = |headers: &str| site.ask("GET", "/", headers, "").status;
    assert_eq!(ask("Host: evil.example\r\n"), 421, "DNS rebinding");
    assert_eq!(ask("Host: evil.example:9188\r\n"), 421);
    assert_eq!(ask("Host: localhost:9188\r\n"), 200);
    assert_eq!(ask("Host: [::1]:9188\r\n"), 200);
    assert_eq!(ask("Host: 127.0.0.1\r\nHost: evil.example\r\n"), 400);
    let fetch =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n";
    assert_eq!(ask(fetch), 403);
    let link =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(ask(link), 200, "a link in a ticket leads here");
    let frame =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n";
    assert_eq!(ask(frame), 403);
    assert_eq!(site.ask("POST", "/", "", "x=1").status, 405);
    let answer = site.get("/");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value);
    }
}

#[test]
fn an_address_that_others_reach_needs_sign_in() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = command(&["--audit", path, "--listen", listen]);
        assert_eq!(refused.status.code(), Some(2), "{listen}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("--require-claim"), "{said}");
    }
    let missing = command(&["--audit", "/nonexistent", "--listen", "127.0.0.1:0"]);
    assert_eq!(missing.status.code(), Some(2));
}
