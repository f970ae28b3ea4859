//! Names that the proxy chooses as the apiserver would, and names in a path.

use std::fmt::Write as _;

/// The letters of a generated name: no vowels, and nothing that looks like another.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go>
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many letters follow the base.
const RANDOM: usize = 5;
/// The longest base; the rest is cut off.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/storage/names/generate.go>
const MAX_BASE: usize = 58;
/// The longest name of an object.
const MAX_NAME: usize = 253;

/// A name for an object with this `generateName`, by the apiserver's rules. `random` returns a
/// number below its argument. None: the base would be cut within a character.
#[must_use]
pub fn generated_name(base: &str, mut random: impl FnMut(usize) -> usize) -> Option<String> {
    let mut name = base.get(..base.len().min(MAX_BASE))?.to_owned();
    for _ in 0..RANDOM {
        name.push(char::from(LETTERS[random(LETTERS.len())]));
    }
    Some(name)
}

/// The name as a segment of a path, percent-encoded. None: no object of the apiserver has such a
/// name, because a path cannot have it.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/validation/path/name.go>
#[must_use]
pub fn path_segment(name: &str) -> Option<String> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '%']) || name.len() > MAX_NAME {
        return None;
    }
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn a_generated_name_has_the_apiservers_form() {
        let long = "x".repeat(80);
        every(
            [
                ("step-", 0, "step-bbbbb".to_owned()),
                ("step-", 26, "step-99999".to_owned()),
                ("", 1, "ccccc".to_owned()),
                (&long, 0, format!("{}bbbbb", "x".repeat(58))),
            ],
            |(base, random, expected)| {
                assert_eq!(generated_name(base, |_| random), Some(expected));
            },
        );
        let cut = format!("{}é", "x".repeat(57));
        assert_eq!(generated_name(&cut, |_| 0), None);
        let mut seen = std::collections::HashSet::new();
        let names =
            (0..1000).filter_map(|_| generated_name("a-", |below| fastrand::usize(..below)));
        assert!(names.filter(|name| seen.insert(name.clone())).count() > 990);
    }

    #[test]
    fn a_name_is_percent_encoded_in_a_path() {
        every(
            [
                ("step-1.a_b~", Some("step-1.a_b~")),
                ("system:node", Some("system%3Anode")),
                ("a b?c#d", Some("a%20b%3Fc%23d")),
                ("é", Some("%C3%A9")),
                ("", None),
                (".", None),
                ("..", None),
                ("a/b", None),
                ("a%2f", None),
            ],
            |(name, expected)| assert_eq!(path_segment(name).as_deref(), expected),
        );
        assert_eq!(path_segment(&"x".repeat(254)), None);
    }
}
