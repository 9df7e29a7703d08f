//! Lines of a file or of standard input, read by a thread of their own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

/// Longest line, in bytes: a payload of 10 MiB in base64, and some.
const MAX_LINE: u64 = 16 << 20;
/// Bytes and lines that are handed over in one go.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_LINES: usize = 1000;
/// Batches read ahead. A pipe gives small ones: those that have gathered while the
/// last ones were published go out together.
const READ_AHEAD: usize = 16;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Any bytes.
    pub text: Vec<u8>,
}

/// Lines as they come.
pub struct Lines {
    batches: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// Found while lines before it were handed out.
    error: Option<io::Error>,
}

impl Lines {
    /// At least one line, and what else is there; `None` at the end.
    ///
    /// # Errors
    /// Where the input cannot be read any further.
    pub async fn next(&mut self) -> Option<io::Result<Vec<Line>>> {
        if let Some(e) = self.error.take() {
            return Some(Err(e));
        }
        let mut lines = match self.batches.recv().await? {
            Ok(lines) => lines,
            Err(e) => return Some(Err(e)),
        };
        let mut bytes = size(&lines);
        while lines.len() < BATCH_LINES && bytes < BATCH_BYTES {
            match self.batches.try_recv() {
                Ok(Ok(more)) => {
                    bytes += size(&more);
                    lines.extend(more);
                }
                Ok(Err(e)) => {
                    self.error = Some(e);
                    break;
                }
                Err(_) => break,
            }
        }
        Some(Ok(lines))
    }
}

fn size(lines: &[Line]) -> usize {
    lines.iter().map(|line| line.text.len()).sum()
}

/// The lines of `file`, by default those of standard input, as they come.
///
/// # Errors
/// Where the file cannot be opened.
pub fn lines(file: Option<&Path>) -> Result<Lines> {
    let input: Box<dyn Read + Send> = match file.filter(|file| *file != Path::new("-")) {
        Some(path) => {
            Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
        }
        None => Box::new(io::stdin()),
    };
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    // not a task: a read from a terminal cannot be cancelled
    std::thread::spawn(move || read(BufReader::with_capacity(BATCH_BYTES, input), &sender));
    Ok(Lines { batches: receiver, error: None })
}

fn read(mut input: BufReader<impl Read>, sender: &mpsc::Sender<io::Result<Vec<Line>>>) {
    let mut number = 0;
    loop {
        let (lines, end) = batch(&mut input, &mut number);
        // nobody listens any more where the command has stopped early
        if !lines.is_empty() && sender.blocking_send(Ok(lines)).is_err() {
            return;
        }
        match end {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => return drop(sender.blocking_send(Err(e))),
        }
    }
}

/// At least one line, and those that are there without waiting; and whether there
/// may be more.
fn batch(input: &mut BufReader<impl Read>, number: &mut u64) -> (Vec<Line>, io::Result<bool>) {
    let mut lines = Vec::new();
    let mut bytes = 0;
    loop {
        let mut text = Vec::new();
        match input.take(MAX_LINE + 1).read_until(b'\n', &mut text) {
            Ok(0) => return (lines, Ok(false)),
            Ok(_) => {}
            Err(e) => return (lines, Err(e)),
        }
        *number += 1;
        if text.len() as u64 > MAX_LINE {
            let error = format!("line {number} is longer than {MAX_LINE} bytes");
            return (lines, Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        bytes += text.len();
        lines.push(Line { number: *number, text });
        let full = bytes >= BATCH_BYTES || lines.len() >= BATCH_LINES;
        if full || !input.buffer().contains(&b'\n') {
            return (lines, Ok(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: impl Read) -> (Vec<Line>, Vec<usize>, Option<String>) {
        let mut input = BufReader::new(input);
        let (mut lines, mut sizes, mut number) = (Vec::new(), Vec::new(), 0);
        loop {
            let (batch, end) = batch(&mut input, &mut number);
            sizes.push(batch.len());
            lines.extend(batch);
            match end {
                Ok(true) => {}
                Ok(false) => return (lines, sizes, None),
                Err(e) => return (lines, sizes, Some(e.to_string())),
            }
        }
    }

    #[test]
    fn lines_keep_their_numbers_and_the_last_may_be_open() {
        let (lines, ..) = all(&b"a\n\nb"[..]);
        let lines: Vec<_> = lines.iter().map(|l| (l.number, l.text.as_slice())).collect();
        assert_eq!(lines, [(1, &b"a"[..]), (2, b""), (3, b"b")]);
    }

    #[test]
    fn a_batch_does_not_wait_for_what_is_not_there() {
        let (_, sizes, _) = all((&b"1\n2\n3\n"[..]).chain(&b"4\n"[..]));
        assert_eq!(sizes, [3, 1, 0]);
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_all_of_the_memory() {
        let (lines, _, error) = all((&b"ok\n"[..]).chain(io::repeat(b'x')));
        assert_eq!(lines.len(), 1);
        assert_eq!(error.unwrap(), format!("line 2 is longer than {MAX_LINE} bytes"));
    }
}
