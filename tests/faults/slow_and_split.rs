//! Every byte a packet of its own, and every packet late, on both sides.
//!
//! Expected: the same answers, later.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn packets_are_late_and_torn() {
    under("slow_and_split", |stage: &Stage| {
        let proxies = || stage.clients.iter().chain([&stage.upstream]);
        while !stage.is_over() {
            for fault in [Fault::Split, Fault::Delay { up_to: 15 }] {
                proxies().for_each(|proxy| proxy.set(fault));
                stage.pause(Duration::from_millis(400));
            }
        }
        proxies().for_each(|proxy| proxy.set(Fault::None));
        proxies().map(|proxy| proxy.harmed()).sum()
    });
}
