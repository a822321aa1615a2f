//! One-use play tickets: what a player's URL carries instead of a permission.
//!
//! 160 random bits, stored as SHA-256 only, good for one request within 30 s, for one lease, one output and, when
//! wanted, one client address. Documented deviation from ASVS 5.0 §14.2.1 (no secrets in URLs): players need a URL, and
//! a used ticket is worth nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Longest life of a ticket.
pub const MAX_TTL_US: u64 = 30_000_000;
/// Most tickets waiting; expired ones give way first.
pub const LIMIT: usize = 65_536;
/// Characters of a ticket: 160 bits in base 32.
pub const LENGTH: usize = 32;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a ticket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    HttpFlv,
    WsFmp4,
    HttpFmp4,
}

impl Output {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "flv" => Some(Self::HttpFlv),
            "ws-fmp4" => Some(Self::WsFmp4),
            "http-fmp4" => Some(Self::HttpFmp4),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::HttpFlv => "flv",
            Self::WsFmp4 => "ws-fmp4",
            Self::HttpFmp4 => "http-fmp4",
        }
    }

    /// URL path of a ticket for this output.
    pub fn path(self, ticket: &str) -> String {
        let extension = if self == Self::HttpFlv { "flv" } else { "mp4" };
        format!("/live/{ticket}.{extension}")
    }
}

/// Why no ticket was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketError {
    /// [`LIMIT`] unexpired tickets are waiting.
    Full,
    /// The system gave no random bytes.
    NoRandom,
}

struct Entry {
    lease: Arc<str>,
    output: Output,
    client: Option<IpAddr>,
    expires_us: u64,
}

/// The tickets that wait to be used. Every call is atomic: of two equal requests one wins.
#[derive(Default)]
pub struct Tickets {
    waiting: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Tickets {
    /// Makes a ticket. `ttl_us` is cut to [`MAX_TTL_US`]; times are the engine's monotonic microseconds.
    pub fn issue(
        &self,
        lease: Arc<str>,
        output: Output,
        client: Option<IpAddr>,
        ttl_us: u64,
        now_us: u64,
    ) -> Result<String, TicketError> {
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|_| TicketError::NoRandom)?;
        let ticket = base32(&random);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= LIMIT {
            waiting.retain(|_, entry| entry.expires_us > now_us);
        }
        if waiting.len() >= LIMIT {
            return Err(TicketError::Full);
        }
        let entry = Entry {
            lease,
            output,
            client: client.map(|ip| ip.to_canonical()),
            expires_us: now_us + ttl_us.min(MAX_TTL_US),
        };
        waiting.insert(digest(&ticket), entry);
        Ok(ticket)
    }

    /// Uses a ticket up and returns its lease. A request from a foreign address leaves the ticket to its owner;
    /// every other use, right or wrong, ends it.
    pub fn redeem(&self, ticket: &str, output: Output, client: IpAddr, now_us: u64) -> Option<Arc<str>> {
        if ticket.len() != LENGTH {
            return None;
        }
        let key = digest(ticket);
        let mut waiting = self.waiting.lock();
        let foreign = waiting.get(&key)?.client.is_some_and(|bound| bound != client.to_canonical());
        if foreign {
            return None;
        }
        let entry = waiting.remove(&key)?;
        (entry.output == output && entry.expires_us > now_us).then_some(entry.lease)
    }

    /// Forgets the tickets of a lease that ended.
    pub fn forget(&self, lease: &str) {
        self.waiting.lock().retain(|_, entry| &*entry.lease != lease);
    }

    /// Forgets what has expired.
    pub fn sweep(&self, now_us: u64) {
        self.waiting.lock().retain(|_, entry| entry.expires_us > now_us);
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn digest(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

fn base32(bytes: &[u8; 20]) -> String {
    let mut out = String::with_capacity(LENGTH);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for index in (0..8).rev() {
            let letter = ALPHABET.get((bits >> (index * 5) & 31) as usize).copied().unwrap_or(b'a');
            out.push(char::from(letter));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn issue(tickets: &Tickets, client: Option<IpAddr>) -> String {
        tickets.issue(Arc::from("lea_1"), Output::HttpFlv, client, 5_000_000, 1_000_000).unwrap()
    }

    #[test]
    fn a_ticket_is_good_once() {
        let tickets = Tickets::default();
        let ticket = issue(&tickets, None);
        assert_eq!(ticket.len(), LENGTH);
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 2_000_000).as_deref(), Some("lea_1"));
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 2_000_000), None);
    }

    #[test]
    fn another_output_a_late_use_and_a_revoked_lease_are_refused() {
        let tickets = Tickets::default();
        let ticket = issue(&tickets, None);
        assert_eq!(tickets.redeem(&ticket, Output::WsFmp4, HERE, 2_000_000), None);
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 2_000_000), None, "a wrong use ends it");
        let ticket = issue(&tickets, None);
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 6_000_000), None);
        let ticket = issue(&tickets, None);
        tickets.forget("lea_1");
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 2_000_000), None);
        assert_eq!(tickets.redeem("", Output::HttpFlv, HERE, 0), None);
    }

    #[test]
    fn a_foreign_address_neither_uses_nor_spends_it() {
        let tickets = Tickets::default();
        let ticket = issue(&tickets, Some(HERE));
        assert_eq!(tickets.redeem(&ticket, Output::HttpFlv, THERE, 2_000_000), None);
        assert!(tickets.redeem(&ticket, Output::HttpFlv, HERE, 2_000_000).is_some());
    }

    #[test]
    fn life_and_number_are_bounded() {
        let tickets = Tickets::default();
        let ticket = tickets.issue(Arc::from("lea_1"), Output::WsFmp4, None, u64::MAX, 0).unwrap();
        assert_eq!(tickets.redeem(&ticket, Output::WsFmp4, HERE, MAX_TTL_US), None);
        for _ in 0..LIMIT {
            issue(&tickets, None);
        }
        let full = tickets.issue(Arc::from("lea_2"), Output::WsFmp4, None, 1, 2_000_000);
        assert_eq!(full, Err(TicketError::Full));
        assert!(tickets.issue(Arc::from("lea_2"), Output::WsFmp4, None, 1, 60_000_000).is_ok());
        tickets.sweep(120_000_000);
        assert!(tickets.is_empty());
    }
}
