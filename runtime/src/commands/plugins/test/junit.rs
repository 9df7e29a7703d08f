//! JUnit's XML, as continuous integration reads it.

use std::fmt::Write as _;

use sandbar::cases::Difference;

use super::report::Tested;

/// The report of one plugin: a suite for each file of cases.
pub fn report(plugin: &str, tested: &[Tested<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = count(tested);
    let _ = writeln!(xml, "<testsuites name=\"{}\"{total}>", escaped(plugin));
    for suite in tested.chunk_by(|a, b| a.case.file == b.case.file) {
        let file = suite[0].case.file.display().to_string();
        let _ = writeln!(xml, "  <testsuite name=\"{}\"{}>", escaped(&file), count(suite));
        suite.iter().for_each(|tested| test_case(&mut xml, plugin, tested));
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn count(tested: &[Tested<'_>]) -> String {
    let failed = tested.iter().filter(|t| !t.differences.is_empty()).count();
    let time: f64 = tested.iter().map(|t| t.time.as_secs_f64()).sum();
    format!(" tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{time:.3}\"", tested.len())
}

fn test_case(xml: &mut String, plugin: &str, tested: &Tested<'_>) {
    let Tested { case, differences, time, .. } = tested;
    let _ = write!(
        xml,
        "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
        escaped(&case.name),
        escaped(plugin),
        escaped(&case.file.display().to_string()),
        case.line,
        time.as_secs_f64()
    );
    if differences.is_empty() {
        xml.push_str("/>\n");
        return;
    }
    let what: Vec<_> = differences.iter().map(|d| d.at.as_str()).collect();
    let lines: Vec<_> = differences.iter().flat_map(Difference::lines).collect();
    let _ = writeln!(
        xml,
        ">\n      <failure message=\"differs in {}\">{}</failure>\n    </testcase>",
        escaped(&what.join(", ")),
        escaped(&lines.join("\n"))
    );
}

/// Text as XML can hold it: it has no place for most control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_xml() {
        assert_eq!(
            escaped("<a b=\"c\">&\u{1b}[0m\n"),
            "&lt;a b=&quot;c&quot;&gt;&amp;\\u{1b}[0m\n"
        );
    }
}
