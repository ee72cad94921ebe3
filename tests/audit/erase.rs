//! Personal fields: sealed in the files, readable while the tenant's key exists, then never again.

use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::{Options, command};
use crate::support::{TENANT_A, TENANT_B, process};
use crate::trail::segments;

/// The subject of both tenants' tokens.
const SUBJECT: &str = "user-1";

#[test]
fn an_erased_tenants_personal_fields_are_gone_and_the_chain_still_verifies() {
    let options =
        Options { audit_extra: "  seal_personal: true\n".to_owned(), ..Options::new(POLICY) };
    let world = World::with(&options);
    let (mut a, mut b) = (world.a(), world.b());
    assert!(a.query("SELECT * FROM vault").denied());
    assert!(b.query("SELECT * FROM vault").denied());
    let audit = world.hedgerow.audit_directory();
    let text = || -> String {
        segments(&audit).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    };
    for personal in [SUBJECT, "\"application\"", "127.0.0.1"] {
        // The upstream's address is not the client's.
        let there = text().replace("\"ip\":\"127.0.0.1\"", "").contains(personal);
        let upstream = personal == "127.0.0.1";
        assert!(upstream || !there, "{personal} is in the files in clear");
    }
    assert!(text().contains("\"sealed\"") && !text().contains("\"client_address\""));
    let search = |tenant: &str, format: &str| {
        let path = audit.to_str().unwrap();
        let arguments = ["audit", "search", path, "--tenant", tenant, "--format", format];
        let found = command(&arguments, world.hedgerow.directory());
        assert!(found.status.success(), "{found:?}");
        String::from_utf8(found.stdout).unwrap()
    };
    for format in ["json", "csv"] {
        assert!(search(TENANT_A, format).contains(SUBJECT), "{format}");
    }
    let erase = |tenant: &str| {
        let path = audit.to_str().unwrap();
        command(&["audit", "erase", "--tenant", tenant, path], world.hedgerow.directory())
    };
    assert_eq!(erase("nobody").status.code(), Some(1));
    let erased = erase(TENANT_A);
    assert!(erased.status.success(), "{erased:?}");
    process::eventually("the erasure is recorded", Duration::from_secs(20), || {
        text().contains("personal fields erased").then_some(())
    });
    let of_a = search(TENANT_A, "json");
    assert!(of_a.contains("[erased]") && !of_a.contains(SUBJECT), "{of_a}");
    assert!(search(TENANT_B, "json").contains(SUBJECT), "the neighbour's stay readable");
    // Whoever signs in later has a new key; what was erased stays so.
    assert!(a.query("SELECT * FROM internal_keys").denied());
    let of_a = search(TENANT_A, "json");
    assert!(of_a.contains("[erased]") && of_a.contains(SUBJECT), "{of_a}");
    a.terminate();
    b.terminate();
    world.finish();
}
