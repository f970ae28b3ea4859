//! How a setting is declared: once, in a `settings!` block, with its documentation, its name, its
//! type, its default and its kind, and with a flag where it has one.
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
//! The block makes the struct and its `Default`, and from the kinds (`config/kind.rs`) how a section
//! is read and shown. `Settings::declared` has everything else as plain data: the flags, the
//! example, the reference and the schema are written from it.

use serde_json::Value as Json;

use super::decode::Section;

/// One setting, or one section of them, as it is declared.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The name in the file, like `maxHead`.
    pub name: String,
    /// The documentation, as its comment stands in the source.
    pub doc: &'static str,
    /// Whether it must be given wherever its section is.
    pub required: bool,
    /// The flag of `serve` that sets it.
    pub flag: Option<Flag>,
    /// What its value looks like.
    pub shape: Shape,
}

/// A flag of `serve`.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// What stands for its value in the help.
    pub value: &'static str,
}

/// What a value looks like. Bounds are in the file's own notation.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A mapping of settings.
    Section {
        /// The Rust type, which several settings may share.
        of: &'static str,
        /// What it holds, in the order of the declaration.
        fields: Vec<Declared>,
    },
    /// May be `null`, which turns it off or leaves it to something else.
    Optional(Box<Shape>),
    /// A list of at least one.
    List(Box<Shape>),
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
    /// One of a few words, each with what it means.
    Words(Vec<(&'static str, &'static str)>),
    /// A text.
    Text {
        /// What it is, as a mistake names it.
        what: &'static str,
        /// A regular expression that holds for every right one, and for few others. Empty: none.
        pattern: &'static str,
    },
}

/// A section of settings.
pub(crate) trait Settings: Clone + Default {
    /// The settings of the section, in order.
    fn declared() -> Vec<Declared>;

    /// Reads what `section` has over the values that are there. False when a required setting is
    /// missing or wrong, which has been reported.
    fn read(&mut self, section: &mut Section<'_>) -> bool;

    /// The values in the file's own notation.
    fn show(&self) -> Json;

    /// The shape of the section.
    fn shape() -> Shape;
}

/// A type that is one of a few words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// Each word with its value and what it means.
    const ALL: &'static [(&'static str, Self, &'static str)];
}

/// Declares a section. See the module.
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
                // Every field is read, also after one that was wrong.
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

/// Declares an enum whose values are words of the file.
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

/// `max_head` as the file spells it.
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

/// The same for where nothing renders the marks of code: they go, and around several words become
/// quotes.
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
