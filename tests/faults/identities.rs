//! One application's connections change tenant from transaction to transaction, over the backends that
//! everybody else uses, while connections to the database break.
//!
//! Expected: each statement sees the rows of the tenant that was set last, for its transaction or for
//! the session, and no other's.

use crate::crowd::{Stage, under};
use crate::random::Random;
use crate::support::fault_proxy::Fault;
use crate::support::{TENANT_A, TENANT_B, token};
use std::time::Duration;

#[test]
fn identities_change_all_the_time() {
    under("identities", |stage: &Stage| {
        let mut random = Random::new(stage.seed);
        let service = token::Token::hs256("").without("tenant_id").sign();
        let mut served = 0;
        while !stage.is_over() {
            stage.upstream.set(Fault::Cut { one_in: 60 });
            let hedgerow = &stage.world.hedgerow;
            let (mut client, started) =
                hedgerow.try_sign_in(hedgerow.address, &stage.world.database, &service);
            if !started.ready() {
                continue;
            }
            client.limit = Duration::from_secs(3);
            for _ in 0..random.between(5, 30) {
                let is_a = random.chance(50);
                let (tenant, own) = if is_a {
                    (TENANT_A, ["1", "2", "3"])
                } else {
                    (TENANT_B, ["101", "102", "103"])
                };
                let local = random.chance(50);
                let scope = if local { "LOCAL" } else { "SESSION" };
                let set = format!("SET {scope} hedgerow.token = '{}'", token::of(tenant));
                let statements: &[&str] = if local {
                    &["BEGIN", &set, "SELECT id FROM users ORDER BY id", "COMMIT"]
                } else {
                    &[&set, "SELECT id FROM users ORDER BY id"]
                };
                let mut good = true;
                for sql in statements {
                    let outcome = client.query(sql);
                    good = outcome.ready() && outcome.errors().is_empty();
                    if !good {
                        break;
                    }
                    if sql.starts_with("SELECT") {
                        assert_eq!(outcome.lines(), own, "{scope}: {outcome:?}");
                        served += 1;
                    }
                }
                if !good {
                    break;
                }
                client.forget();
            }
        }
        stage.upstream.set(Fault::None);
        served
    });
}
