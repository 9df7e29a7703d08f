//! Uses every WASI grant there is and returns what it saw.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world looks-around {
            include sandbar:events/event-handler@0.1.0;
            import wasi:clocks/wall-clock@0.2.0;
            import wasi:random/random@0.2.0;
            import wasi:cli/environment@0.2.0;
            import wasi:cli/stdout@0.2.0;
            import wasi:cli/stderr@0.2.0;
            import wasi:cli/exit@0.2.0;
            import wasi:filesystem/preopens@0.2.0;
        }
    ",
    world: "sandbar:program/looks-around",
    path: [
        "../../wit/0.1.0",
        "wit/io.wit",
        "wit/clocks.wit",
        "wit/random.wit",
        "wit/filesystem.wit",
        "wit/cli.wit",
    ],
    generate_all,
});

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};
use wasi::{
    cli::{environment, exit, stderr, stdout},
    clocks::wall_clock,
    filesystem::preopens,
    random::random,
};

struct Program;
export!(Program);

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        if event.payload.as_deref() == Some(b"exit") {
            exit::exit(Err(()));
        }
        // a line in two pieces, and one that has no end
        let out = stdout::get_stdout();
        out.blocking_write_and_flush(b"one ").expect("stdout takes it");
        out.blocking_write_and_flush(b"line\nand a rest").expect("stdout takes it");
        let err = stderr::get_stderr();
        err.blocking_write_and_flush(b"oops\n").expect("stderr takes it");

        let mut saw = environment::get_environment();
        saw.push(("arguments".into(), environment::get_arguments().len().to_string()));
        saw.push(("folders".into(), preopens::get_directories().len().to_string()));
        saw.push(("year".into(), (1970 + wall_clock::now().seconds / 31_556_952).to_string()));
        let differs = random::get_random_u64() != random::get_random_u64();
        saw.push(("random".into(), differs.to_string()));
        Ok(vec![Outgoing {
            connection: None,
            topic: "saw".into(),
            key: None,
            payload: None,
            headers: Vec::new(),
            attributes: saw,
        }])
    }
}
