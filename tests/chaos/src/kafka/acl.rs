//! Denying writes to a topic, by the two requests of Kafka's protocol that rdkafka lacks.
//! (Version 1 of CreateAcls and DeleteAcls, <https://kafka.apache.org/protocol>.)

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CREATE: i16 = 30;
const DELETE: i16 = 31;
const VERSION: i16 = 1;
const CORRELATION: i32 = 1;

const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const ANY: u8 = 1;
const ALL: u8 = 2;
const WRITE: u8 = 4;
const DENY: u8 = 2;
const ALLOW: u8 = 3;

/// Longest time that a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody may write to `topic` any more; reading goes on. `broker` is `host:port`.
pub async fn deny_writes(broker: &str, topic: &str) -> Result<()> {
    // a topic with any rule denies what no rule allows
    let rules = [("User:*", ALL, ALLOW), ("User:ANONYMOUS", WRITE, DENY)];
    let mut body = Vec::from(2i32.to_be_bytes());
    for (principal, operation, permission) in rules {
        body.push(TOPIC);
        string(&mut body, topic);
        body.push(LITERAL);
        string(&mut body, principal);
        string(&mut body, "*");
        body.extend([operation, permission]);
    }
    request(broker, CREATE, &body).await.with_context(|| format!("cannot deny writing to {topic}"))
}

/// Removes every rule about `topic`.
pub async fn allow_all(broker: &str, topic: &str) -> Result<()> {
    let mut body = Vec::from(1i32.to_be_bytes());
    body.push(TOPIC);
    string(&mut body, topic);
    body.push(LITERAL);
    // any principal, any host
    body.extend((-1i16).to_be_bytes());
    body.extend((-1i16).to_be_bytes());
    body.extend([ANY, ANY]);
    request(broker, DELETE, &body).await.with_context(|| format!("cannot allow writing to {topic}"))
}

fn string(body: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}

async fn request(broker: &str, key: i16, body: &[u8]) -> Result<()> {
    let mut header = Vec::new();
    header.extend(key.to_be_bytes());
    header.extend(VERSION.to_be_bytes());
    header.extend(CORRELATION.to_be_bytes());
    string(&mut header, "sandbar-chaos");
    let length = i32::try_from(header.len() + body.len())?;
    let exchange = async {
        let mut stream = TcpStream::connect(broker).await?;
        stream.write_all(&[&length.to_be_bytes(), &header[..], body].concat()).await?;
        let mut answer = vec![0; usize::try_from(stream.read_i32().await?)?];
        stream.read_exact(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.context("no answer")??;
    check(&answer)
}

/// Correlation id, throttle time, number of results, and of each the error code first. The
/// first one that is not zero is as good as any.
fn check(answer: &[u8]) -> Result<()> {
    let results = answer.get(8..).context("a short answer")?;
    ensure!(results.len() >= 6, "a short answer");
    let error = i16::from_be_bytes([results[4], results[5]]);
    ensure!(error == 0, "the broker answered with error code {error}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_is_an_error() {
        let answer = |code: i16| {
            let mut bytes = vec![0; 8];
            bytes.extend(1i32.to_be_bytes());
            bytes.extend(code.to_be_bytes());
            bytes
        };
        assert!(check(&answer(0)).is_ok());
        assert!(check(&answer(31)).unwrap_err().to_string().contains("31"));
        assert!(check(&[0; 9]).is_err());
    }
}
