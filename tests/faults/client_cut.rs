//! Connections between clients and Hedgerow break: in the middle of a message, politely or with RST.
//!
//! Expected: what ran is carried out or rolled back as the client's transaction says; nobody else gets
//! its backend before that, and nobody gets its answers.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn connections_of_clients_break() {
    under("client_cut", |stage: &Stage| {
        while !stage.is_over() {
            for fault in [Fault::Cut { one_in: 12 }, Fault::Reset { one_in: 12 }] {
                stage.clients.iter().for_each(|proxy| proxy.set(fault));
                stage.pause(Duration::from_millis(200));
            }
        }
        stage.clients.iter().for_each(|proxy| proxy.set(Fault::None));
        stage.clients.iter().map(|proxy| proxy.harmed()).sum()
    });
}
