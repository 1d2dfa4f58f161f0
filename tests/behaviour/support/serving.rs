//! Requests to what the operator serves over HTTP.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The status line and the body of an answer; nothing while the port is not open.
pub async fn get(address: &str, path: &str) -> Option<(String, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: bindery\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}
