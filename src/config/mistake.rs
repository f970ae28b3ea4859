//! Mistakes in a configuration: all of them at once, each with its line, its path, what was found
//! and what was expected.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1. None when the mistake has no place in a file, as when it came from a flag.
    pub line: Option<u64>,
    /// The field in the file's spelling, like `replay.budget.quotaConflict.ratio`; empty for the
    /// file as a whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is not YAML, or more than one document.
    Syntax(String),
    /// No such field.
    Unknown {
        /// The field that was probably meant.
        suggestion: Option<String>,
    },
    /// The field stands there already.
    Duplicate {
        /// The line of the first one.
        first: u64,
    },
    /// A required field is not there.
    Missing {
        /// What should be.
        expected: String,
    },
    /// A value of the wrong type or out of its range.
    Value {
        /// The value, shortened.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Fine by itself, but not beside another field.
    Rule(&'static str),
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
        }
    }
}

impl fmt::Display for Mistake {
    /// `path: problem`, without the line: where that belongs differs between a list and a
    /// compiler-like `FILE:LINE:`.
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
    /// One line each.
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
