//! The one request a player makes: parsed within bounds, answered with as little as possible.

use tungstenite::handshake::derive_accept_key;

use crate::tickets::{LENGTH, Output};

/// Longest request head (RFC 9112 sets no bound; ours is 8 KiB).
pub const MAX_REQUEST: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub ticket: String,
    pub output: Output,
    pub origin: Option<String>,
    /// The page that asks was served by the host this request names, on whatever port.
    pub same_host: bool,
    /// `Sec-WebSocket-Accept` for the answer, when it is a WebSocket.
    pub accept_key: Option<String>,
}

/// Answer that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    BadRequest,
    /// One and the same answer for an unknown, used, expired or foreign ticket and for a foreign origin.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    UpgradeRequired,
    TooLarge,
    Busy,
}

/// Outcome of looking at the bytes received so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The request and the number of bytes it took.
    Complete(Request, usize),
    Refused(Refusal),
}

/// Parses a request head (RFC 9112); never reads a body, never waits for a second request.
pub fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_REQUEST => length,
        Ok(httparse::Status::Partial) if buffer.len() < MAX_REQUEST => return Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(Refusal::TooLarge),
        Err(_) => return Parsed::Refused(Refusal::BadRequest),
    };
    match interpret(&request) {
        Ok(request) => Parsed::Complete(request, length),
        Err(refusal) => Parsed::Refused(refusal),
    }
}

fn interpret(request: &httparse::Request) -> Result<Request, Refusal> {
    if request.method != Some("GET") {
        return Err(Refusal::MethodNotAllowed);
    }
    let path = request.path.and_then(|path| path.strip_prefix("/live/")).ok_or(Refusal::NotFound)?;
    let (ticket, extension) = path.split_once('.').ok_or(Refusal::NotFound)?;
    let wants_websocket = single(request, "upgrade")?.is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let output = match (extension, wants_websocket) {
        ("flv", false) => Output::HttpFlv,
        ("mp4", false) => Output::HttpFmp4,
        ("mp4", true) => Output::WsFmp4,
        _ => return Err(Refusal::NotFound),
    };
    let accept_key = if wants_websocket { Some(handshake(request)?) } else { None };
    let origin = single(request, "origin")?.map(str::to_owned);
    let same_host = is_same_host(origin.as_deref(), single(request, "host")?);
    // A ticket of the wrong shape is answered like an unknown one.
    let ticket = if ticket.len() == LENGTH { ticket.to_owned() } else { String::new() };
    Ok(Request { ticket, output, origin, same_host, accept_key })
}

/// Compares the host of `Origin` (RFC 6454 §7) with that of `Host` (RFC 9110 §7.2), without their ports.
fn is_same_host(origin: Option<&str>, host: Option<&str>) -> bool {
    let page = origin.and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")));
    match (page, host) {
        (Some(page), Some(host)) => !host.is_empty() && without_port(page).eq_ignore_ascii_case(without_port(host)),
        _ => false,
    }
}

fn without_port(authority: &str) -> &str {
    let name = authority.trim_end_matches(|c: char| c.is_ascii_digit());
    // "[::1]" ends in a bracket, so a colon left over here always introduces a port.
    name.strip_suffix(':').unwrap_or(authority)
}

/// Opening handshake of RFC 6455 §4.2.1.
fn handshake(request: &httparse::Request) -> Result<String, Refusal> {
    let connection = single(request, "connection")?.unwrap_or_default();
    if request.version != Some(1) || !connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")) {
        return Err(Refusal::BadRequest);
    }
    if single(request, "sec-websocket-version")? != Some("13") {
        return Err(Refusal::UpgradeRequired);
    }
    let key = single(request, "sec-websocket-key")?.ok_or(Refusal::BadRequest)?;
    // 16 bytes in base 64: 22 characters and "==".
    if key.len() != 24 || !key.ends_with("==") {
        return Err(Refusal::BadRequest);
    }
    Ok(derive_accept_key(key.as_bytes()))
}

/// The value of a header that may come once; twice is a bad request.
fn single<'a>(request: &'a httparse::Request, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut found = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(header) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Refusal::BadRequest);
    }
    std::str::from_utf8(header.value).map(|value| Some(value.trim())).map_err(|_| Refusal::BadRequest)
}

/// Head of the answer to a redeemed ticket. `origin` was checked against the list before.
pub fn accepted(request: &Request) -> String {
    let mut head = match &request.accept_key {
        Some(key) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n"
        ),
        None => {
            let kind = if request.output == Output::HttpFlv { "video/x-flv" } else { "video/mp4" };
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\nConnection: close\r\n\
                 X-Content-Type-Options: nosniff\r\n"
            )
        }
    };
    if let Some(origin) = &request.origin {
        head.push_str("Access-Control-Allow-Origin: ");
        head.push_str(origin);
        head.push_str("\r\nVary: Origin\r\n");
    }
    head.push_str("\r\n");
    head
}

/// Whole answer to a request that gets nothing. Says nothing about the ticket.
pub fn refused(refusal: Refusal) -> &'static [u8] {
    match refusal {
        Refusal::BadRequest => {
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\nConnection: close\r\nCache-Control: no-store\r\n\r\nbad request\n"
        }
        Refusal::Forbidden => {
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\nConnection: close\r\nCache-Control: no-store\r\n\r\nforbidden\n"
        }
        Refusal::NotFound => {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\nConnection: close\r\nCache-Control: no-store\r\n\r\nnot found\n"
        }
        Refusal::MethodNotAllowed => {
            b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        Refusal::UpgradeRequired => {
            b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        Refusal::TooLarge => {
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        Refusal::Busy => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "abcdefghijklmnopqrstuvwxyz234567";

    fn request(line: &str, headers: &str) -> Parsed {
        parse(format!("{line}\r\nHost: x\r\n{headers}\r\n").as_bytes())
    }

    fn refusal(line: &str, headers: &str) -> Refusal {
        match request(line, headers) {
            Parsed::Refused(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n";

    #[test]
    fn the_three_outputs_are_told_apart() {
        let get = |extension: &str, headers: &str| match request(
            &format!("GET /live/{TICKET}.{extension} HTTP/1.1"),
            headers,
        ) {
            Parsed::Complete(request, _) => request,
            other => panic!("not taken: {other:?}"),
        };
        assert_eq!(get("flv", "").output, Output::HttpFlv);
        assert_eq!(get("mp4", "").output, Output::HttpFmp4);
        // The example of RFC 6455 §1.3.
        let socket = get("mp4", &format!("{UPGRADE}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        assert_eq!(socket.output, Output::WsFmp4);
        assert_eq!(socket.accept_key.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(socket.ticket, TICKET);
        let with_origin = get("flv", "Origin: https://console.example\r\n");
        assert!(accepted(&with_origin).contains("Access-Control-Allow-Origin: https://console.example\r\n"));
        assert!(!accepted(&with_origin).contains(TICKET));
    }

    #[test]
    fn a_page_of_the_same_host_is_known_whatever_its_port() {
        for (origin, host, same) in [
            ("http://192.0.2.1:8080", "192.0.2.1:8081", true),
            ("https://Console.example", "console.example:8081", true),
            ("http://[2001:db8::1]:8080", "[2001:db8::1]:8081", true),
            ("http://[2001:db8::1]", "[2001:db8::2]", false),
            ("http://192.0.2.12", "192.0.2.1", false),
            ("http://evil.example", "console.example:8081", false),
            ("http://console.example.evil.example", "console.example", false),
            ("null", "console.example", false),
            ("http://", "", false),
        ] {
            assert_eq!(is_same_host(Some(origin), Some(host)), same, "{origin} {host}");
        }
        assert!(!is_same_host(None, Some("console.example")));
    }

    #[test]
    fn everything_else_is_refused() {
        let line = format!("GET /live/{TICKET}.flv HTTP/1.1");
        assert_eq!(refusal(&line.replace("GET", "POST"), ""), Refusal::MethodNotAllowed);
        assert_eq!(refusal("GET / HTTP/1.1", ""), Refusal::NotFound);
        assert_eq!(refusal(&format!("GET /live/{TICKET}.ts HTTP/1.1"), ""), Refusal::NotFound);
        assert_eq!(refusal(&line, "Origin: a\r\nOrigin: b\r\n"), Refusal::BadRequest);
        assert_eq!(refusal("nonsense\0", ""), Refusal::BadRequest);
        let socket = format!("GET /live/{TICKET}.mp4 HTTP/1.1");
        assert_eq!(refusal(&socket, &UPGRADE.replace("13", "8")), Refusal::UpgradeRequired);
        assert_eq!(refusal(&socket, &format!("{UPGRADE}Sec-WebSocket-Key: short==\r\n")), Refusal::BadRequest);
        assert_eq!(refusal(&socket, "Upgrade: websocket\r\n"), Refusal::BadRequest);
    }

    #[test]
    fn the_head_is_bounded() {
        assert_eq!(parse(b"GET /live/"), Parsed::Partial);
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(MAX_REQUEST));
        assert_eq!(parse(long.as_bytes()), Parsed::Refused(Refusal::TooLarge));
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(refusal("GET / HTTP/1.1", &many), Refusal::TooLarge);
    }

    #[test]
    fn refusals_say_their_true_length() {
        for refusal in [Refusal::BadRequest, Refusal::Forbidden, Refusal::NotFound, Refusal::Busy, Refusal::TooLarge] {
            let text = std::str::from_utf8(refused(refusal)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let said = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), body.len(), "{head}");
        }
    }
}
