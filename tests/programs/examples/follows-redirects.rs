//! Follows redirects wherever they lead, for as long as they lead anywhere.

mod requests;

use requests::{ErrorCode, get, status};

requests::program!(attempt);

fn attempt(mut url: String) -> String {
    loop {
        let response = get(&url);
        let location = match &response {
            Ok(response) => response.headers().get("location").pop(),
            Err(ErrorCode::HttpResponseTimeout) => continue,
            Err(_) => None,
        };
        match location {
            Some(location) => url = String::from_utf8(location).expect("a URL"),
            None => return status(&response),
        }
    }
}
