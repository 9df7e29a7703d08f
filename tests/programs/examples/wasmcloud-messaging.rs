//! A component of `wasmcloud:messaging@0.2.0`, as one would write it for wasmCloud. What it
//! does depends on the body of the message.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world wasmcloud {
            import wasmcloud:messaging/consumer@0.2.0;
            export wasmcloud:messaging/handler@0.2.0;
        }
    ",
    world: "sandbar:program/wasmcloud",
    path: "../../runtime/crates/wasm/wit/wasmcloud-messaging-0.2.0",
    generate_all,
});

use exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use wasmcloud::messaging::consumer::{publish, request};

struct Program;
export!(Program);

impl Guest for Program {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let subject = format!("{}.out", message.subject);
        match &*message.body {
            b"fail" => {
                publish(&BrokerMessage { subject, ..message })?;
                Err("it cannot be done".into())
            }
            b"ask" => request(&subject, b"", 1000).map(|_| ()),
            body => {
                let body = body.to_ascii_uppercase();
                publish(&BrokerMessage { subject, body, reply_to: message.reply_to })
            }
        }
    }
}
