//! A proxy that does harm: it cuts connections, delays, tears messages apart and falls silent, by a
//! seed. It stands before Hedgerow or between Hedgerow and PostgreSQL.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What is done to a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// One read in `one_in` is cut short at a random byte, and both sides are closed.
    Cut { one_in: u64 },
    /// The same, with an RST.
    Reset { one_in: u64 },
    /// Every read waits for up to so many milliseconds.
    Delay { up_to: u64 },
    /// Every byte is a packet of its own.
    Split,
    /// One read in `one_in` is the last that is passed on; the connection stays open.
    Silence { one_in: u64 },
    /// No connection is let through: it is closed at once.
    Refuse,
}

/// The running proxy; it ends with the test binary.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    target: SocketAddr,
    seed: AtomicU64,
    /// How often harm was done.
    harmed: AtomicU64,
    hang_up: Notify,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        let mut z = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn strikes(&self, one_in: u64) -> bool {
        self.random().is_multiple_of(one_in.max(1))
    }
}

impl FaultProxy {
    /// Listens on a free port of loopback and forwards to `target`, harmless until told otherwise.
    pub fn start(target: SocketAddr, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            target,
            seed: AtomicU64::new(seed),
            harmed: AtomicU64::new(0),
            hang_up: Notify::new(),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                tell.send(listener.local_addr().expect("a bound address")).ok();
                loop {
                    let Ok((client, _)) = listener.accept().await else { continue };
                    tokio::spawn(carry(client, Arc::clone(&serving)));
                }
            });
        });
        Self { address: told.recv().expect("the proxy listens"), shared }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, this is done, to open connections too.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(|poison| poison.into_inner()) = fault;
    }

    /// How often it did harm.
    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
    }

    /// Closes what is open now.
    pub fn hang_up(&self) {
        self.shared.hang_up.notify_waiters();
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    if shared.fault() == Fault::Refuse {
        shared.harmed.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let reset = AtomicBool::new(false);
    let (mut client, mut server) = (client, server);
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let towards_server = forward(from_client, to_server, &shared, &reset);
        let towards_client = forward(from_server, to_client, &shared, &reset);
        tokio::select! {
            // Half-closed connections stay half closed.
            _ = async { tokio::join!(towards_server, towards_client) } => {}
            () = shared.hang_up.notified() => {}
            () = struck(&reset) => {}
        }
    }
    if reset.load(Ordering::Relaxed) && matches!(shared.fault(), Fault::Reset { .. }) {
        let zero = Some(Duration::ZERO);
        socket2::SockRef::from(&client).set_linger(zero).ok();
        socket2::SockRef::from(&server).set_linger(zero).ok();
    }
}

/// Ends when one direction said that the connection is to be cut.
async fn struck(cut: &AtomicBool) {
    while !cut.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(2)).await;
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    cut: &AtomicBool,
) {
    let mut buffer = vec![0; 16_384];
    let harm = || shared.harmed.fetch_add(1, Ordering::Relaxed);
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let bytes = &buffer[..count];
        let passed = match shared.fault() {
            Fault::None | Fault::Refuse => to.write_all(bytes).await,
            Fault::Cut { one_in } | Fault::Reset { one_in } => {
                if shared.strikes(one_in) {
                    harm();
                    let some = (shared.random() % (count as u64 + 1)) as usize;
                    to.write_all(&bytes[..some]).await.ok();
                    to.flush().await.ok();
                    cut.store(true, Ordering::Relaxed);
                    return;
                }
                to.write_all(bytes).await
            }
            Fault::Delay { up_to } => {
                harm();
                sleep(Duration::from_millis(shared.random() % (up_to + 1))).await;
                to.write_all(bytes).await
            }
            Fault::Split => {
                harm();
                let mut done = Ok(());
                for byte in bytes {
                    done = to.write_all(std::slice::from_ref(byte)).await;
                    tokio::task::yield_now().await;
                    if done.is_err() {
                        break;
                    }
                }
                done
            }
            Fault::Silence { one_in } => {
                if shared.strikes(one_in) {
                    harm();
                    // Whoever waits, waits: until one side closes or somebody hangs up.
                    while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                    return;
                }
                to.write_all(bytes).await
            }
        };
        if passed.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}
