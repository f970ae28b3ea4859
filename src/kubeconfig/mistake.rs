//! What is wrong with the text of a kubeconfig, in words for the person who wrote the file.

use std::fmt;

/// A mistake in the text of a kubeconfig. It never shows values, because they may be credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseError {
    /// Counted from 1. 0: the mistake is in the file as a whole.
    pub line: u64,
    /// The kind of mistake.
    pub problem: Problem,
}

/// The kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The bytes are neither UTF-8 nor UTF-16 with a byte order mark.
    Encoding,
    /// A character that YAML does not allow.
    Control(char),
    /// The text is not YAML. The phrase says why.
    Syntax(&'static str),
    /// An anchored value contains an alias of itself.
    SelfAlias,
    /// Aliases make the file very much larger than it looks.
    Aliases,
    /// The value of `<<` is not a mapping, an alias of one, or a list of these.
    Merge,
    /// A key that no JSON object can have: null, a list or a mapping.
    Key,
    /// The value does not fit its tag.
    Tag(&'static str),
    /// An infinite number, or one that is not a number. JSON has none.
    NotFinite,
    /// The document is a list, a text or a number.
    NotAMapping,
    /// `kind` or `apiVersion` names another kind of object.
    OtherKind {
        /// `kind` or `apiVersion`.
        field: &'static str,
        /// The only possible value.
        expected: &'static str,
    },
    /// The value has another type.
    Type {
        /// The path of the field, like `users[0].user.token`.
        path: String,
        /// The expected type, as a phrase.
        expected: &'static str,
        /// The type that was found, as a phrase.
        found: &'static str,
    },
    /// The value is not base64.
    Base64 {
        /// The path of the field.
        path: String,
        /// What is wrong with it.
        why: Base64Problem,
    },
    /// Two entries of a list have the same name.
    Twice {
        /// The path of the list.
        list: String,
        /// The line of the first entry, counted from 1.
        first: u64,
    },
}

/// Why a text is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base64Problem {
    /// It has spaces, as a text over several lines has without `|`.
    Space,
    /// It has another character that base64 does not have.
    Character,
    /// Its end is missing.
    Length,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => {
                f.write_str("the text is not UTF-8, nor UTF-16 with a byte order mark")
            }
            Self::Control(char) => write!(
                f,
                "the character U+{:04X} is not allowed: expected text without control characters",
                u32::from(*char)
            ),
            Self::Syntax(why) => write!(f, "not valid YAML: {why}"),
            Self::SelfAlias => f.write_str("the value of an anchor contains itself"),
            Self::Aliases => f.write_str("too many aliases (*name)"),
            Self::Merge => f.write_str("<<: expected a mapping, its alias, or a list of them"),
            Self::Key => f.write_str("expected a text as the key of a mapping"),
            Self::Tag(tag) => write!(f, "the value does not fit its tag !!{tag}"),
            Self::NotFinite => f.write_str("expected a finite number; quote it if it is a text"),
            Self::NotAMapping => {
                f.write_str("expected a kubeconfig: a mapping with clusters, contexts and users")
            }
            Self::OtherKind { field, expected } => {
                write!(f, "not a kubeconfig: {field}: expected {expected}")
            }
            Self::Type {
                path,
                expected,
                found,
            } => {
                write!(f, "{path}: expected {expected}, found {found}")?;
                match *found {
                    // Whoever wrote `token: 0123` or `name: on` did not see a number or a boolean.
                    "a number" | "a boolean" if expected.starts_with("text") => f.write_str(
                        "; write it in quotes (YAML 1.1 reads yes, no, on, off, y and n without quotes as booleans)",
                    ),
                    _ => Ok(()),
                }
            }
            Self::Base64 { path, why } => {
                write!(f, "{path} is not base64: ")?;
                f.write_str(match why {
                    Base64Problem::Space => {
                        "it has spaces; a text over several lines needs | after the colon"
                    }
                    Base64Problem::Character => "it has a character that base64 does not have",
                    Base64Problem::Length => "a part of it is missing, or its = at the end",
                })
            }
            Self::Twice { list, first } => write!(
                f,
                "{list}: another entry has the same name, in line {first}"
            ),
        }
    }
}

/// Something that is read as kubectl reads it, and that its writer may not have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// Counted from 1.
    pub line: u64,
    /// The kind.
    pub kind: OddityKind,
}

/// The kinds of oddities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddityKind {
    /// The mapping has the key twice. The last one counts.
    KeyTwice,
    /// Another document follows. Only the first one counts.
    AnotherDocument,
}

impl fmt::Display for OddityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyTwice => "the mapping has this key twice; the last one counts",
            Self::AnotherDocument => "another document begins; only the first one counts",
        })
    }
}
