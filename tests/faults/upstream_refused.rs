//! PostgreSQL takes no connections, and those that are open end.
//!
//! Expected: 08006 for who needs a backend, at sign-in or at the next statement; service as soon as the
//! database is back.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn the_database_takes_no_connections() {
    under("upstream_refused", |stage: &Stage| {
        let mut refused = 0;
        while !stage.is_over() {
            stage.pause(Duration::from_millis(300));
            stage.upstream.set(Fault::Refuse);
            stage.upstream.hang_up();
            stage.pause(Duration::from_millis(200));
            stage.upstream.set(Fault::None);
            refused += 1;
        }
        refused + stage.upstream.harmed()
    });
}
