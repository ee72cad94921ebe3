//! Personal fields that are sealed: the console has no keys, and says so.

use hedgerow::audit::personal::Places;
use hedgerow::audit::{Audit, Settings};
use hedgerow::error::{Denial, DenialCode};
use jiff::Timestamp;

use crate::audit_data::{Dice, event};
use crate::site::{Site, block_on};

#[test]
fn sealed_fields_are_said_to_be_sealed_on_every_page_and_in_every_export() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    block_on(async {
        let mut settings = Settings::new(&directory);
        settings.personal = Some(Places::beside(&directory, None));
        let audit = Audit::open(settings).unwrap();
        for number in 0..3 {
            let mut one = event(&mut Dice(number), Timestamp::now(), "orders-api", "acme")
                .denied(&Denial::of(DenialCode::RelationDenied, "vault"));
            one.subject = Some("alice@acme.example".into());
            one.token_id = Some("token-of-alice".into());
            one.client_user = Some("alice-at-home".into());
            audit.permit().unwrap().record_durable(one).await.unwrap();
        }
        audit.close().await;
    });
    let site = Site::over(&directory);
    let home = site.until_home_says("1 chain intact");
    let link = home.links("/record/").remove(0);
    let page = site.get(&link);
    assert!(page.body.contains("<dt>Subject</dt><dd>[sealed]</dd>"), "and no link to search by");
    assert!(page.body.contains("sealed under a key of the tenant"), "{}", page.body);
    assert!(page.body.contains("<dt>Tenant</dt><dd><a"), "the tenant stays readable");
    let csv = site.get("/export.csv").body;
    assert_eq!(csv.matches("[sealed]").count(), 4 * 3, "{csv}");
    let lines = site.get("/export.jsonl").body;
    assert_eq!(lines.matches("\"sealed\":").count(), 3, "as they are in the files");
    for path in ["/", "/?by=statement", "/?show=all", "/sources", &link, "/?q=alice"] {
        assert!(!site.get(path).body.contains("alice@acme"), "{path}");
    }
    for export in [csv, lines, site.get(&format!("{link}/raw")).body] {
        assert!(!export.contains("alice"), "{export}");
    }
}

#[test]
fn a_record_in_clear_is_not_said_to_be_sealed() {
    let root = tempfile::tempdir().unwrap();
    let one = event(&mut Dice(1), Timestamp::now(), "orders-api", "acme")
        .denied(&Denial::of(DenialCode::RelationDenied, "vault"));
    crate::site::write(&root.path().join("audit"), vec![one]);
    let site = Site::over(root.path());
    let home = site.until_home_says("1 chain intact");
    let page = site.get(&home.links("/record/").remove(0));
    assert!(!page.body.contains("sealed"), "{}", page.body);
}
