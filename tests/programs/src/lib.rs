//! Guest programs for tests: each file in `examples/` is one, written directly
//! against the WIT so that it can do what an SDK would not let it, and each file in
//! `modules/` is one that no compiler would make, a core module in the text format.
//!
//! `make guests` builds the examples into `guests/program-NAME.wasm`; tests encode the
//! modules themselves. Each is proven by one test that bears its name, in
//! `runtime/crates/wasm/tests/host`, and all are run beside a neighbour by `contained.rs`.

pub use sandbar_frame as frame;

/// Exports the packed fast path beside the handler of `$program`, from the same source:
/// `packed!(Program)` for `handler`, `packed!(batch Program)` for `batch-handler`. The tests
/// of the host run such programs both ways.
#[macro_export]
macro_rules! packed {
    ($program:ident) => {
        $crate::packed!(
            @export $program, handler,
            |events: Vec<_>| events.into_iter().map($program::handle).collect::<Vec<_>>()
        );
    };
    (batch $program:ident) => {
        $crate::packed!(@export $program, batch_handler, $program::handle_batch);
    };
    (@export $program:ident, $handler:ident, $handle:expr) => {
        mod packed {
            wit_bindgen::generate!({
                inline: "
                    package sandbar:program;
                    world packed {
                        export sandbar:events/packed-handler@0.1.1;
                    }
                ",
                world: "sandbar:program/packed",
                path: "../../wit/0.1.1",
                generate_all,
            });

            use exports::sandbar::events::packed_handler;
            use $crate::frame::{self, Events, OutcomesWriter};

            use super::{
                $program,
                exports::sandbar::events::$handler::{Event, Failure, Guest, Outgoing},
                sandbar::events::types::Header,
            };

            export!($program);

            impl packed_handler::Guest for $program {
                fn handle_packed(frame: Vec<u8>) -> Vec<u8> {
                    let mut packed = Events::open(&frame).expect("a frame");
                    let mut events = Vec::new();
                    let header = |name: &str, value: &[u8]| Header {
                        name: name.into(),
                        value: value.into(),
                    };
                    let attribute = |name: &str, value: &str| (name.into(), value.into());
                    while let Some(event) = packed.next(header, attribute) {
                        let event = event.expect("an event");
                        events.push(Event {
                            topic: event.topic.into(),
                            partition: event.partition,
                            position: event.position,
                            key: event.key.map(Into::into),
                            payload: event.payload.map(Into::into),
                            headers: event.headers,
                            timestamp_ms: event.timestamp_ms,
                            attempt: event.attempt,
                            attributes: event.attributes,
                        });
                    }
                    let mut outcomes = OutcomesWriter::with_capacity(frame.len());
                    ($handle)(events).iter().for_each(|outcome| write(&mut outcomes, outcome));
                    outcomes.finish()
                }
            }

            fn write(outcomes: &mut OutcomesWriter, outcome: &Result<Vec<Outgoing>, Failure>) {
                match outcome {
                    Ok(outputs) => outcomes.handled(outputs.iter().map(|o| frame::Outgoing {
                        connection: o.connection.as_deref(),
                        topic: &o.topic,
                        key: o.key.as_deref(),
                        payload: o.payload.as_deref(),
                        headers: o.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice())),
                        attributes: o.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())),
                    })),
                    Err(failure) => outcomes.failed(match failure {
                        Failure::Retry(hint) => frame::Failure::Retry {
                            reason: &hint.reason,
                            delay_ms: hint.delay_ms,
                        },
                        Failure::Reject(reason) => frame::Failure::Reject {
                            code: &reason.code,
                            message: &reason.message,
                        },
                        Failure::Skip(reason) => frame::Failure::Skip { reason },
                        Failure::Defer(ms) => frame::Failure::Defer { pause_ms: *ms },
                    }),
                }
            }
        }
    };
}
