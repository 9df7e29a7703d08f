//! Returns a frame of outcomes that is none, of the kind that the first payload says, unless
//! it is called with one event that is well-behaved.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world packed-nonsense {
            export sandbar:events/handler@0.1.1;
            export sandbar:events/packed-handler@0.1.1;
        }
    ",
    world: "sandbar:program/packed-nonsense",
    path: "../../wit/0.1.1",
    generate_all,
});

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    packed_handler,
};
use sandbar_programs::frame::{Events, OutcomesWriter};

struct Program;
export!(Program);

impl handler::Guest for Program {
    fn handle(_: Event) -> Result<Vec<Outgoing>, Failure> {
        Ok(Vec::new())
    }
}

impl packed_handler::Guest for Program {
    fn handle_packed(frame: Vec<u8>) -> Vec<u8> {
        let mut events = Events::open(&frame).expect("a frame");
        let mut outcomes = OutcomesWriter::with_capacity(0);
        let mut spoil: Option<Vec<u8>> = None;
        while let Some(event) = events.next(|_, _| (), |_, _| ()) {
            outcomes
                .handled::<[sandbar_programs::frame::Outgoing<'_, [_; 0], [_; 0]>; 0], _, _>([]);
            match event.expect("an event").payload {
                Some(b"ok") => {}
                Some(payload) => spoil = Some(payload.to_vec()),
                None => {}
            }
        }
        let frame = outcomes.finish();
        match spoil.as_deref() {
            None => frame,
            Some(b"empty") => Vec::new(),
            Some(b"version") => [&[9], &frame[1..]].concat(),
            Some(b"cut") => frame[..frame.len() - 1].to_vec(),
            Some(b"longer") => [&frame[..], &[0]].concat(),
            Some(b"flood") => [&frame[..6], &[0xff; 4], &frame[10..]].concat(),
            Some(_) => vec![0xff; 64],
        }
    }
}
