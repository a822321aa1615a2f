//! Whose packets are taken: the acceptance rule for media (against hijack, injection and bleed).
//!
//! A packet is accepted only if its source address is listed (SDP `c=`, registered source) and its SSRC is the
//! negotiated one, or, on a port of the session's own, any (real cameras ignore `y=`, facts 15.4). The first accepted
//! packet pins address, port, SSRC and way in; nothing else is accepted until signalling starts anew. Nothing is ever
//! learnt from an address that is not listed, and a second source with the right SSRC is an alarm, never a switch.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

/// Most addresses one session may list.
pub const SOURCE_LIMIT: usize = 16;

/// The way a packet came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    SharedUdp,
    PrivateUdp,
    /// A connection to the shared listener, by its number.
    SharedTcp(u64),
    /// A connection to the session's own listener.
    PrivateTcp(u64),
}

impl Via {
    const fn private(self) -> bool {
        matches!(self, Self::PrivateUdp | Self::PrivateTcp(_))
    }

    const fn tcp(self) -> bool {
        matches!(self, Self::SharedTcp(_) | Self::PrivateTcp(_))
    }
}

/// Why a packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The address is not listed.
    Source,
    /// Not the negotiated SSRC, on a shared port.
    Ssrc,
    /// Right SSRC from a listed address, but another source is pinned: two sources with one SSRC.
    Conflict,
    /// The pinned source changed its SSRC on the session's own port.
    SsrcChanged,
    /// Another transport than the negotiated one.
    Transport,
}

impl Reason {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source_not_listed",
            Self::Ssrc => "wrong_ssrc",
            Self::Conflict => "second_source",
            Self::SsrcChanged => "ssrc_changed",
            Self::Transport => "wrong_transport",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// From the pinned source.
    Accept,
    /// The first accepted packet: the source is pinned now.
    Pinned,
    Reject(Reason),
}

/// The pinned source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub from: SocketAddr,
    pub ssrc: u32,
    pub via: Via,
}

/// The rule as it stands for one session.
#[derive(Clone, Debug)]
pub struct Acceptor {
    ssrc: u32,
    tcp: bool,
    sources: Vec<IpAddr>,
    pin: Option<Pin>,
}

impl Acceptor {
    #[must_use]
    pub fn new(ssrc: u32, tcp: bool, sources: &[IpAddr]) -> Self {
        let mut acceptor = Self { ssrc, tcp, sources: Vec::new(), pin: None };
        for source in sources {
            acceptor.add_source(*source);
        }
        acceptor
    }

    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    #[must_use]
    pub fn sources(&self) -> &[IpAddr] {
        &self.sources
    }

    /// Lists one more address. False at the bound.
    pub fn add_source(&mut self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        if !self.sources.contains(&source) {
            if self.sources.len() == SOURCE_LIMIT {
                return false;
            }
            self.sources.push(source);
        }
        true
    }

    /// Signalling named another SSRC: the source may pin anew. The same SSRC again changes nothing.
    pub fn set_ssrc(&mut self, ssrc: u32) -> bool {
        if self.ssrc == ssrc {
            return false;
        }
        self.ssrc = ssrc;
        self.pin = None;
        true
    }

    /// Judges one packet that is valid RTP.
    pub fn check(&mut self, from: SocketAddr, ssrc: u32, via: Via) -> Verdict {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let packet = Pin { from, ssrc, via };
        // A pin exists only for what passed all tests below, so equality with it is enough.
        if self.pin == Some(packet) {
            return Verdict::Accept;
        }
        if !self.sources.contains(&from.ip()) {
            return Verdict::Reject(Reason::Source);
        }
        if self.tcp != via.tcp() {
            return Verdict::Reject(Reason::Transport);
        }
        if ssrc != self.ssrc && !via.private() {
            return Verdict::Reject(Reason::Ssrc);
        }
        match self.pin {
            None => {
                self.pin = Some(packet);
                Verdict::Pinned
            }
            Some(pin) if pin.from == from && pin.via == via => Verdict::Reject(Reason::SsrcChanged),
            Some(_) => Verdict::Reject(Reason::Conflict),
        }
    }
}
