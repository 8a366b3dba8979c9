//! Just enough of an HTTP client: one request on a connection of its own, and the whole answer as text.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wait::DEADLINE;

/// An answer: names of headers are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values, in the order of the answer.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The value of a header, if there is exactly one of that name; the name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// Reads an answer as it came, with its head, up to the end of the connection.
    pub fn parse(raw: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(raw);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| invalid(&text))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| {
                line.strip_prefix("HTTP/1.1 ")
                    .or_else(|| line.strip_prefix("HTTP/1.0 "))
            })
            .and_then(|line| line.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| invalid(&text))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked {
            unchunk(body).ok_or_else(|| invalid(&text))?
        } else {
            body.to_owned()
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }
}

/// Sends one request to a base address as `http://127.0.0.1:PORT` and reads the answer.
pub async fn request(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let authority = authority(base);
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let answer = exchange(authority, format!("{head}\r\n{body}").as_bytes()).await?;
    Response::parse(&answer)
}

/// Sends these bytes on a new connection and reads whatever comes back until the other side closes it.
pub async fn exchange(authority: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(authority).await?;
        // Who refuses early may close before it has read everything; its answer is there all the same.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // What was left unread of our bytes makes the system reset the connection: also an end.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(answer),
        }
    };
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{authority} did not answer and close within {DEADLINE:?}"),
        )
    };
    timeout(DEADLINE, exchange).await.map_err(late)?
}

/// The host and port in a base address.
pub fn authority(base: &str) -> &str {
    base.strip_prefix("http://")
        .unwrap_or_else(|| panic!("{base} is not an address of ours"))
        .trim_end_matches('/')
}

fn invalid(answer: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not an HTTP answer: {answer:?}"),
    )
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..length)?);
        body = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}
