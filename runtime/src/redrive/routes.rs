//! Which connection a group reads its inbox on.

use std::{collections::HashMap, sync::Arc};

use sandbar_core::Connection;

use super::MAX_REDRIVES;

/// Connections by consumer group.
pub struct Routes {
    home: Route,
    by_group: HashMap<String, Route>,
}

/// Where the letters of a group go.
#[derive(Clone)]
pub(super) struct Route {
    pub connection: Arc<dyn Connection>,
    pub max_redrives: u32,
    /// Whether a plugin that is configured here has this group.
    pub known: bool,
}

impl Routes {
    /// All letters go to inboxes on `home`, the connection that they lie on.
    pub fn new(home: Arc<dyn Connection>) -> Self {
        let home = Route { connection: home, max_redrives: MAX_REDRIVES, known: false };
        Self { home, by_group: HashMap::new() }
    }

    /// Those of `group` go to its inbox on `connection`, up to `max_redrives` times each.
    pub fn add(&mut self, group: &str, connection: Arc<dyn Connection>, max_redrives: u32) {
        let route = Route { connection, max_redrives, known: true };
        self.by_group.insert(group.to_owned(), route);
    }

    /// The connection that the letters lie on.
    pub fn home(&self) -> &Arc<dyn Connection> {
        &self.home.connection
    }

    /// How often a letter of `group` is redriven.
    pub fn max_redrives(&self, group: &str) -> u32 {
        self.of(group).max_redrives
    }

    pub(super) fn of(&self, group: &str) -> &Route {
        self.by_group.get(group).unwrap_or(&self.home)
    }
}
