//! Asks for the same again and again, for the case that its name leads elsewhere the next time.
//! Says what came of each.

mod requests;

use requests::{get, status};

requests::program!(attempt);

fn attempt(url: String) -> String {
    (0..6).map(|_| status(&get(&url))).collect::<Vec<_>>().join("\n")
}
