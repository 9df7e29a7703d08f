//! A component of `wasi:messaging`, as one would write it for any host of that interface.
//! What it does depends on the data of the message.

wit_bindgen::generate!({
    world: "messaging-request-reply",
    path: "../../runtime/crates/wasm/wit/wasi-messaging-0.2.0-draft",
    generate_all,
});

use exports::wasi::messaging::incoming_handler::Guest;
use wasi::messaging::{
    producer::send,
    request_reply::{RequestOptions, reply, request},
    types::{Client, Error, Message},
};

struct Program;
export!(Program);

impl Guest for Program {
    fn handle(message: Message) -> Result<(), Error> {
        let topic = format!("{}.out", message.topic().unwrap_or_default());
        let client = Client::connect("main")?;
        let data = message.data();
        match &*data {
            // passed on as it came
            b"pass on" => send(&client, &topic, message)?,
            // what was sent before the failure must not be published
            b"fail once" => {
                let attempt = metadata(&message, "sandbar-attempt");
                send(&client, &topic, Message::new(format!("attempt {attempt}").as_bytes()))?;
                if attempt == "1" {
                    return Err(Error::Timeout);
                }
            }
            b"connection" => return Err(Error::Connection("it is cut".into())),
            b"forbidden" => return Err(Error::PermissionDenied("not mine".into())),
            b"other" => return Err(Error::Other("something else".into())),
            b"ask" => {
                let options = RequestOptions::new();
                options.set_timeout_ms(1000);
                let answer = request(&client, &topic, &message, Some(options));
                let text = match answer {
                    Err(Error::Other(text)) => text,
                    _ => "an answer".into(),
                };
                let refused = reply(&message, Message::new(b"")).is_err();
                send(&client, &topic, Message::new(format!("{text}; {refused}").as_bytes()))?;
            }
            b"flood" => loop {
                send(&client, &topic, Message::new(b""))?;
            },
            b"hoard" => {
                let mut held = Vec::new();
                loop {
                    held.push(Message::new(&[0; 1 << 20]));
                }
            }
            b"trap" => std::process::abort(),
            _ => {
                let out = Message::new(&data.to_ascii_uppercase());
                out.set_content_type("text/plain");
                out.set_metadata(&[("x".into(), "1".into()), ("x".into(), "2".into())]);
                out.add_metadata("x", "3");
                out.add_metadata("sandbar-key", &metadata(&message, "sandbar-key"));
                out.add_metadata("gone", "");
                out.remove_metadata("gone");
                send(&client, &topic, out)?;
            }
        }
        client.disconnect()
    }
}

fn metadata(message: &Message, name: &str) -> String {
    let all = message.metadata().unwrap_or_default();
    all.into_iter().find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
}
