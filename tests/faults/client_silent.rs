//! Packets between clients and Hedgerow vanish: the connection stays open, nothing comes any more.
//!
//! Expected: the silent client costs its own place and backend alone; everybody else is served.

use crate::crowd::{Stage, under};
use crate::support::fault_proxy::Fault;
use std::time::Duration;

#[test]
fn clients_fall_silent() {
    under("client_silent", |stage: &Stage| {
        while !stage.is_over() {
            stage.clients.iter().for_each(|proxy| proxy.set(Fault::Silence { one_in: 40 }));
            stage.pause(Duration::from_millis(100));
            stage.clients.iter().for_each(|proxy| proxy.set(Fault::None));
            stage.pause(Duration::from_millis(400));
            // What lay silent is found out sooner or later.
            stage.clients.iter().for_each(|proxy| proxy.hang_up());
        }
        stage.clients.iter().for_each(|proxy| proxy.hang_up());
        stage.clients.iter().map(|proxy| proxy.harmed()).sum()
    });
}
