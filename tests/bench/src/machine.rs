//! What it was measured on and with.

use std::{fs, process::Command};

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    /// Load average over a minute before anything was measured: of other work.
    pub load: String,
    pub versions: Vec<(&'static str, String)>,
}

impl Machine {
    pub fn here() -> Self {
        let line = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let commit = said("git", &["describe", "--always", "--dirty"]);
        Self {
            processor: line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory: line("/proc/meminfo", "MemTotal"),
            kernel: said("uname", &["-r"]),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
            versions: vec![
                ("sandbar", format!("{} ({commit})", env!("CARGO_PKG_VERSION"))),
                ("rustc", said("rustc", &["--version"]).replace("rustc ", "")),
                ("librdkafka", rdkafka::util::get_rdkafka_version().1),
                ("java", said("java", &["-version"])),
            ],
        }
    }
}

/// The first line that a program prints, wherever to.
fn said(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return "unknown".into() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
}
