//! Who holds which cursor. Two plugins on one would take each other's events.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

/// A cursor: connection and group.
type Cursor = (String, String);

/// The cursors in use, by the plugin that holds them.
#[derive(Debug, Default, Clone)]
pub(super) struct Groups(Arc<Mutex<BTreeMap<Cursor, String>>>);

/// A cursor in use, given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    groups: Groups,
    cursor: Cursor,
}

impl Groups {
    /// Takes the cursor for `plugin`.
    ///
    /// # Errors
    /// The name of the other plugin that holds it.
    pub(super) fn claim(
        &self,
        plugin: &str,
        connection: &str,
        group: &str,
    ) -> Result<Claim, String> {
        let cursor = (connection.to_owned(), group.to_owned());
        match self.0.lock().entry(cursor.clone()) {
            Entry::Vacant(free) => {
                free.insert(plugin.to_owned());
                Ok(Claim { groups: self.clone(), cursor })
            }
            Entry::Occupied(taken) => Err(taken.get().clone()),
        }
    }
}

impl Claim {
    /// Whether this is the cursor of `group` on `connection`.
    pub(super) fn covers(&self, connection: &str, group: &str) -> bool {
        (self.cursor.0.as_str(), self.cursor.1.as_str()) == (connection, group)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.groups.0.lock().remove(&self.cursor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_holder_until_it_is_given_back() {
        let groups = Groups::default();
        let claim = groups.claim("a", "log", "g").unwrap();
        assert!(claim.covers("log", "g") && !claim.covers("kafka", "g"));
        assert_eq!(groups.claim("b", "log", "g").unwrap_err(), "a");
        let elsewhere = groups.claim("b", "kafka", "g");
        assert!(elsewhere.is_ok());
        drop(claim);
        assert!(groups.claim("b", "log", "g").is_ok());
    }
}
