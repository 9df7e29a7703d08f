//! Sends the HTTP request that the payload says.

use std::{collections::BTreeMap, time::Duration};

use sandbar_sdk::{Failure, Json, Outgoing, http::Request};

#[derive(serde::Deserialize)]
#[serde(default)]
struct Wish {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
    timeout_ms: Option<u64>,
    /// Where the response leads is followed so often.
    follow: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            url: String::new(),
            headers: BTreeMap::new(),
            body: String::new(),
            timeout_ms: None,
            follow: 0,
        }
    }
}

#[sandbar_sdk::handler(topics = ["in"], publishes = ["out"], crate = sandbar_sdk)]
fn requests(Json(mut wish): Json<Wish>) -> Result<Outgoing, Failure> {
    loop {
        let mut request = Request::new(&*wish.method, &*wish.url).body(&*wish.body);
        request.timeout = wish.timeout_ms.map(Duration::from_millis);
        for (name, value) in &wish.headers {
            request = request.header(name, &**value);
        }
        let response = request.send()?;
        match response.header("location") {
            Some(location) if wish.follow > 0 => {
                wish.url = location.to_owned();
                wish.follow -= 1;
            }
            _ => {
                let mut output = Outgoing::new("out").payload(response.body);
                for (name, value) in response.headers {
                    output = output.header(name, value);
                }
                return Ok(output.attribute("status", response.status.to_string()));
            }
        }
    }
}
