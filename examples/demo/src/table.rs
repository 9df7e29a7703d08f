//! The table at the end.

use serde_json::Value;

use crate::observe::{Observed, Plugin};

const TITLES: [&str; 12] = [
    "plugin",
    "version",
    "in",
    "handled",
    "skipped",
    "out",
    "retried",
    "dead-lettered",
    "reloads",
    "lost",
    "p50 ms",
    "p99 ms",
];

pub fn print(observed: &Observed) {
    let rows = [&observed.router, &observed.notifier].map(row);
    let width = |column: usize| {
        let cells = rows.iter().map(|r| r[column].len());
        cells.chain([TITLES[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().enumerate().map(|(n, c)| match n {
            0 | 1 => format!("{c:<width$}", width = width(n)),
            _ => format!("{c:>width$}", width = width(n)),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    println!();
    line(TITLES.to_vec());
    for row in &rows {
        line(row.iter().map(String::as_str).collect());
    }
    println!();
    println!(
        "times are from the publishing of a webhook to the arrival of the output, retries included{}",
        if cfg!(debug_assertions) { "; this build is not optimised" } else { "" }
    );
}

fn row(plugin: &Plugin) -> [String; 12] {
    let count =
        |name: &str| plugin.counts.get(name).and_then(Value::as_u64).unwrap_or(0).to_string();
    [
        plugin.name.to_owned(),
        plugin.version.clone(),
        count("received"),
        count("handled"),
        count("skipped"),
        count("published"),
        count("retried"),
        count("dead_lettered"),
        plugin.reloads.to_string(),
        plugin.lost.to_string(),
        time(plugin.p50),
        time(plugin.p99),
    ]
}

fn time(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |ms| ms.to_string())
}
