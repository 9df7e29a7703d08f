//! Sends requests and looks at none of their responses.

mod requests;

use requests::{Fields, request, send};

requests::program!(attempt);

fn attempt(url: String) -> String {
    let mut sent = Vec::new();
    loop {
        sent.extend(send(request(&url, Fields::new())));
    }
}
