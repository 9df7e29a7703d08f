//! What is asked of a redrive, and what it is called.
//!
//! The name stands for a cursor: the same request made again goes on where it was.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Criteria, Filter, Redrive, Routes};

/// Longest name of a job.
const MAX_NAME: usize = 64;

/// `POST /api/dead-letters/{topic}/redrive`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedriveRequest {
    /// Which letters are meant; by default all.
    pub filter: Criteria,
    /// Name of the job, by default one that follows from the filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Letters a second, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// A letter redriven so often stays; by default what its plugin's settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_redrives: Option<u32>,
    /// Passes over letters that the broker refuses, instead of stopping there.
    pub skip_refused: bool,
    /// Writes parcels and position in one step, so that not even a kill repeats a letter.
    /// The embedded log always does.
    pub exactly_once: bool,
    /// Begins with the oldest letter, although the job was there before.
    pub restart: bool,
    /// Sends nothing, and shows what would go where.
    pub dry_run: bool,
}

impl RedriveRequest {
    /// Name of the job.
    pub fn name(&self) -> String {
        self.job.clone().unwrap_or_else(|| default_job(&self.filter))
    }

    /// The redrive of `topic` whose cursor belongs to `group`.
    ///
    /// # Errors
    /// What is wrong with the request, for people.
    pub fn redrive(self, topic: &str, group: &str, routes: Routes) -> Result<Redrive, String> {
        let name = self.name();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(format!(
                "`{name}` is no name of a job: use up to {MAX_NAME} letters, digits, `.`, `_`, `-`"
            ));
        }
        Ok(Redrive {
            topic: topic.to_owned(),
            cursor: cursor_group(group, &name),
            filter: Filter::new(self.filter)?,
            routes,
            max_redrives: self.max_redrives,
            rate: self.rate,
            skip_refused: self.skip_refused,
            exactly_once: self.exactly_once,
            restart: self.restart,
            dry_run: self.dry_run,
        })
    }
}

/// The group that a redrive of `topic` belongs to: that of the plugin, where one is meant,
/// else one that stands for the topic. `group_of` knows the groups of plugins.
pub fn owner(
    prefix: &str,
    topic: &str,
    plugin: Option<&str>,
    group_of: impl FnOnce(&str) -> Option<String>,
) -> String {
    let name = plugin.unwrap_or(topic);
    plugin.and_then(group_of).unwrap_or_else(|| format!("{prefix}{name}"))
}

/// The group that holds the cursor of `job`, where `group` is that of the plugin, or
/// stands for the topic.
pub fn cursor_group(group: &str, job: &str) -> String {
    format!("{group}.redrive.{job}")
}

/// Name of a job for those who give none: `all`, or a digest of the filter. The plugin is
/// left out, because it is in the name of the group.
pub fn default_job(criteria: &Criteria) -> String {
    let rest = Criteria { plugin: None, ..criteria.clone() };
    if rest == Criteria::default() {
        return "all".to_owned();
    }
    let text = serde_json::to_vec(&rest).unwrap_or_default();
    blake3::hash(&text).to_hex()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::testing;

    fn criteria(plugin: Option<&str>, code: Option<&str>) -> Criteria {
        Criteria {
            plugin: plugin.map(str::to_owned),
            code: code.map(str::to_owned),
            ..Criteria::default()
        }
    }

    #[test]
    fn d4_the_same_filter_is_the_same_job() {
        assert_eq!(default_job(&criteria(None, None)), "all");
        assert_eq!(default_job(&criteria(Some("p"), None)), "all");
        let declined = default_job(&criteria(None, Some("declined")));
        assert_eq!(declined.len(), 8);
        assert_eq!(default_job(&criteria(Some("p"), Some("declined"))), declined);
        assert_ne!(default_job(&criteria(None, Some("stolen"))), declined);
        assert_eq!(cursor_group("sandbar.p", "all"), "sandbar.p.redrive.all");
    }

    #[tokio::test]
    async fn d4_a_job_needs_a_name_that_a_group_can_have() {
        for name in ["", "a b", "ü", &"x".repeat(65)] {
            let request = RedriveRequest { job: Some(name.to_owned()), ..Default::default() };
            let routes = Routes::new(testing::log());
            let error = request.redrive("t", "g", routes).err().expect("refused");
            assert!(error.contains("is no name of a job"), "{error}");
        }
    }
}
