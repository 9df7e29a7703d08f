//! Typed bindings of `sandbar:events@0.1.1`.
//!
//! Arguments are borrowed, so that an event's bytes are copied once: from the
//! broker's buffer into the guest's memory.

wasmtime::component::bindgen!({
    path: "../../../wit/0.1.1",
    inline: "
        package sandbar:host;
        world served {
            include sandbar:events/imports@0.1.1;
            export sandbar:events/plugin@0.1.1;
            export sandbar:events/lifecycle@0.1.1;
            export sandbar:events/handler@0.1.1;
            export sandbar:events/batch-handler@0.1.1;
            export sandbar:events/packed-handler@0.1.1;
        }
    ",
    world: "sandbar:host/served",
    imports: {
        // these wait for something outside of the instance
        "sandbar:events/state": async | trappable,
        "sandbar:events/publisher": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
