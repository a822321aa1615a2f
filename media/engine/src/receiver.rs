//! The running ingest side: worker threads with their sockets, the timer thread, and the handles to both.
//!
//! Every worker waits in epoll for packets and for commands, never for a time slice. UDP ports are shared by all
//! workers (the kernel keeps each sender with one), connections and private ports go round.
#![forbid(unsafe_code)]

pub use crate::ports::StartError;

use crate::clock::Clock;
use crate::events::EventQueue;
use crate::hub::Notify;
use crate::ports::{self, Private};
use crate::session::Session;
use crate::sessions::{OnLeaseEnd, Ports, Registry, SessionError, Transport};
use crate::types::SessionId;
use crate::worker::{Command, Mailbox, Worker};
use parking_lot::Mutex;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Where to listen. Port 0 lets the system choose (tests).
#[derive(Clone, Debug)]
pub struct IngestConfig {
    pub bind: IpAddr,
    pub udp_port: u16,
    pub tcp_port: u16,
    /// First and last port for private ports, inclusive; even ones are used.
    pub private_ports: (u16, u16),
    /// Seconds without an accepted packet until `source_lost`.
    pub source_timeout: f64,
    /// Receiving threads; 0 = half the cores, 1 to 4.
    pub workers: usize,
}

/// Hands commands to one worker.
pub struct Handle {
    commands: Mailbox,
    waker: Arc<mio::Waker>,
}

impl Handle {
    /// Queues a command and wakes the worker.
    pub fn send(&self, command: Command) {
        self.commands.lock().push(command);
        // A failed wake-up means that the worker is gone; then there is nothing to command.
        let _gone = self.waker.wake();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The registry's view of the sockets.
#[derive(Debug)]
struct Sockets {
    config: IngestConfig,
    ports: (u16, u16),
    handles: Arc<Vec<Handle>>,
    next_worker: AtomicUsize,
    /// Where the next search for a private port begins; not the port just closed, whose old sender may go on.
    next_port: Mutex<u16>,
}

impl Ports for Sockets {
    fn shared(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Udp => self.ports.0,
            Transport::TcpPassive => self.ports.1,
        }
    }

    fn open_private(&self, session: &Arc<Session>) -> Result<u16, SessionError> {
        let mut next = self.next_port.lock();
        let tcp = session.transport() == Transport::TcpPassive;
        let opened = Private::open(self.config.bind, self.config.private_ports, *next, tcp);
        let (socket, port) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => SessionError::Exhausted("private ports"),
            _ => SessionError::Socket(error.to_string()),
        })?;
        *next = port.checked_add(2).unwrap_or(self.config.private_ports.0);
        let worker = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.handles.len().max(1);
        if let Some(handle) = self.handles.get(worker) {
            handle.send(Command::Private(socket, Arc::clone(session)));
        }
        Ok(port)
    }

    fn close(&self, session: SessionId) {
        for handle in self.handles.iter() {
            handle.send(Command::Close(session));
        }
    }
}

/// The running ingest side. Dropping it stops the threads and closes every session.
#[derive(Debug)]
pub struct Ingest {
    registry: Arc<Registry>,
    handles: Arc<Vec<Handle>>,
    threads: Vec<JoinHandle<()>>,
    ports: (u16, u16),
}

impl Ingest {
    /// Binds the ports and starts the threads.
    ///
    /// # Errors
    /// `PortTaken`, `Io`; nothing is left running then.
    pub fn start(
        config: IngestConfig,
        clock: Arc<dyn Clock>,
        events: EventQueue,
        notify: Notify,
        on_lease_end: OnLeaseEnd,
    ) -> Result<Self, StartError> {
        let count = worker_count(config.workers);
        let udp = ports::shared_udp(config.bind, config.udp_port, count)?;
        let tcp = ports::listener(config.bind, config.tcp_port)?;
        let local = |found: io::Result<std::net::SocketAddr>| found.map(|a| a.port()).map_err(StartError::Io);
        let udp_port = local(udp.first().map_or(Err(io::ErrorKind::NotFound.into()), std::net::UdpSocket::local_addr))?;
        let ports = (udp_port, local(tcp.local_addr())?);
        let registry = Registry::new(clock, events, notify, on_lease_end, config.source_timeout);
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        for socket in udp {
            let (worker, commands, waker) = Worker::new(Arc::clone(&registry), socket).map_err(StartError::Io)?;
            workers.push(worker);
            handles.push(Handle { commands, waker });
        }
        let handles = Arc::new(handles);
        let first_port = config.private_ports.0;
        registry.set_ports(Arc::new(Sockets {
            config,
            ports,
            handles: Arc::clone(&handles),
            next_worker: AtomicUsize::new(0),
            next_port: Mutex::new(first_port),
        }));
        let mut ingest = Self { registry, handles, threads: Vec::new(), ports };
        ingest.run(workers, tcp).map_err(StartError::Io)?;
        Ok(ingest)
    }

    fn run(&mut self, workers: Vec<Worker>, listener: TcpListener) -> io::Result<()> {
        for (number, mut worker) in workers.into_iter().enumerate() {
            worker.join_peers(number, &self.handles);
            let name = format!("media-in-{number}");
            self.threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        if let Some(first) = self.handles.first() {
            first.send(Command::Listen(listener));
        }
        let registry = Arc::clone(&self.registry);
        let timer = move || while registry.wait(registry.tick()) {};
        self.threads.push(thread::Builder::new().name("media-timer".to_owned()).spawn(timer)?);
        Ok(())
    }

    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Shared (UDP, TCP) ports in use.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Ends every session and the threads; returns when they have ended.
    pub fn stop(&mut self) {
        self.registry.close_all("engine_stopped");
        for handle in self.handles.iter() {
            handle.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already; stopping goes on.
            let _panicked = thread.join();
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop();
    }
}

fn worker_count(asked: usize) -> usize {
    let half = thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
    if asked == 0 { half.clamp(1, 4) } else { asked.min(64) }
}
