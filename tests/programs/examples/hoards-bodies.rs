//! Fills the bodies of requests that it never sends. Says how many bytes the host keeps for it.

mod requests;

use requests::{Fields, request};

requests::program!(attempt);

/// With a body and a stream into it each: 900 of the 1000 resources that it may have.
const REQUESTS: usize = 300;

fn attempt(url: String) -> String {
    let chunk = vec![0; 1 << 20];
    let mut held = Vec::new();
    let mut bytes = 0;
    for _ in 0..REQUESTS {
        let request = request(&url, Fields::new());
        let body = request.body().expect("once");
        let stream = body.write().expect("once");
        while let Ok(room) = stream.check_write()
            && room > 0
        {
            let part = &chunk[..chunk.len().min(room as usize)];
            stream.write(part).expect("there is room");
            bytes += part.len();
        }
        held.push((stream, body, request));
    }
    bytes.to_string()
}
