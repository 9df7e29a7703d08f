//! What the operator's files say about the plugins' dead letters.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sandbar::{
    config::{Config, Declared, PluginConfig},
    plugin_file,
    redrive::Routes,
};

use crate::commands::{Global, connect, folder};

/// The settings of all plugins that have a file or a place in the configuration, and of
/// the routes. The plugins themselves are not asked.
pub fn plugins(config: &Config) -> BTreeMap<String, PluginConfig> {
    let files = folder::plugins(&config.plugins_folder).unwrap_or_default();
    let names = files.keys().map(String::as_str).chain(config.configured_plugins());
    let names: BTreeSet<&str> = names.collect();
    let settings = |name: &str| {
        let sidecar = files.get(name).and_then(|file| {
            let text = plugin_file::read(file).ok()?.settings?;
            config.sidecar(&file.settings, &text).ok()
        });
        // without a topic to read the settings would not be complete
        let declared = Declared { topics: vec!["any".to_owned()], ..Declared::default() };
        config.plugin(name, &declared, sidecar.as_ref()).ok()
    };
    let plugins = names.into_iter().filter_map(|name| Some((name.to_owned(), settings(name)?)));
    let routes = config.routes.iter().map(|route| PluginConfig::clone(&route.subscription));
    plugins.chain(routes.map(|route| (route.name.clone(), route))).collect()
}

/// Adds to `routes` the plugins whose dead letters lie in `topic`.
///
/// # Errors
/// Where the connection of one of them cannot be had.
pub async fn add_routes(
    routes: &mut Routes,
    topic: &str,
    global: &Global,
    config: &Config,
) -> Result<()> {
    let home = routes.home().clone();
    for plugin in plugins(config).into_values() {
        let dead_letters = &plugin.dead_letter;
        if (dead_letters.connection.as_str(), dead_letters.topic.as_str()) != (home.name(), topic) {
            continue;
        }
        let connection = match plugin.connection == home.name() {
            true => home.clone(),
            false => connect::open(global, config, Some(&plugin.connection)).await?,
        };
        routes.add(&plugin.group, connection, dead_letters.max_redrives);
    }
    Ok(())
}
