//! Kubeconfigs as kubectl reads them. `tests/samples/kubeconfig/clientcmd.json` has inputs, each with
//! what `clientcmd.Load` of client-go v0.37.2 made of it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::text::go_base64;
use super::*;
use crate::rows::every;

/// A row of `clientcmd.json`.
#[derive(Deserialize)]
struct Row {
    name: String,
    text: Option<String>,
    #[serde(default)]
    base64: String,
    read: Option<Value>,
    refused: Option<String>,
}

/// Where the proxy differs, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "api-internal",
        "the apiVersion that clientcmd has in memory is refused",
    ),
    ("b64-arr", "a list of bytes instead of base64 is refused"),
    ("json-slash", r"JSON's own escape \/ is read"),
    ("json-surr", "JSON's own surrogate pairs are read"),
    ("bom2", "a second byte order mark is skipped"),
    ("dots-only", "a file that is only `...` is read as empty"),
    ("nel", "U+0085 does not end a line"),
    ("ls", "U+2028 does not end a line"),
    ("ps", "U+2029 does not end a line"),
    (
        "dots-first",
        "what follows a `...` at the beginning is read",
    ),
    ("dots-text", "nothing may follow a `...` in its line"),
    ("tab-first", "a tab before the first key is skipped"),
    ("tab-alone", "a line with a tab alone is skipped"),
    (
        "directive-inside",
        "a directive does not end the document before it",
    ),
    ("yaml12", "the directive %YAML 1.2 is read"),
];

/// The entities that `clientcmd` has, with the fields that both sides compare.
const ENTITIES: [(&str, &str, &[&str]); 3] = [
    (
        "clusters",
        "cluster",
        &[
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority",
            "certificate-authority-data",
            "proxy-url",
            "disable-compression",
            "extensions",
        ],
    ),
    (
        "contexts",
        "context",
        &["cluster", "user", "namespace", "extensions"],
    ),
    (
        "users",
        "user",
        &[
            "client-certificate",
            "client-certificate-data",
            "client-key",
            "client-key-data",
            "token",
            "tokenFile",
            "as",
            "as-uid",
            "as-groups",
            "as-user-extra",
            "username",
            "password",
            "auth-provider",
            "exec",
            "extensions",
        ],
    ),
];

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!(
        "../../tests/samples/kubeconfig/clientcmd.json"
    ))
    .unwrap()
}

fn bytes(row: &Row) -> Vec<u8> {
    match &row.text {
        Some(text) => text.clone().into_bytes(),
        None => STANDARD.decode(&row.base64).unwrap(),
    }
}

/// True for what a field that is not set has in one notation or the other.
fn unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The set fields of a tree from either side. Numbers are floats in JSON from Go.
fn set_fields(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), set_fields(value)))
            .filter(|(_, value)| !unset(value))
            .collect(),
        Value::Array(items) => items.iter().map(set_fields).collect(),
        // Go writes 1e3 as 1000.
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).into(),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// The tree that the proxy read in the notation of clientcmd's internal type.
fn as_clientcmd(tree: &Value) -> Value {
    let mut config = json!({"current-context": tree["current-context"]});
    for (list, field, fields) in ENTITIES {
        config[list] = json!({});
        for entry in tree[list].as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default();
            let mut body = json!({});
            for field_of in fields {
                let mut value = entry[field][field_of].clone();
                if *field_of == "extensions" {
                    value = extensions(&value);
                }
                if let (true, Some(text)) = (field_of.ends_with("-data"), value.as_str()) {
                    value = STANDARD.encode(go_base64(text).unwrap()).into();
                }
                // clientcmd's own type has other names for these.
                let name_in_go = match *field_of {
                    "as" | "as-uid" | "as-groups" | "as-user-extra" => format!("act-{field_of}"),
                    same => same.to_owned(),
                };
                body[name_in_go] = value;
            }
            if let Some(exec) = body["exec"].as_object_mut() {
                exec.remove("unknown");
            }
            config[list][name] = body;
        }
    }
    config["extensions"] = extensions(&tree["extensions"]);
    set_fields(&config)
}

fn extensions(list: &Value) -> Value {
    let list = list.as_array().into_iter().flatten();
    list.map(|entry| {
        let name = entry["name"].as_str().unwrap_or_default();
        (name.to_owned(), entry["extension"].clone())
    })
    .collect::<BTreeMap<_, _>>()
    .into_iter()
    .collect::<serde_json::Map<_, _>>()
    .into()
}

#[test]
fn kubeconfigs_mean_what_they_mean_to_kubectl() {
    let rows = rows();
    let names = rows.iter().map(|row| row.name.clone());
    every(
        names.zip(&rows).map(|(name, row)| (name, ByRef(row))),
        |(name, row)| {
            let read = Kubeconfig::parse(&bytes(row.0));
            let differs = DIFFERENCES.iter().any(|(differs, _)| *differs == name);
            match (&row.0.read, read) {
                (None, Err(_)) if differs => panic!("{name} does not differ"),
                (Some(go), Ok(read)) => {
                    let mut go = go.clone();
                    for field in ["kind", "apiVersion", "preferences"] {
                        go.as_object_mut().unwrap().remove(field);
                    }
                    let (read, go) = (as_clientcmd(&read.to_json()), set_fields(&go));
                    assert_eq!(read == go, !differs, "{read}\n{go}");
                }
                (Some(_), Err(error)) => assert!(differs, "kubectl reads it: {error}"),
                (None, Ok(_)) => assert!(differs, "kubectl refuses it: {:?}", row.0.refused),
                (None, Err(_)) => {}
            }
        },
    );
}

/// Shows nothing, so that `every` prints the name only.
struct ByRef<'r>(&'r Row);

impl fmt::Debug for ByRef<'_> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

#[test]
fn what_is_refused_is_refused_with_its_line_in_plain_words() {
    const USER: &str = "users:\n- name: u\n  user: ";
    const CLUSTER: &str = "clusters:\n- name: c\n  cluster: ";
    let refused = |text: &str| Kubeconfig::parse(text.as_bytes()).unwrap_err();
    every(
        [
            (
                format!("{USER}{{token: 0123}}"),
                3,
                "users[0].user.token: expected text, found a number; write it in quotes",
            ),
            (
                format!("{USER}{{token: {{a: b}}}}"),
                3,
                "users[0].user.token: expected text, found a mapping",
            ),
            (
                "current-context: yes".into(),
                1,
                "current-context: expected text, found a boolean; write it in quotes (YAML 1.1 reads yes",
            ),
            (
                format!("{CLUSTER}{{insecure-skip-tls-verify: 'true'}}"),
                3,
                "clusters[0].cluster.insecure-skip-tls-verify: expected true or false, found text",
            ),
            (
                format!("{CLUSTER}{{certificate-authority-data: 'YW Jj'}}"),
                3,
                "it has spaces; a text over several lines needs |",
            ),
            (
                format!("{CLUSTER}{{certificate-authority-data: 'YW?j'}}"),
                3,
                "it has a character that base64 does not have",
            ),
            (
                format!("{CLUSTER}{{certificate-authority-data: YWI}}"),
                3,
                "a part of it is missing",
            ),
            (
                format!("{CLUSTER}{{}}\n- name: d\n- name: c"),
                5,
                "clusters: another entry has the same name, in line 2",
            ),
            (
                "kind: Pod".into(),
                1,
                "not a kubeconfig: kind: expected Config",
            ),
            (
                "\napiVersion: v2".into(),
                2,
                "not a kubeconfig: apiVersion: expected v1",
            ),
            (
                "- a".into(),
                1,
                "expected a kubeconfig: a mapping with clusters",
            ),
            ("a: 1\n? [b]\n: 1".into(), 2, "expected a text as the key"),
            ("a: 1\nb: .inf".into(), 2, "expected a finite number"),
            (
                "a: 1\nb: *c".into(),
                2,
                "names an anchor (&name) that is not above it",
            ),
            ("a: &a [*a]".into(), 1, "contains itself"),
            ("a: 1\n<<: 5".into(), 2, "<<: expected a mapping"),
            ("a: !!int x".into(), 1, "does not fit its tag !!int"),
            ("a: 1\nb: \u{7}".into(), 2, "U+0007 is not allowed"),
            ("a: 1\nb: \"c\n".into(), 0, "a text in quotes has no end"),
            (
                "a: 1\nb: [c\n".into(),
                0,
                "a list in [ ] or a mapping in { } has no end",
            ),
            ("a:\n\t- b".into(), 2, "indent with spaces"),
            ("a: b: c".into(), 1, "a colon stands where none may be"),
            ("a:\n  - b\n c: d".into(), 3, "the indentation of this line"),
            ("a: @b".into(), 1, "no value begins with this character"),
        ],
        |(text, line, words)| {
            let error = refused(&text);
            assert!(error.to_string().contains(words), "{error}");
            if line > 0 {
                assert_eq!(error.line, line, "{error}");
            }
        },
    );
    let latin1 = Kubeconfig::parse(b"a: 1\nb: \xe4\n").unwrap_err();
    assert_eq!(latin1.line, 2);
    assert!(latin1.to_string().contains("not UTF-8"), "{latin1}");
}

#[test]
fn no_mistake_is_told_in_the_words_of_a_library() {
    let told = rows().into_iter().filter_map(|row| {
        let error = Kubeconfig::parse(&bytes(&row)).err()?;
        Some((row.name, error))
    });
    every(told, |(_, error)| {
        let words = error.to_string().to_lowercase();
        for foreign in [
            "serde", "struct", "deserial", "scalar", "token ", "eof", "node", "parser", "flow ",
            "block ", "event",
        ] {
            assert!(!words.contains(foreign), "'{foreign}' in: {words}");
        }
        // Only the encoding of UTF-16 has no line.
        assert!(
            error.line > 0 || error.problem == Problem::Encoding,
            "{words}"
        );
    });
}

#[test]
fn odd_files_are_read_and_noted() {
    let noted = |text: &str| -> Vec<_> {
        let read = Kubeconfig::parse(text.as_bytes()).unwrap();
        let oddities = read.oddities();
        oddities
            .map(|(place, oddity)| (place.line, oddity.kind))
            .collect()
    };
    every(
        [
            ("a: 1\nb: 2\na: 3\n", vec![(3, OddityKind::KeyTwice)]),
            ("a: 1\n---\nb: 2\n", vec![(2, OddityKind::AnotherDocument)]),
            ("a: 1\n---\n[\n", vec![(2, OddityKind::AnotherDocument)]),
            ("---\na: 1\n---\n", vec![]),
            ("a: 1\n...\n", vec![]),
            ("a: &a {x: 1}\nb: {<<: *a, x: 2}\n", vec![]),
        ],
        |(text, expected)| assert_eq!(noted(text), expected, "{text:?}"),
    );
}

/// Generated kubeconfigs. `differential` says where both may differ on purpose.
#[test]
#[ignore = "cargo xtask differential"]
fn differential_kubeconfig() {
    differential::run();
}

mod differential;
