//! An operator ends backends and cancels what they run.
//!
//! Expected: 57P01 of the server's own reaches the client whose backend it was, at most; a pooled
//! backend that died is replaced without anybody hearing of it.

use crate::crowd::{Stage, under};
use std::time::Duration;

#[test]
fn backends_are_ended_by_an_operator() {
    under("backends_killed", |stage: &Stage| {
        let mut ended = 0;
        while !stage.is_over() {
            for function in ["pg_terminate_backend", "pg_cancel_backend"] {
                let sql = format!(
                    "SELECT count({function}(pid)) FROM (SELECT pid FROM pg_stat_activity \
                     WHERE datname = '{}' AND application_name = 'guest' ORDER BY random() LIMIT 2) AS picked",
                    stage.world.database
                );
                ended += stage.world.truth(&sql).parse::<u64>().unwrap();
                stage.pause(Duration::from_millis(60));
            }
        }
        ended
    });
}
