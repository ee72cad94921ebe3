//! The policy changes again and again: a relation is denied, and allowed, and a file does not load.
//!
//! Expected: each statement runs under one policy; nobody is thrown out; a policy that does not load
//! changes nothing.

use crate::crowd::{Stage, under};
use crate::support::fixture::POLICY;
use crate::support::process;
use std::time::Duration;

#[test]
fn policies_are_reloaded_all_the_time() {
    under("policy_reloaded", |stage: &Stage| {
        let path = stage.world.hedgerow.directory().join("policies/policy.yaml");
        let denied = POLICY.replace(
            "  public.users:\n",
            "  public.orders_2:\n    tenant: tenant_id\n  public.users:\n",
        );
        let mut reloads = 0;
        while !stage.is_over() {
            for text in [&denied, "engine: nothing that is known\n", POLICY] {
                std::fs::write(&path, text).unwrap();
                process::signal(stage.world.hedgerow.pid(), "HUP");
                stage.pause(Duration::from_millis(60));
                reloads += 1;
            }
        }
        std::fs::write(&path, POLICY).unwrap();
        process::signal(stage.world.hedgerow.pid(), "HUP");
        assert!(stage.world.hedgerow.runs());
        reloads
    });
}
