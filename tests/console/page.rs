//! What an auditor reads, filters, finds and takes along.

use std::time::Duration;

use hedgerow::audit::{Audit, Event, RelationRule, Settings};
use hedgerow::error::{Denial, DenialCode};
use jiff::Timestamp;

use crate::audit_data::{Dice, event, with_statement};
use crate::site::{Site, block_on, write};

fn denial(seconds_ago: i64, tenant: &str, code: DenialCode, object: &str, text: &str) -> Event {
    let at = Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
    let mut one = event(&mut Dice(7), at, "orders-api", tenant).denied(&Denial::of(code, object));
    with_statement(&mut one, "select", text);
    one
}

fn world() -> (tempfile::TempDir, Site, Vec<Event>) {
    let root = tempfile::tempdir().unwrap();
    let mut allowed = event(&mut Dice(7), Timestamp::now(), "orders-api", "acme");
    with_statement(&mut allowed, "select", "SELECT * FROM orders WHERE id = $1");
    allowed.relations =
        [RelationRule { relation: "public.orders".into(), rule: "public.o*".into() }].into();
    let events = vec![
        denial(7200, "acme", DenialCode::UnknownRelation, "tickets", "SELECT * FROM tickets"),
        denial(3600, "globex", DenialCode::RelationDenied, "vault", "SELECT key FROM vault"),
        denial(60, "acme", DenialCode::UnknownRelation, "tickets", "SELECT * FROM tickets"),
        allowed,
    ];
    write(&root.path().join("sidecar-a"), events[..2].to_vec());
    write(&root.path().join("sidecar-b"), events[2..].to_vec());
    let site = Site::over(root.path());
    site.until_home_says("2 chains intact");
    (root, site, events)
}

#[test]
fn denials_of_all_sidecars_stand_newest_first_with_their_counts() {
    let (_root, site, _) = world();
    let home = site.get("/");
    assert_eq!(home.status, 200);
    let records = home.body.split("data-rows").nth(1).unwrap();
    let places: Vec<usize> =
        ["acme", "globex"].iter().map(|tenant| records.find(tenant).unwrap()).collect();
    assert!(places[0] < places[1], "acme's is newer");
    assert_eq!(records.matches("<tr class=\"row").count(), 3);
    assert_eq!(records.matches("<tr class=\"row crosses").count(), 1, "HR1004 stands out");
    assert!(home.body.contains("<span class=\"value\">3</span><span class=\"name\">denied"));
    assert!(home.body.contains("<span class=\"value\">1</span><span class=\"name\">cross-tenant"));
    for part in ["By tenant", "By rule", "By service", "Denied by ", "<title id=\"plot-title\">"] {
        assert!(home.body.contains(part), "{part}");
    }
    assert!(!records.contains("FROM orders WHERE id"), "what was allowed is elsewhere");
}

#[test]
fn filters_are_links_and_narrow_what_is_shown() {
    let (_root, site, _) = world();
    let home = site.get("/");
    for (link, rows) in [
        ("/?tenant=acme", 2),
        ("/?code=HR1004", 1),
        ("/?service=orders-api", 3),
        ("/?show=cross-tenant", 1),
        ("/?since=1h", 1),
        ("/?show=all", 10),
    ] {
        if !link.contains("since") && !link.contains("all") {
            assert!(home.links("/?").contains(&link.to_owned()), "{link}: {:?}", home.links("/?"));
        }
        let answer = site.get(link);
        let shown = answer.body.matches("data-row>").count();
        // All: two openings, four events, two checkpoints, and what the writer says of its key.
        if link == "/?show=all" {
            assert!(shown >= 8, "{shown}");
        } else {
            assert_eq!(shown, rows, "{link}");
        }
    }
    for (link, nothing) in [
        ("/?tenant=nobody", "No"),
        ("/?tenant=acme&code=HR1004", "No"),
        ("/?since=yesterday", "is neither a time"),
    ] {
        let answer = site.get(link);
        assert_eq!(answer.body.matches("data-row>").count(), 0, "{link}");
        assert!(answer.body.contains(nothing), "{link}");
    }
    let grouped = site.get("/?by=statement");
    assert_eq!(grouped.body.matches("data-row>").count(), 2, "two statements");
    assert!(grouped.body.contains("SELECT * FROM tickets") && grouped.body.contains("First seen"));
}

#[test]
fn a_search_finds_text_and_a_records_id_leads_to_the_record() {
    let (_root, site, events) = world();
    assert_eq!(site.get("/?q=VAULT").body.matches("data-row>").count(), 1);
    assert_eq!(site.get("/?q=hedgerow.audit").body.matches("data-row>").count(), 0);
    // The id of an allowed record, as a client may quote it.
    let answer = site.get(&format!("/?q={}", events[3].id));
    assert_eq!(answer.status, 303);
    let record = site.get(&answer.header("location"));
    assert!(record.body.contains("SELECT * FROM orders WHERE id = $1"));
    assert!(record.body.contains("public.o*"), "the rule that applied");
}

#[test]
fn a_records_page_says_why_and_whether_it_holds() {
    let (_root, site, _) = world();
    let link = site.get("/?code=HR1004").links("/record/").remove(0);
    let page = site.get(&link);
    assert_eq!(page.status, 200);
    for part in [
        "The relation is not available to tenants",
        "The policy denies this relation to every tenant",
        "SELECT key FROM vault",
        "speaks for globex",
        "Nothing was sent",
        "hedgerow explain --config hedgerow.yaml",
        "a signed checkpoint vouches",
        "https://auth.example.com/",
        "Hash of the one before",
        "policy epoch 7",
    ] {
        assert!(page.body.contains(part), "{part}");
    }
    let raw = site.get(&format!("{link}/raw"));
    assert!(raw.header("content-disposition").starts_with("attachment"));
    assert!(raw.body.starts_with('{') && raw.body.contains("HR1004"));
    let session = site.get(&site.get("/?tenant=acme").links("/record/").remove(0));
    assert!(session.body.contains("In the same session"));
    for nowhere in
        ["/record/nobody/1/1", "/record/x/y/z", "/nothing", "/record/../../etc/passwd/1/1"]
    {
        assert!(matches!(site.get(nowhere).status, 400 | 404), "{nowhere}");
    }
}

#[test]
fn exports_hold_the_records_of_the_filter() {
    let (root, site, _) = world();
    let json = site.get("/export.jsonl?tenant=acme");
    let lines: Vec<&str> = json.body.lines().collect();
    assert_eq!(lines.len(), 2);
    let mut files = String::new();
    for sidecar in ["sidecar-a", "sidecar-b"] {
        for file in std::fs::read_dir(root.path().join(sidecar)).unwrap().flatten() {
            if file.path().extension().is_some_and(|end| end == "jsonl") {
                files.push_str(&std::fs::read_to_string(file.path()).unwrap());
            }
        }
    }
    for line in lines {
        assert!(files.lines().any(|kept| kept == line), "byte for byte as in the file");
    }
    let csv = site.get("/export.csv?code=HR1004");
    assert!(csv.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = csv.body.split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "a header and a record");
    assert!(lines[0].starts_with("time,sequence,chain") && lines[1].contains("globex"));
    assert_eq!(site.get("/export.csv?since=never").status, 400);
}

#[test]
fn new_records_show_by_themselves() {
    let (root, site, _) = world();
    let home = site.get("/");
    let newest = home.body.split("data-newest=\"").nth(1).unwrap().split('"').next().unwrap();
    let newest = newest.to_owned();
    block_on(async {
        let audit = Audit::open(Settings::new(root.path().join("sidecar-a"))).unwrap();
        let fresh = denial(0, "initech", DenialCode::Function, "pg_sleep", "SELECT pg_sleep($1)");
        audit.permit().unwrap().record_durable(fresh).await.unwrap();
        let path = format!("/rows?after={newest}");
        site.until("the record comes", || site.get(&path).body.contains("pg_sleep"));
        let rows = site.get(&path);
        assert_eq!(rows.body.matches("data-row>").count(), 1);
        let next = rows.header("x-newest");
        let later = site.get(&format!("/rows?after={next}"));
        assert!(!later.body.contains("pg_sleep"), "once");
        assert!(!site.get(&format!("/rows?tenant=acme&after={newest}")).body.contains("pg_sleep"));
        assert_eq!(site.get("/rows").status, 400);
        audit.close().await;
    });
    site.until_home_says("2 chains intact");
}

#[test]
fn a_large_trail_is_paged_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let end = Timestamp::now();
    let span = Duration::from_secs(86_400);
    block_on(crate::audit_data::write(root.path(), 4_000, span, end, 300_000));
    let site = Site::over(root.path());
    site.until_home_says("4 chains intact");
    let (mut link, mut seen) = ("/?show=all".to_owned(), 0);
    let mut last = String::from("9");
    loop {
        let page = site.get(&link);
        for time in page.body.split("<time datetime=\"").skip(1) {
            let time = time.split('"').next().unwrap().to_owned();
            assert!(time <= last, "newest first: {time} after {last}");
            last = time;
            seen += 1;
        }
        let next = page.body.split("rel=\"next\" href=\"").nth(1);
        let Some(next) = next.and_then(|part| part.split('"').next()) else { break };
        link = next.replace("&#38;", "&");
    }
    let exported = site.get("/export.jsonl?show=all").body.lines().count();
    assert_eq!(seen, exported);
    assert!(seen > 4_000, "{seen}");
    let small = Site::start(&[
        "--audit",
        root.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--memory",
        "100KiB",
    ]);
    let home = small.until_home_says("4 chains intact");
    assert!(home.body.contains("bound of memory is reached"), "and says so");
}
