//! A storm of cancel requests: with the keys of others guessed, and of nobody.
//!
//! Expected: only the holder of a key cancels, and only what it runs itself (the crowd's own requests
//! and what they hit are part of every fault).

use crate::crowd::{Stage, under};
use crate::random::Random;
use crate::support::wire::{self, WireClient};

#[test]
fn cancel_requests_rain() {
    under("cancels", |stage: &Stage| {
        let mut random = Random::new(stage.seed);
        let mut sent = 0;
        while !stage.is_over() {
            let Some(mut request) = WireClient::try_connect(stage.world.hedgerow.address) else {
                continue;
            };
            let pid = random.below(1 << 31) as i32;
            let secret: Vec<u8> =
                (0..random.choose(&[0, 4, 32, 256])).map(|_| random.below(256) as u8).collect();
            request.send(&wire::cancel_request(pid, &secret));
            request.collect_until(|_| false);
            sent += 1;
        }
        sent
    });
}
