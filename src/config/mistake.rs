//! Mistakes in a configuration, each with its line, its path, the value found and the value
//! expected.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1. None if the mistake is not in a file, for example in a flag.
    pub line: Option<u64>,
    /// The field in the file's spelling, like `replay.budget.quotaConflict.ratio`; empty for the
    /// file as a whole.
    pub path: String,
    /// The kind of mistake.
    pub problem: Problem,
}

/// The kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is not YAML, or more than one document.
    Syntax(String),
    /// There is no field with this name.
    Unknown {
        /// The field that was probably meant.
        suggestion: Option<String>,
    },
    /// The mapping has the field twice.
    Duplicate {
        /// The line of the first one, counted from 1.
        first: u64,
    },
    /// A required field is missing.
    Missing {
        /// The expected value, as a phrase.
        expected: String,
    },
    /// The value has the wrong type or is out of range.
    Value {
        /// The value, shortened.
        found: String,
        /// The expected value, as a phrase.
        expected: String,
    },
    /// The value is valid, but not together with another field.
    Rule(&'static str),
    /// The value is valid, but has no effect. This is a warning.
    Doubt(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(what) => write!(f, "not a YAML document: {what}"),
            Self::Unknown { suggestion: None } => f.write_str("unknown field"),
            Self::Unknown {
                suggestion: Some(name),
            } => write!(f, "unknown field; did you mean '{name}'?"),
            Self::Duplicate { first } => write!(f, "given twice, first in line {first}"),
            Self::Missing { expected } => write!(f, "missing: expected {expected}"),
            Self::Value { found, expected } => write!(f, "{found}: expected {expected}"),
            Self::Rule(rule) => f.write_str(rule),
            Self::Doubt(doubt) => f.write_str(doubt),
        }
    }
}

impl fmt::Display for Mistake {
    /// `path: problem`, without the line. The caller prints it where its format needs it, as in
    /// `FILE:LINE:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

/// All mistakes of one configuration, at least one, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// Prints one line for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match mistake.line {
                Some(line) => write!(f, "line {line}: {mistake}")?,
                None => write!(f, "{mistake}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
