//! Packets between Hedgerow and PostgreSQL vanish: the connection stays open, nothing comes any more.
//!
//! Expected: who waits, waits, until it gives up or the connection is found dead; then 08007. Nobody
//! gets an answer that comes late.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn the_database_falls_silent() {
    under("upstream_silent", |stage: &Stage| {
        while !stage.is_over() {
            stage.upstream.set(Fault::Silence { one_in: 40 });
            stage.pause(Duration::from_millis(100));
            stage.upstream.set(Fault::None);
            stage.pause(Duration::from_millis(400));
            stage.upstream.hang_up();
        }
        stage.upstream.hang_up();
        stage.upstream.harmed()
    });
}
