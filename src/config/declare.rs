//! Declares each setting once, in a `settings!` block, with its documentation, name, type, default
//! and kind, and with its flag if it has one.
//!
//! ```text
//! settings! {
//!     /// What the section is about.
//!     pub struct Serving {
//!         /// What the setting means. This paragraph is the help of its flag.
//!         ///
//!         /// What else there is to know.
//!         secure_port: u16 = 8443, port(), flag "secure-port" "N";
//!     }
//! }
//! ```
//!
//! The macro generates the struct, its `Default`, and the code that reads and shows the section,
//! which uses the kinds of `config/kind.rs`. `Settings::declared` returns the rest of the
//! declaration as plain data, and the flags, the example, the reference and the schema are
//! generated from that.

use serde_json::Value as Json;

use super::decode::Section;

/// The declaration of one setting or one section.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The name in the file, like `maxHead`.
    pub name: String,
    /// The text of the documentation comment.
    pub doc: &'static str,
    /// Whether a section without this setting is a mistake.
    pub required: bool,
    /// The flag of `serve` that sets it.
    pub flag: Option<Flag>,
    /// The shape of its value.
    pub shape: Shape,
}

/// A flag of `serve`.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name, without dashes.
    pub name: &'static str,
    /// The placeholder of its value in the help.
    pub value: &'static str,
}

/// The shape of a value. Bounds are in the notation of the file.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A mapping of settings.
    Section {
        /// The name of the Rust type. Several settings may have the same type.
        of: &'static str,
        /// The settings of the section, in the order of the declaration.
        fields: Vec<Declared>,
    },
    /// A value or `null`. `null` means that the setting is not set.
    Optional(Box<Shape>),
    /// A list with at least one item.
    List(Box<Shape>),
    /// A list that may be empty.
    ListOrEmpty(Box<Shape>),
    /// `true` or `false`.
    Bool,
    /// A whole number between two bounds.
    Whole {
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// A number between two bounds.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A Go duration between two bounds.
    Duration {
        /// The shortest.
        min: String,
        /// The longest.
        max: String,
    },
    /// A Kubernetes quantity of bytes between two bounds.
    Bytes {
        /// The smallest, in bytes.
        min: u64,
        /// The largest, in bytes.
        max: u64,
    },
    /// One of several words, each with its meaning.
    Words(Vec<(&'static str, &'static str)>),
    /// A string.
    Text {
        /// The expected value, as an error message names it.
        what: &'static str,
        /// A regular expression that matches every valid string, and few others. Empty: none.
        pattern: &'static str,
    },
}

/// A section of settings.
pub(crate) trait Settings: Clone + Default {
    /// The settings of the section, in order.
    fn declared() -> Vec<Declared>;

    /// Overwrites these values with those of `section`. Reports mistakes, and returns false if a
    /// required setting is missing or wrong.
    fn read(&mut self, section: &mut Section<'_>) -> bool;

    /// The values in the notation of the file.
    fn show(&self) -> Json;

    /// The shape of the section.
    fn shape() -> Shape;
}

/// An enum whose values are words of the file.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// Each word with its value and its meaning.
    const ALL: &'static [(&'static str, Self, &'static str)];
}

/// Declares a section. The documentation of the module has an example.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $(#[derive($($derive:ident),*)])?
        pub struct $Section:ident { $(
            $(#[doc = $doc:literal])*
            $field:ident $(as $name:literal)?: $Type:ty = $default:expr, $kind:expr
                $(, flag $flag:literal $value:literal)? $(, required $required:literal)?;
        )* }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, $($($derive),*)?)]
        pub struct $Section { $( $(#[doc = $doc])* pub $field: $Type, )* }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::declare::Settings for $Section {
            fn declared() -> Vec<$crate::config::declare::Declared> {
                vec![$( $crate::config::declare::Declared {
                    name: settings!(@name $field $($name)?),
                    doc: concat!($($doc, "\n"),*),
                    required: settings!(@is $($required)?),
                    flag: settings!(@flag $($flag $value)?),
                    shape: $crate::config::kind::Kind::<$Type>::shape(&$kind),
                }),*]
            }

            fn read(&mut self, section: &mut $crate::config::decode::Section<'_>) -> bool {
                // Reads every field even if one is wrong, so that all mistakes are reported.
                [$( section.field(
                    &settings!(@name $field $($name)?),
                    &mut self.$field,
                    settings!(@is $($required)?),
                    &$kind,
                )),*].iter().all(|complete| *complete)
            }

            fn show(&self) -> serde_json::Value {
                let fields = [$((
                    settings!(@name $field $($name)?),
                    $crate::config::kind::Kind::<$Type>::show(&$kind, &self.$field),
                )),*];
                serde_json::Value::Object(fields.into_iter().collect())
            }

            fn shape() -> $crate::config::declare::Shape {
                $crate::config::declare::Shape::Section {
                    of: stringify!($Section),
                    fields: Self::declared(),
                }
            }
        }
    };
    (@name $field:ident $name:literal) => { $name.to_owned() };
    (@name $field:ident) => { $crate::config::declare::camel(stringify!($field)) };
    (@is $required:literal) => { $required };
    (@is) => { false };
    (@flag $name:literal $value:literal) => {
        Some($crate::config::declare::Flag { name: $name, value: $value })
    };
    (@flag) => { None };
}

/// Declares an enum that implements [`Words`].
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        pub enum $Enum:ident { $(
            $(#[doc = $doc:literal])*
            $Variant:ident = $word:literal,
        )* }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Enum { $( $(#[doc = $doc])* $Variant, )* }

        impl $crate::config::declare::Words for $Enum {
            const ALL: &'static [(&'static str, Self, &'static str)] =
                &[$(($word, Self::$Variant, concat!($($doc, "\n"),*))),*];
        }
    };
}

pub(crate) use {settings, words};

/// Converts `max_head` to `maxHead`.
pub(crate) fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        name + &initial.to_uppercase() + rest
    })
}

/// The paragraphs of a documentation comment, each on one line.
pub(crate) fn paragraphs(doc: &str) -> Vec<String> {
    let lines: Vec<_> = doc.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty());
    paragraphs
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join(" "))
        .collect()
}

/// Like [`paragraphs`], for output that does not render Markdown: removes backquotes, or turns them
/// into quotes around several words.
pub(crate) fn plain(doc: &str) -> Vec<String> {
    let without_marks = |text: String| {
        let parts = text.split('`').enumerate().map(|(index, part)| {
            let quoted = index % 2 == 1 && part.contains(' ') && !part.starts_with(['[', '{']);
            if quoted {
                format!("\"{part}\"")
            } else {
                part.to_owned()
            }
        });
        parts.collect()
    };
    paragraphs(doc).into_iter().map(without_marks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_kubernetes_does() {
        assert_eq!(camel("mode"), "mode");
        assert_eq!(
            camel("max_connections_per_address"),
            "maxConnectionsPerAddress"
        );
    }

    #[test]
    fn paragraphs_are_separated_by_empty_lines() {
        let doc = " One\n `two`.\n\n `Three four`.\n";
        assert_eq!(paragraphs(doc), ["One `two`.", "`Three four`."]);
        assert_eq!(plain(doc), ["One two.", "\"Three four\"."]);
    }
}
