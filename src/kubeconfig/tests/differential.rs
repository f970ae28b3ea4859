//! Generated kubeconfigs, against `clientcmd.Load`. They are the rows of `clientcmd.json` and a plain
//! one, with lines and values replaced.

use super::*;
use crate::oracle::{Compared, compare};

const PLAIN: &str = "\
apiVersion: v1
kind: Config
current-context: a
preferences: {}
clusters:
- name: c
  cluster:
    server: https://10.0.0.1:6443
    certificate-authority-data: YWJj
    insecure-skip-tls-verify: false
- cluster:
    server: https://b
    tls-server-name: b
    extensions:
    - name: x
      extension: {a: [1, 2.5, true, null]}
  name: d
contexts:
- name: a
  context:
    cluster: c
    user: u
    namespace: n
users:
- name: u
  user:
    token: abc
    as-groups: [g, h]
    as-user-extra: {k: [v]}
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: aws
      args: [eks, get-token]
      env:
      - name: A
        value: b
      interactiveMode: IfAvailable
- name: v
  user: {tokenFile: /t, username: x, password: y}
";

/// What takes the place of a value.
const VALUES: &[&str] = &[
    "",
    "~",
    "null",
    "Null",
    "nULL",
    "true",
    "True",
    "yes",
    "Yes",
    "on",
    "off",
    "y",
    "n",
    "N",
    "0",
    "1",
    "-1",
    "017",
    "0o17",
    "0x1f",
    "0b11",
    "1_000",
    "1e3",
    "1.5",
    ".5",
    "-.5",
    "+1",
    ".inf",
    ".nan",
    "1:30",
    "190:20:30",
    "2001-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "=",
    "<<",
    "'a'",
    "\"a\"",
    "'it''s'",
    "\"\\u00e9\\n\"",
    "\"\\x41\\e\"",
    "\"a\\\n    b\"",
    "a b",
    "a: b",
    "a #b",
    "a#b",
    "# a",
    "- a",
    "[]",
    "{}",
    "[a, b]",
    "{a: b}",
    "{a: b, a: c}",
    "[a,]",
    "{a}",
    "!!str 1",
    "!!int '1'",
    "!!bool yes",
    "!!binary YWJj",
    "!!float 1",
    "!!null ''",
    "!x a",
    "&a b",
    "*a",
    "|\n      a\n      b",
    ">-\n      a\n      b",
    "|2\n      a",
    "@a",
    "`a",
    "%a",
    "?a",
    "? a",
    ":a",
    "a:",
    "é",
    "\u{feff}a",
    "\u{85}",
    "\u{2028}",
    "\u{7f}",
    "YWJj",
    "YW Jj",
    "YW?j",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e400",
    "0.1e-400",
    "12e03",
    "0.",
];

/// What takes the place of a line, or comes before one.
const LINES: &[&str] = &[
    "",
    "---",
    "...",
    "# a",
    "a: b",
    "- a",
    "  a: b",
    "    a: b",
    "      - b",
    "\ta: b",
    "clusters:",
    "users: []",
    "contexts: {}",
    "users: null",
    "kind: config",
    "apiVersion: v1",
    "? a",
    ": b",
    "<<: {a: b}",
    "x: &a {y: z}",
    "z: *a",
    "'a': b",
    "\"a\" : b",
    "a:b",
    "a : b",
    "1: b",
    "null: b",
    "true: b",
    "%YAML 1.1",
    "[a",
    "]",
    "{",
    "name: c",
    "- name: c",
    "  name: c",
    "extensions: [{name: e, extension: 1}]",
    "preferences: {colors: true}",
    "current-context: b",
];

pub(super) fn run() {
    let texts: Vec<Vec<u8>> = rows().iter().map(bytes).collect();
    let generate = |random: &mut fastrand::Rng| STANDARD.encode(any_text(random, &texts));
    let check = |input: &str, answer: &str| {
        let text = STANDARD.decode(input).unwrap();
        let read = Kubeconfig::parse(&text);
        let go = serde_json::from_str::<Value>(answer).ok();
        let how = match (read, go) {
            (Err(_), None) => return Compared::Same,
            (Ok(read), Some(mut go)) => {
                for field in ["kind", "apiVersion", "preferences"] {
                    go.as_object_mut().unwrap().remove(field);
                }
                let (read, go) = (as_clientcmd(&read.to_json()), set_fields(&go));
                if read == go {
                    return Compared::Same;
                }
                format!("{read}\n    {go}")
            }
            (Ok(_), None) => "only the proxy reads it".to_owned(),
            (Err(error), Some(_)) => format!("only clientcmd reads it: {error}"),
        };
        if is_meant(&text) {
            return Compared::Skipped;
        }
        Compared::Differs(format!("{how}\n{}", String::from_utf8_lossy(&text)))
    };
    compare("kubeconfig", generate, check);
}

/// Whether the text has something that the proxy reads otherwise on purpose, see `DIFFERENCES`. It
/// also refuses two things that nobody means: a bracket after the end of the document, which
/// clientcmd does not read, and a number that JSON does not have, even if a later line replaces it.
fn is_meant(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let odd = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        indent.contains('\t') || line.starts_with("...")
    };
    let parts = [
        "__internal",
        "\\/",
        "\\ud",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "%YAML",
        "-data: [",
        ".nan",
        ".inf",
    ];
    let bracket = |line: &str| line.starts_with(['[', ']', '{']);
    text.lines().any(odd)
        || text.lines().skip(1).any(bracket)
        || parts.iter().any(|part| text.contains(part))
}

fn any_text(random: &mut fastrand::Rng, texts: &[Vec<u8>]) -> Vec<u8> {
    let one = |random: &mut fastrand::Rng, of: &[&'static str]| of[random.usize(..of.len())];
    let text = match random.u8(..4) {
        0 => texts[random.usize(..texts.len())].clone(),
        _ => PLAIN.as_bytes().to_vec(),
    };
    let Ok(text) = String::from_utf8(text) else {
        return PLAIN.as_bytes().to_vec();
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=random.usize(..3) {
        let at = random.usize(..=lines.len());
        match random.u8(..8) {
            0 => lines.insert(at, one(random, LINES).to_owned()),
            1 if at < lines.len() => {
                lines.remove(at);
            }
            2 if at < lines.len() => lines[at] = one(random, LINES).to_owned(),
            3 if at < lines.len() => lines.insert(at, lines[at].clone()),
            4 if at < lines.len() => lines[at].insert_str(0, ["  ", " ", "\t"][random.usize(..3)]),
            _ if at < lines.len() => {
                let value = one(random, VALUES);
                let line = &mut lines[at];
                let key = line.find(':').map_or(line.len(), |colon| colon + 1);
                line.truncate(key);
                line.push(' ');
                line.push_str(value);
            }
            _ => {}
        }
    }
    let end = ["\n", "\r\n"][usize::from(random.u8(..16) == 0)];
    let mut text = lines.join(end);
    if random.u8(..8) > 0 {
        text += end;
    }
    text.into_bytes()
}
