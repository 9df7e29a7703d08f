//! What an inspected plugin is called, and what it lacks.

use std::collections::BTreeSet;

use crate::{Concurrent, Grant, HandlerKind, Inspection, capability};

impl Inspection {
    /// The world that it was built for, as far as its exports tell: `event-plugin` of
    /// `sandbar:events`, or the interface of another package by which it takes events.
    pub fn world(&self) -> String {
        let exports = |name: &str| {
            let of = |export: &&String| {
                export.split('@').next().and_then(|e| e.strip_prefix("sandbar:events/"))
                    == Some(name)
            };
            self.exports.iter().find(of)
        };
        let version = |export: &str| export.split_once('@').map_or("", |(_, v)| v).to_owned();
        let describes = exports("plugin").is_some();
        if self.handler == HandlerKind::Concurrent(Concurrent::Events)
            && let Some(handler) = self.exports.iter().find(|export| Concurrent::shows_in(export))
        {
            let world = if describes { "event-plugin" } else { "event-handler" };
            return format!("sandbar:events-async/{world}@{}", version(handler));
        }
        let (batch, each) = (exports("batch-handler"), exports("handler"));
        let Some(handler) = batch.or(each).or(exports("packed-handler")) else {
            let foreign = self.exports.iter().find(|export| export.contains("handler"));
            return foreign.or(self.exports.first()).cloned().unwrap_or_default();
        };
        let world = match (exports("packed-handler").is_some(), batch.is_some(), describes) {
            (_, _, false) => "event-handler",
            (false, false, true) => "event-plugin",
            (false, true, true) => "batch-plugin",
            (true, false, true) => "packed-plugin",
            (true, true, true) => "packed-batch-plugin",
        };
        format!("sandbar:events/{world}@{}", version(handler))
    }

    /// Grants that it needs and that `given` does not hold.
    pub fn missing(&self, given: &BTreeSet<Grant>) -> Vec<Grant> {
        self.grants.iter().copied().filter(|grant| !capability::allows(given, *grant)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn inspected(exports: &[&str], grants: &[Grant]) -> Inspection {
        Inspection {
            digest: String::new(),
            size: 0,
            api: "0.1",
            handler: HandlerKind::Each,
            imports: Vec::new(),
            exports: exports.iter().map(ToString::to_string).collect(),
            grants: grants.iter().copied().collect(),
            description: None,
            compile_time: Duration::ZERO,
            cached: false,
        }
    }

    #[test]
    fn the_world_is_told_by_the_exports() {
        let world = |exports: &[&str]| inspected(exports, &[]).world();
        let handler = "sandbar:events/handler@0.1.0";
        let plugin = "sandbar:events/plugin@0.1.0";
        assert_eq!(world(&[handler]), "sandbar:events/event-handler@0.1.0");
        assert_eq!(world(&[plugin, handler]), "sandbar:events/event-plugin@0.1.0");
        let batch = "sandbar:events/batch-handler@0.1.1";
        let packed = "sandbar:events/packed-handler@0.1.1";
        assert_eq!(world(&[plugin, batch]), "sandbar:events/batch-plugin@0.1.1");
        assert_eq!(world(&[plugin, packed, batch]), "sandbar:events/packed-batch-plugin@0.1.1");
        let foreign = "wasi:messaging/incoming-handler@0.2.0-draft";
        assert_eq!(world(&["other:thing/a@1.0.0", foreign]), foreign);
        let exports = ["sandbar:events-async/handler@0.1.0", "sandbar:events/plugin@0.1.1"];
        let mut many = inspected(&exports, &[]);
        many.handler = HandlerKind::Concurrent(Concurrent::Events);
        assert_eq!(many.world(), "sandbar:events-async/event-plugin@0.1.0");
    }

    #[test]
    fn s3_what_is_missing_is_what_no_grant_holds() {
        let needs = inspected(&[], &[Grant::Clocks, Grant::Random]);
        assert_eq!(needs.missing(&[Grant::Clocks].into()), [Grant::Random]);
        assert_eq!(needs.missing(&[Grant::Wasi].into()), []);
    }
}
