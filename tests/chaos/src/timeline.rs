//! Which fault was in force when: what the counts are attributed to.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use serde::Serialize;

use crate::faults::Kind;

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// Now.
pub fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One fault, from its beginning until events get through again everywhere.
#[derive(Debug, Clone, Serialize)]
pub struct Window {
    /// What it was.
    pub kind: Kind,
    /// The process that it hit, where it was one.
    pub what: Option<String>,
    /// When it began.
    pub began: Millis,
    /// When it was over: the process started again, the network clear.
    pub healed: Option<Millis>,
    /// When every partition had handled, for every subscription, an event sent after that.
    pub recovered: Option<Millis>,
}

impl Window {
    fn covers(&self, at: Millis) -> bool {
        self.began <= at && self.recovered.is_none_or(|end| at < end)
    }

    /// Time from its end until all was well again.
    pub fn recovery(&self) -> Option<Millis> {
        Some(self.recovered?.saturating_sub(self.healed?))
    }
}

/// All faults so far, in the order of their beginnings.
#[derive(Debug, Default)]
pub struct Timeline(RwLock<Vec<Window>>);

impl Timeline {
    /// Notes the beginning of a fault; the answer names it.
    pub fn begin(&self, kind: Kind, what: Option<String>) -> usize {
        let mut windows = self.0.write();
        let (began, healed, recovered) = (now_ms(), None, None);
        windows.push(Window { kind, what, began, healed, recovered });
        windows.len() - 1
    }

    /// The fault is over. Returns when.
    pub fn healed(&self, fault: usize) -> Millis {
        let now = now_ms();
        self.0.write()[fault].healed = Some(now);
        now
    }

    /// What it did is made good.
    pub fn recovered(&self, fault: usize) {
        self.0.write()[fault].recovered = Some(now_ms());
    }

    /// The youngest fault in force at that time; `None` in calm.
    pub fn at(&self, at: Millis) -> Option<Kind> {
        self.0.read().iter().rev().find(|window| window.covers(at)).map(|window| window.kind)
    }

    /// All of it.
    pub fn windows(&self) -> Vec<Window> {
        self.0.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: Kind, began: Millis, recovered: Option<Millis>) -> Window {
        Window { kind, what: None, began, healed: None, recovered }
    }

    #[test]
    fn the_youngest_fault_in_force_counts() {
        let windows = vec![
            window(Kind::Kill, 10, Some(20)),
            window(Kind::Reload, 15, Some(18)),
            window(Kind::Broker, 30, None),
        ];
        let timeline = Timeline(RwLock::new(windows));
        assert_eq!(timeline.at(9), None);
        assert_eq!(timeline.at(12), Some(Kind::Kill));
        assert_eq!(timeline.at(15), Some(Kind::Reload));
        assert_eq!(timeline.at(18), Some(Kind::Kill));
        assert_eq!(timeline.at(20), None);
        assert_eq!(timeline.at(1000), Some(Kind::Broker));
    }
}
