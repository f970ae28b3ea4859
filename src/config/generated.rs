//! Generates files from the declarations of the settings: `config/example.yaml`,
//! `docs/configuration.md`, and the schema of the configuration in the Helm chart's
//! `values.schema.json`.
//!
//! The tests below fail when one of the three is out of date.
//! `UPDATE_SNAPSHOTS=1 cargo test --lib config::generated` writes them again.

mod example;
mod reference;
mod schema;

pub use example::example;
pub use reference::reference;
pub use schema::schema;

use super::declare::Shape;
use super::units::Size;

/// The valid values of a shape, as a phrase. The words of an enum are listed without their meaning.
fn values(shape: &Shape) -> String {
    match shape {
        Shape::Section { .. } => "a mapping".into(),
        Shape::Optional(inner) => values(inner),
        Shape::List(item) => match &**item {
            Shape::Section { .. } => "a list of mappings, at least one".into(),
            item => format!("a list of at least one; each item is {}", values(item)),
        },
        Shape::ListOrEmpty(item) => format!("a list; each item is {}", values(item)),
        Shape::Bool => "true or false".into(),
        Shape::Whole { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Number { min, max } => format!("a number from {min} to {max}"),
        Shape::Duration { min, max } => format!("a duration from {min} to {max}"),
        Shape::Bytes { min, max } => format!("a size from {} to {}", Size(*min), Size(*max)),
        Shape::Words(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            words.join(" or ")
        }
        Shape::Text { what, .. } => (*what).into(),
    }
}

/// A phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let (initial, rest) = phrase.split_at(phrase.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}.", initial.to_uppercase())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const COMMAND: &str = "UPDATE_SNAPSHOTS=1 cargo test --lib config::generated";

    fn is_up_to_date(file: &str, expected: impl Fn(&str) -> String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let found = fs::read_to_string(&path).unwrap_or_default();
        let expected = expected(&found);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, expected).unwrap();
        } else {
            let line = found
                .lines()
                .zip(expected.lines())
                .position(|(a, b)| a != b);
            assert!(
                found == expected,
                "{file} is out of date from line {} on; `{COMMAND}` writes it again",
                line.map_or(0, |line| line + 1)
            );
        }
    }

    #[test]
    fn the_example_is_up_to_date() {
        is_up_to_date("config/example.yaml", |_| example());
    }

    #[test]
    fn the_reference_is_up_to_date() {
        is_up_to_date("docs/configuration.md", |_| reference());
    }

    #[test]
    fn the_schema_of_the_chart_is_up_to_date() {
        let file = "deploy/helm/kube-retry-proxy/values.schema.json";
        is_up_to_date(file, |found| {
            let (begin, end) = ("    \"proxyConfiguration\": {", "\n    }\n");
            let at = found.find(begin).expect("the chart has a place for it");
            let rest = &found[at..];
            let rest = &rest[rest.find(end).unwrap() + end.len()..];
            let indented = schema().replace('\n', "\n    ");
            let schema = indented
                .trim_start_matches('{')
                .trim_end_matches(['}', ' ', '\n']);
            format!("{}{begin}{schema}{end}{rest}", &found[..at])
        });
    }

    #[test]
    fn the_schema_takes_a_bare_zero_only_where_no_time_at_all_is_allowed() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let of = |section: &str, name: &str| {
            let field = &schema["properties"][section]["properties"][name];
            assert!(field.is_object(), "{section}.{name}");
            let zero = field["type"]
                .as_array()
                .unwrap()
                .contains(&"integer".into());
            (zero, field["pattern"].as_str().unwrap().contains("0|"))
        };
        for (section, name) in [("replay", "maxHold"), ("rateLimit", "maxWait")] {
            assert_eq!(of(section, name), (true, true), "{section}.{name}");
        }
        for (section, name) in [("upstream", "idleTimeout"), ("replay", "baseDelay")] {
            assert_eq!(of(section, name), (false, false), "{section}.{name}");
        }
    }
}
