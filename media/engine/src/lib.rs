//! GB/T 28181 media engine without Python: receive RTP/PS, keep access units in a hub, mux and serve them on demand.

// Bad input is never a panic.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)]

// Ingest.
pub mod accept;
pub mod annexb;
pub mod audio;
pub mod clock;
pub mod connections;
pub mod es;
pub mod events;
pub mod frames;
pub mod framing;
pub mod hub;
pub mod lease;
pub mod mmsg;
pub mod ports;
pub mod probe;
pub mod ps;
pub mod pts;
pub mod receiver;
pub mod reorder;
pub mod rtp;
pub mod scan;
pub mod session;
pub mod sessions;
pub mod stream;
pub mod types;
pub mod worker;

// Output.
pub mod aac;
pub mod bits;
pub mod boxes;
pub mod engine;
pub mod feed;
pub mod flv;
pub mod fmp4;
pub mod h264;
pub mod h265;
pub mod http;
pub mod intake;
pub mod mux;
pub mod outlet;
pub mod server;
pub mod tickets;
pub mod timeline;
pub mod viewer;
pub mod websocket;
