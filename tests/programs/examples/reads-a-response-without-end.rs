//! Reads a response for as long as there is more of it, and then asks for another.

mod requests;

use requests::get;

requests::program!(attempt);

fn attempt(url: String) -> String {
    loop {
        let Ok(response) = get(&url) else { continue };
        let body = response.consume().expect("once");
        let stream = body.stream().expect("once");
        while stream.blocking_read(1 << 16).is_ok() {}
    }
}
