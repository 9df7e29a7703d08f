//! What was measured: figures with their spread, in rows, in sections.

use serde::Serialize;

/// Several measurements of one thing.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Measurements that it sums up.
    pub runs: usize,
}

impl Summary {
    /// # Panics
    /// Without a value.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        Self {
            median: f64::midpoint(sorted[low], sorted[high]),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            runs: sorted.len(),
        }
    }

    /// The quotients of what was measured in the same round: a machine that is slow for one
    /// round is slow for both.
    pub fn ratio(values: &[f64], references: &[f64]) -> Self {
        let pairs: Vec<f64> = values.iter().zip(references).map(|(v, r)| v / r).collect();
        Self::of(&pairs)
    }
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    EventsPerSecond,
    Seconds,
    Bytes,
    Count,
}

/// One figure, and the one that it is to be held against.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Stable, by which a goal finds it.
    pub id: String,
    pub what: String,
    pub unit: Unit,
    pub value: Summary,
    /// The same work without Sandbar, measured in turn with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Reference {
    pub what: String,
    pub value: Summary,
    /// Value by reference, of each round.
    pub ratio: Summary,
}

impl Row {
    pub fn new(id: impl Into<String>, what: impl Into<String>, unit: Unit, values: &[f64]) -> Self {
        let value = Summary::of(values);
        Self { id: id.into(), what: what.into(), unit, value, reference: None }
    }

    /// Beside what was measured in the same rounds.
    #[must_use]
    pub fn beside(mut self, what: &str, values: &[f64], references: &[f64]) -> Self {
        self.reference = Some(Reference {
            what: what.to_owned(),
            value: Summary::of(references),
            ratio: Summary::ratio(values, references),
        });
        self
    }
}

/// What one suite has to say.
#[derive(Debug, Default, Serialize)]
pub struct Section {
    pub rows: Vec<Row>,
    /// What a reader must know beside the figures; what could not be measured, and why.
    pub notes: Vec<String>,
}

impl Section {
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between_the_two_in_the_middle() {
        let summary = Summary::of(&[9.0, 1.0, 3.0, 2.0]);
        assert_eq!((summary.median, summary.min, summary.max, summary.runs), (2.5, 1.0, 9.0, 4));
    }

    #[test]
    fn a_ratio_pairs_what_was_measured_in_one_round() {
        let ratio = Summary::ratio(&[10.0, 100.0, 30.0], &[20.0, 200.0, 20.0]);
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.5, 0.5, 1.5));
    }
}
