//! Fills the headers of requests that it never sends: 120 kB each, a hundred megabytes in all.

mod requests;

use requests::Fields;

requests::program!(attempt);

/// Of the 1000 resources that it may have.
const HEADERS: usize = 900;

fn attempt(_: String) -> String {
    let value = [b'x'; 1000];
    let mut held = Vec::new();
    for _ in 0..HEADERS {
        let headers = Fields::new();
        for _ in 0..120 {
            let _ = headers.append("x", &value);
        }
        held.push(headers);
    }
    "the host keeps it all".into()
}
