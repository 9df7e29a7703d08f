//! Generated from `wit/0.1.1`.
//!
//! A plugin's world is made of three parts that wit-component joins again: `base` has the
//! imports, `plugin` and `lifecycle`, either `single` or `batch` the portable handler, and
//! `packed` the fast path. Together they are `packed-plugin` or `packed-batch-plugin`;
//! generating those two would define the exports that they share twice.
#![allow(unsafe_code, reason = "the canonical ABI passes raw pointers; wit-bindgen writes this")]
#![allow(missing_docs, reason = "generated; authors see the SDK's own types")]

pub mod base {
    wit_bindgen::generate!({
        path: "../../wit/0.1.1",
        inline: "
            package sandbar:sdk;
            world base {
                include sandbar:events/imports@0.1.1;
                import sandbar:events/types@0.1.1;
                export sandbar:events/plugin@0.1.1;
                export sandbar:events/lifecycle@0.1.1;
            }
        ",
        world: "sandbar:sdk/base",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_base",
    });
}

pub mod single {
    wit_bindgen::generate!({
        path: "../../wit/0.1.1",
        inline: "
            package sandbar:sdk;
            world single {
                export sandbar:events/handler@0.1.1;
            }
        ",
        world: "sandbar:sdk/single",
        with: {
            "sandbar:events/types@0.1.1": super::base::sandbar::events::types,
            "sandbar:events/handler@0.1.1": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_single",
    });
}

pub mod batch {
    wit_bindgen::generate!({
        path: "../../wit/0.1.1",
        inline: "
            package sandbar:sdk;
            world batch {
                export sandbar:events/batch-handler@0.1.1;
            }
        ",
        world: "sandbar:sdk/batch",
        with: {
            "sandbar:events/types@0.1.1": super::base::sandbar::events::types,
            "sandbar:events/batch-handler@0.1.1": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_batch",
    });
}

/// A part of its own: `wasi:http` is no part of the contract, and most plugins have none of it.
pub mod http {
    wit_bindgen::generate!({
        path: "../../wit/0.1.1",
        inline: "
            package sandbar:sdk;
            world http {
                import wasi:http/outgoing-handler@0.2.12;
            }
        ",
        world: "sandbar:sdk/http",
        generate_all,
    });
}

pub mod packed {
    wit_bindgen::generate!({
        path: "../../wit/0.1.1",
        inline: "
            package sandbar:sdk;
            world packed {
                export sandbar:events/packed-handler@0.1.1;
            }
        ",
        world: "sandbar:sdk/packed",
        pub_export_macro: true,
        export_macro_name: "export_packed",
    });
}
