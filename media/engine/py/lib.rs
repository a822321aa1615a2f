//! The extension module `media._engine`; its Python face is media/_engine.pyi.

use std::net::IpAddr;
use std::sync::Arc;

use gbmedia::clock::SystemClock;
use gbmedia::engine::{Engine as Inner, EngineConfig, EngineError as Refusal};
use gbmedia::events::EventQueue;
use gbmedia::outlet::LeaseTotals;
use gbmedia::receiver::IngestConfig;
use gbmedia::server::ServerConfig;
use gbmedia::sessions::{LeaseSpec, SessionSpec, Transport};
use gbmedia::types::Value;
use pyo3::create_exception;
use pyo3::prelude::*;
use pyo3::types::PyDict;

create_exception!(_engine, EngineError, pyo3::exceptions::PyException, "A command the engine refused.");

fn refused(refusal: &Refusal) -> PyErr {
    match refusal {
        Refusal::PortTaken { port, protocol } => {
            EngineError::new_err((refusal.code(), refusal.to_string(), *port, *protocol))
        }
        _ => EngineError::new_err((refusal.code(), refusal.to_string())),
    }
}

fn stopped() -> PyErr {
    EngineError::new_err(("stopped", "the engine is not running"))
}

fn address(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| EngineError::new_err(("bad_argument", "an IP address is malformed")))
}

fn view_stats<'py>(py: Python<'py>, totals: &LeaseTotals) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    found.set_item("viewers", totals.viewers)?;
    found.set_item("bytes", totals.counters.bytes)?;
    found.set_item("frames", totals.counters.frames)?;
    found.set_item("dropped", totals.counters.dropped)?;
    found.set_item("seconds", totals.microseconds as f64 / 1e6)?;
    Ok(found)
}

type PyEvent<'py> = (&'static str, String, Option<String>, Bound<'py, PyDict>);

/// The running engine: starts its threads when made, ends them with `stop`.
#[pyclass(frozen, module = "media._engine")]
struct Engine {
    inner: parking_lot::RwLock<Option<Inner>>,
    events: EventQueue,
    ports: (u16, u16, u16),
}

impl Engine {
    /// Runs a command without the interpreter lock.
    fn run<T: Send>(&self, py: Python<'_>, command: impl FnOnce(&Inner) -> Result<T, Refusal> + Send) -> PyResult<T> {
        py.detach(|| self.inner.read().as_ref().map(command)).ok_or_else(stopped)?.map_err(|refusal| refused(&refusal))
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, bind, udp_port, tcp_port, http_port, private_ports, source_timeout, allowed_origins,
                        max_viewers = 4096))]
    #[allow(clippy::too_many_arguments)] // keyword-only on the Python side
    fn new(
        py: Python<'_>,
        bind: &str,
        udp_port: u16,
        tcp_port: u16,
        http_port: u16,
        private_ports: (u16, u16),
        source_timeout: f64,
        allowed_origins: Vec<String>,
        max_viewers: usize,
    ) -> PyResult<Self> {
        let bind = address(bind)?;
        let config = EngineConfig {
            ingest: IngestConfig { bind, udp_port, tcp_port, private_ports, source_timeout, workers: 0 },
            server: ServerConfig { bind, port: http_port, allowed_origins, max_viewers },
        };
        let started = py.detach(|| Inner::start(config, Arc::new(SystemClock::new())));
        let inner = started.map_err(|refusal| refused(&refusal))?;
        let (events, ports) = (inner.events().clone(), inner.ports());
        Ok(Self { inner: parking_lot::RwLock::new(Some(inner)), events, ports })
    }

    #[getter]
    fn udp_port(&self) -> u16 {
        self.ports.0
    }

    #[getter]
    fn tcp_port(&self) -> u16 {
        self.ports.1
    }

    #[getter]
    fn http_port(&self) -> u16 {
        self.ports.2
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.events.fd()
    }

    #[pyo3(signature = (limit = 256))]
    fn poll_events<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<PyEvent<'py>>> {
        let batch = py.detach(|| self.events.drain(limit));
        batch
            .into_iter()
            .map(|event| {
                let detail = PyDict::new(py);
                for (name, value) in event.detail {
                    match value {
                        Value::Int(number) => detail.set_item(name, number)?,
                        Value::Float(number) => detail.set_item(name, number)?,
                        Value::Text(text) => detail.set_item(name, text)?,
                    }
                }
                Ok((event.kind.name(), event.session.to_string(), event.lease.map(|lease| lease.to_string()), detail))
            })
            .collect()
    }

    #[pyo3(signature = (*, session, ssrc, tcp, sources, lease, not_after, audio, private_port))]
    #[allow(clippy::too_many_arguments)] // keyword-only on the Python side
    fn open_session(
        &self,
        py: Python<'_>,
        session: &str,
        ssrc: u32,
        tcp: bool,
        sources: Vec<String>,
        lease: &str,
        not_after: f64,
        audio: bool,
        private_port: bool,
    ) -> PyResult<u16> {
        let spec = SessionSpec {
            key: Arc::from(session),
            ssrc,
            transport: if tcp { Transport::TcpPassive } else { Transport::Udp },
            sources: sources.iter().map(|source| address(source)).collect::<PyResult<_>>()?,
            lease: LeaseSpec { key: Arc::from(lease), not_after, audio },
            private_port,
        };
        self.run(py, |engine| engine.open_session(spec))
    }

    fn set_ssrc(&self, py: Python<'_>, session: &str, ssrc: u32) -> PyResult<()> {
        self.run(py, |engine| engine.set_ssrc(session, ssrc))
    }

    fn add_source(&self, py: Python<'_>, session: &str, source: &str) -> PyResult<()> {
        let source = address(source)?;
        self.run(py, |engine| engine.add_source(session, source))
    }

    fn grant(&self, py: Python<'_>, session: &str, lease: &str, not_after: f64, audio: bool) -> PyResult<bool> {
        let lease = LeaseSpec { key: Arc::from(lease), not_after, audio };
        self.run(py, |engine| engine.grant(session, lease))
    }

    fn renew(&self, py: Python<'_>, lease: &str, not_after: f64, audio: bool) -> PyResult<()> {
        self.run(py, |engine| engine.renew(lease, not_after, audio))
    }

    fn revoke<'py>(&self, py: Python<'py>, lease: &str, reason: &str) -> PyResult<Bound<'py, PyDict>> {
        let totals = self.run(py, |engine| Ok(engine.revoke(lease, reason)))?;
        view_stats(py, &totals)
    }

    fn release<'py>(&self, py: Python<'py>, lease: &str, reason: &str) -> PyResult<Bound<'py, PyDict>> {
        let totals = self.run(py, |engine| Ok(engine.release(lease, reason)))?;
        view_stats(py, &totals)
    }

    fn close_session(&self, py: Python<'_>, session: &str, reason: &str) -> PyResult<()> {
        self.run(py, |engine| engine.close_session(session, reason))
    }

    fn ticket(&self, py: Python<'_>, lease: &str, output: &str, client_ip: Option<&str>, ttl: f64) -> PyResult<String> {
        let client = client_ip.map(address).transpose()?;
        self.run(py, |engine| engine.ticket(lease, output, client, ttl))
    }

    fn session_stats<'py>(&self, py: Python<'py>, session: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(stats) = self.run(py, |engine| Ok(engine.session_stats(session)))? else {
            return Ok(None);
        };
        let found = PyDict::new(py);
        let counts = [
            ("packets", stats.packets),
            ("bytes", stats.bytes),
            ("lost", stats.lost),
            ("reordered", stats.reordered),
            ("duplicates", stats.duplicates),
            ("rejected", stats.rejected),
            ("unleased", stats.unleased),
            ("malformed", stats.malformed),
            ("video_frames", stats.video_frames),
            ("key_frames", stats.key_frames),
            ("audio_frames", stats.audio_frames),
            ("damaged", stats.damaged),
            ("viewers", stats.viewers),
        ];
        for (name, count) in counts {
            found.set_item(name, count)?;
        }
        found.set_item("bitrate_bps", stats.bitrate_bps)?;
        found.set_item("fps", stats.fps)?;
        for (name, codec) in [("video_codec", stats.video_codec), ("audio_codec", stats.audio_codec)] {
            if let Some(codec) = codec {
                found.set_item(name, codec)?;
            }
        }
        Ok(Some(found))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (ingest, output) = self.run(py, |engine| Ok(engine.stats()))?;
        let found = PyDict::new(py);
        let counts = [
            ("sessions", ingest.sessions),
            ("leases", ingest.leases),
            ("tcp_connections", ingest.tcp_connections),
            ("packets", ingest.packets),
            ("bytes", ingest.bytes),
            ("unknown_ssrc", ingest.unknown_ssrc),
            ("rejected", ingest.rejected),
            ("unleased", ingest.unleased),
            ("malformed", ingest.malformed),
            ("events_lost", ingest.events_lost),
            ("viewers", output.viewers),
            ("connections", output.connections),
            ("bytes_out", output.bytes_out),
            ("frames_out", output.frames_out),
            ("dropped", output.dropped),
            ("refused", output.refused),
        ];
        for (name, count) in counts {
            found.set_item(name, count)?;
        }
        Ok(found)
    }

    fn healthy(&self, py: Python<'_>) -> bool {
        self.run(py, |engine| Ok(engine.healthy())).unwrap_or(false)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(mut engine) = self.inner.write().take() {
                engine.stop();
            }
        });
    }
}

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{Engine, EngineError};

    /// SHA-256 over the sources this extension was built from.
    #[pymodule_export]
    const ENGINE_SOURCE_DIGEST: &str = env!("ENGINE_SOURCE_DIGEST");

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__all__", ["ENGINE_SOURCE_DIGEST", "Engine", "EngineError"])
    }
}
