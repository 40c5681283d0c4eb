//! The PROXY protocol, versions 1 and 2: a load balancer in front says who its client is.
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A header of version 2 with the extensions that are in use.
const BYTES_MAX: usize = 1024;
/// The header comes in one piece, nearly always: this is for the rest.
const POLL: Duration = Duration::from_millis(5);

/// Takes the header off the stream. `None`: the balancer speaks for itself, as in a health check.
pub async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>> {
    let mut buffer = [0; BYTES_MAX];
    loop {
        let length = stream.peek(&mut buffer).await?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match parse(&buffer[..length])? {
            Some((bytes, client)) => {
                stream.read_exact(&mut buffer[..bytes]).await?;
                return Ok(client);
            }
            None if length == BYTES_MAX => return Err(Error::new(ErrorKind::InvalidData, "the header is too long")),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

pub(crate) type Parsed = Option<(usize, Option<SocketAddr>)>;

/// The header's length and the client; `None`: there is more to come.
pub(crate) fn parse(input: &[u8]) -> Result<Parsed> {
    let result = HeaderResult::parse(input);
    if result.is_incomplete() {
        return Ok(None);
    }
    let invalid = |error: String| Error::new(ErrorKind::InvalidData, error);
    match result {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
                v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Ok(Some((header.header.len(), client)))
        }
        HeaderResult::V2(Ok(header)) => {
            let client = match (header.command, header.addresses) {
                (v2::Command::Local, _) => None,
                (v2::Command::Proxy, v2::Addresses::IPv4(a)) => Some((a.source_address, a.source_port).into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(a)) => Some((a.source_address, a.source_port).into()),
                (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => None,
            };
            Ok(Some((header.header.len(), client)))
        }
        HeaderResult::V1(Err(error)) => Err(invalid(error.to_string())),
        HeaderResult::V2(Err(error)) => Err(invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let text = b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(text).unwrap(), Some((44, Some("192.0.2.1:4000".parse().unwrap()))));
        assert_eq!(parse(b"PROXY UNKNOWN\r\nGET").unwrap(), Some((15, None)));
        assert_eq!(parse(&text[..20]).unwrap(), None);
        assert!(parse(b"GET / HTTP/1.1\r\n\r\n").is_err());
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend([192, 0, 2, 1, 198, 51, 100, 1, 0x0f, 0xa0, 1, 187]);
        assert_eq!(parse(&binary).unwrap(), Some((28, Some("192.0.2.1:4000".parse().unwrap()))));
        assert_eq!(parse(&binary[..14]).unwrap(), None);
        binary[12] = 0x20;
        assert_eq!(parse(&binary).unwrap(), Some((28, None)), "a health check");
    }
}
