//! A component of `wasmcloud:messaging@0.3.0`, as one would write it for wasmCloud. What it
//! does depends on the body of the message.

wit_bindgen::generate!({
    world: "handler-service",
    path: "../../runtime/crates/wasm/wit/wasmcloud-messaging-0.3.0",
    generate_all,
});

use exports::wasmcloud::messaging::handler::{BrokerMessage, Guest, HandleMessageError};
use wasmcloud::messaging::{
    consumer::{publish, request},
    types::Error,
};
use wit_bindgen::{StreamReader, spawn_local};

struct Program;
export!(Program);

/// A stream of `bytes`, written while somebody reads it.
fn stream(bytes: Vec<u8>) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(bytes).await;
    });
    reader
}

impl Guest for Program {
    async fn handle_message(message: BrokerMessage) -> Result<(), HandleMessageError> {
        let subject = format!("{}.out", message.subject);
        let reply_to = message.reply_to;
        let body = message.body.collect().await;
        let send = |body: Vec<u8>| BrokerMessage {
            subject: subject.clone(),
            body: stream(body),
            reply_to: reply_to.clone(),
        };
        let said = |error: Error| HandleMessageError::Other(format!("{error:?}"));
        match &*body {
            b"fail" => {
                publish(send(body)).await.map_err(said)?;
                Err(HandleMessageError::Other("it cannot be done".into()))
            }
            b"retry" => Err(HandleMessageError::Retry),
            b"reject" => Err(HandleMessageError::Reject),
            b"ask" => match request(subject.clone(), stream(body), None).await {
                Ok(_) => Ok(()),
                Err(Error::Other(why)) => Err(HandleMessageError::Other(why)),
                Err(error) => Err(said(error)),
            },
            b"flood" => loop {
                publish(send(vec![0; 1 << 10])).await.map_err(said)?;
            },
            b"hoard" => loop {
                publish(send(vec![0; 1 << 20])).await.map_err(said)?;
            },
            _ => publish(send(body.to_ascii_uppercase())).await.map_err(said),
        }
    }
}
