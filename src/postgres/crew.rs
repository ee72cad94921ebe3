//! The threads that sessions run on. Layer 5.
//!
//! Each has a runtime of its own: what a session reads and writes is heard of and handled on one thread,
//! and no message wakes another. A session stays on the thread that it began on; a backend goes over to
//! the thread of the session that takes it, if that is another.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Stack of a thread that decides statements: parsing nests.
const STACK_BYTES: usize = 32 << 20;

/// The threads. They end when it is dropped, and what runs on them then is dropped.
pub(super) struct Crew {
    members: Vec<Member>,
    _stop: DropGuard,
}

struct Member {
    runtime: Handle,
    taken: Arc<AtomicUsize>,
}

impl Crew {
    /// As many threads as the process may use cores.
    ///
    /// # Errors
    /// When the system gives no thread, or no queue of events.
    pub(super) fn start() -> io::Result<Self> {
        let threads = available_parallelism().map_or(1, NonZero::get);
        let stop = CancellationToken::new();
        let members =
            (1..=threads).map(|number| Member::start(number, &stop)).collect::<io::Result<_>>()?;
        Ok(Self { members, _stop: stop.drop_guard() })
    }

    /// A seat on the thread where the fewest are taken.
    pub(super) fn seat(&self) -> Option<Seat> {
        let taken = |member: &&Member| member.taken.load(Ordering::Relaxed);
        let member = self.members.iter().min_by_key(taken)?;
        member.taken.fetch_add(1, Ordering::Relaxed);
        Some(Seat { runtime: member.runtime.clone(), taken: Arc::clone(&member.taken) })
    }
}

/// A session's seat on a thread; given up when dropped.
pub(super) struct Seat {
    pub(super) runtime: Handle,
    taken: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Member {
    fn start(number: usize, stop: &CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = stop.clone();
        std::thread::Builder::new()
            .name(format!("sessions-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(move || runtime.block_on(stop.cancelled()))?;
        Ok(Self { runtime: handle, taken: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn sessions_are_spread_over_the_threads_and_each_stays_on_its_own() {
        let crew = Crew::start().unwrap();
        let (mut sessions, seen) = (JoinSet::new(), Arc::new(Mutex::new(HashSet::new())));
        let all = Arc::new(tokio::sync::Barrier::new(crew.members.len()));
        for _ in &crew.members {
            let (seen, all, seat) = (Arc::clone(&seen), Arc::clone(&all), crew.seat().unwrap());
            let runtime = seat.runtime.clone();
            let session = async move {
                let thread = std::thread::current().id();
                all.wait().await;
                assert_eq!(std::thread::current().id(), thread);
                seen.lock().unwrap().insert(thread);
                drop(seat);
            };
            sessions.spawn_on(session, &runtime);
        }
        while let Some(ended) = sessions.join_next().await {
            ended.unwrap();
        }
        assert_eq!(seen.lock().unwrap().len(), crew.members.len());
        let left = |member: &Member| member.taken.load(Ordering::Relaxed);
        assert!(crew.members.iter().all(|member| left(member) == 0));
    }
}
