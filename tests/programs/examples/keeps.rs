//! Does with its state, and publishes, what the payload says: commands between `;`, whose
//! answers it returns line by line.

wit_bindgen::generate!({ world: "event-plugin", path: "../../wit/0.1.1", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};
use sandbar::events::{
    publisher, state,
    types::{RejectReason, RetryHint},
};
use wasi::config::store;

struct Program;
export!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "keeps".into(),
            version: "1".into(),
            description: "for tests".into(),
            subscriptions: Vec::new(),
            publishes: Vec::new(),
            config_schema: None,
            annotations: Vec::new(),
        }
    }
}

impl lifecycle::Guest for Program {
    fn init() -> Result<(), String> {
        match store::get("init").ok().flatten() {
            Some(commands) => Err(run(&commands).unwrap_or_default()),
            None => Ok(()),
        }
    }
}

fn outgoing(topic: &str, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        connection: None,
        topic: topic.into(),
        key: None,
        payload: Some(payload),
        headers: Vec::new(),
        attributes: Vec::new(),
    }
}

/// The answers to `commands`, or how the attempt ends.
fn run(commands: &str) -> Result<String, Failure> {
    let mut answers = Vec::new();
    for command in commands.split(';').filter(|c| !c.is_empty()) {
        answers.push(answer(command)?);
    }
    Ok(answers.join("\n"))
}

fn answer(command: &str) -> Result<String, Failure> {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    Ok(match words[..] {
        ["get", key] => match state::get(key) {
            Ok(Some(entry)) => String::from_utf8(entry.value).unwrap(),
            Ok(None) => "nothing".into(),
            Err(error) => format!("{error:?}"),
        },
        ["set", key, value] => format!("{:?}", state::set(key, value.as_bytes(), None)),
        ["set", key, value, _] => format!("{:?}", state::set(key, value.as_bytes(), number(3))),
        ["fill", key, _] => {
            let value = vec![b'x'; number(2).unwrap() as usize];
            format!("{:?}", state::set(key, &value, None))
        }
        // the version is what the key has now
        ["replace", key, value] => {
            let version = state::get(key).unwrap().map(|entry| entry.version);
            format!("{:?}", state::compare_and_set(key, value.as_bytes(), version, None))
        }
        ["cas", key, value, _] => {
            format!("{:?}", state::compare_and_set(key, value.as_bytes(), number(3), None))
        }
        ["add", key, delta] => format!("{:?}", state::increment(key, delta.parse().unwrap())),
        ["delete", key] => format!("{:?}", state::delete(key)),
        ["list", prefix, cursor, _] => {
            let cursor = Some(cursor).filter(|cursor| *cursor != "-");
            let keys = state::list_keys(prefix, cursor, number(3).unwrap() as u32);
            keys.map_or_else(|error| format!("{error:?}"), |keys| keys.join(","))
        }
        ["publish", topic, _] => {
            let event = outgoing(topic, vec![b'x'; number(2).unwrap() as usize]);
            format!("{:?}", publisher::publish(&[event]))
        }
        ["publish-many", topic, _] => {
            let events: Vec<_> =
                (0..number(2).unwrap()).map(|_| outgoing(topic, Vec::new())).collect();
            format!("{:?}", publisher::publish(&events))
        }
        ["retry"] => {
            return Err(Failure::Retry(RetryHint { reason: "as told".into(), delay_ms: None }));
        }
        ["skip"] => return Err(Failure::Skip("as told".into())),
        ["trap"] => std::process::abort(),
        _ => {
            let (code, message) = ("unknown".into(), command.into());
            return Err(Failure::Reject(RejectReason { code, message }));
        }
    })
}

impl handler::Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        let commands = String::from_utf8(event.payload.unwrap_or_default()).unwrap();
        Ok(vec![outgoing("answers", run(&commands)?.into_bytes())])
    }
}
