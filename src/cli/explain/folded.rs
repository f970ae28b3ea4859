//! Undoes what terminals, editors, YAML and web pages do to a text: folded lines, frames, marks of a
//! quotation, colours and other quotation marks.

/// The marks at the start and the end of a line that are not part of a message: frames of Terraform
/// and of tables, and quotations in mail and Markdown.
const MARKS: &[char] = &['│', '┃', '╷', '╵', '║', '|', '>', '#'];

/// Starts of a line that begin something new.
const STARTS: [&str; 14] = [
    "Error",
    "error",
    "Warning",
    "Normal",
    "time=",
    "level=",
    "ts=",
    "{",
    "[",
    "- ",
    "* ",
    "I0",
    "\"level",
    "Traceback",
];

/// The text with plain quotation marks and spaces, without colours.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.find(char::is_ascii_alphabetic);
            }
            '“' | '”' | '„' | '‟' | '«' | '»' | '＂' => out.push('"'),
            '‘' | '’' | '‚' => out.push('\''),
            '\u{a0}' => out.push(' '),
            '\r' | '\u{200b}' => {}
            char => out.push(char),
        }
    }
    if out.contains('&') {
        for (entity, char) in [
            ("&quot;", "\""),
            ("&#34;", "\""),
            ("&gt;", ">"),
            ("&amp;", "&"),
        ] {
            out = out.replace(entity, char);
        }
    }
    out
}

/// Lines that may be one that was folded.
pub(super) struct Record<'a> {
    /// Without marks, with the spaces at the end.
    pub(super) lines: Vec<&'a str>,
}

impl Record<'_> {
    /// The lines joined in the two ways in which they can have been folded: between words, and
    /// anywhere.
    pub(super) fn joined(&self) -> [String; 2] {
        let trimmed: Vec<_> = self.lines.iter().map(|line| line.trim()).collect();
        [trimmed.join(" "), self.lines.concat()]
    }
}

/// The records of a text: each starts after an empty line, or with what starts a line of a log.
pub(super) fn records(text: &str) -> Vec<Record<'_>> {
    let mut records: Vec<Record<'_>> = Vec::new();
    let mut ended = true;
    for line in text.lines() {
        let line = without_marks(line);
        let trimmed = line.trim_start();
        if trimmed.is_empty() {
            ended = true;
            continue;
        }
        match records.last_mut() {
            Some(record) if !ended && !starts(trimmed) => record.lines.push(line),
            _ => records.push(Record { lines: vec![line] }),
        }
        ended = false;
    }
    records
}

fn without_marks(line: &str) -> &str {
    let mut line = line;
    let start = line.trim_start();
    if start.starts_with(MARKS) {
        line = start.trim_start_matches(|c: char| MARKS.contains(&c) || c == ' ');
    }
    let end = line.trim_end();
    if let Some(inner) = end.strip_suffix(['│', '┃', '║', '\\']) {
        line = inner;
    }
    // A line of a folded string in YAML starts with `\ `.
    line.trim_start_matches([' ', '\t'])
        .strip_prefix("\\ ")
        .unwrap_or(line.trim_start_matches([' ', '\t']))
}

/// Whether a line begins something new: the line of a log, or an item of a list.
fn starts(line: &str) -> bool {
    let bytes = line.as_bytes();
    let digits = |from: usize, to: usize| {
        bytes
            .get(from..to)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    // `I0102 03:04:05`, `2026-01-02` and `03:04:05`.
    let is_klog = matches!(bytes.first(), Some(b'I' | b'W' | b'E' | b'F')) && digits(1, 5);
    let is_time =
        digits(0, 4) && bytes.get(4) == Some(&b'-') || digits(0, 2) && bytes.get(2) == Some(&b':');
    is_klog || is_time || STARTS.iter().any(|start| line.starts_with(start))
}
