//! Connections between Hedgerow and PostgreSQL break, in the middle of a message.
//!
//! Expected: 08006 where nothing was under way, 08007 where the outcome is not known, never a success
//! that was not; the session ends, and a half row is never taken for a whole one.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn connections_to_the_database_break() {
    under("upstream_cut", |stage: &Stage| {
        while !stage.is_over() {
            for fault in [Fault::Cut { one_in: 15 }, Fault::Reset { one_in: 15 }] {
                stage.upstream.set(fault);
                stage.pause(Duration::from_millis(200));
            }
        }
        stage.upstream.set(Fault::None);
        stage.upstream.harmed()
    });
}
