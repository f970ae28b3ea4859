//! The kinds of values that a setting can have. A kind reads and shows a value, describes its
//! shape, and names the expected value in an error message.
//!
//! A setting's declaration names one, as in `duration(SECOND, HOUR)`. The notations themselves are
//! in `config/units.rs`.

mod text;

use std::time::Duration;

use serde_json::{Value as Json, json};

pub(crate) use text::{
    api_group, api_name_or_any, collector_url, exactly, host, log_level, path, path_of, text,
    upstream_url,
};

use super::declare::{Settings, Shape, Words};
use super::decode::Decoder;
use super::types::{BoundedNumber, Count};
use super::units::{GoDuration, Size, go_duration, quantity};
use super::yaml::{Node, YamlValue};

/// The value, or a phrase for the expected value.
pub(crate) type Parsed<T> = Result<T, String>;

/// Reads and shows a setting of the type `T`.
pub(crate) trait Kind<T> {
    /// The shape of the value.
    fn shape(&self) -> Shape;

    /// Reads `node` into `place`. If `node` is wrong, reports that, leaves `place` unchanged and
    /// returns false.
    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut T) -> bool;

    /// The value in the notation of the file.
    fn show(&self, value: &T) -> Json;

    /// The expected value, for the error message about a missing one.
    fn expected(&self) -> String {
        String::new()
    }
}

type Parse<T> = Box<dyn Fn(&YamlValue) -> Parsed<T>>;
type Show<T> = Box<dyn Fn(&T) -> Json>;

/// A value that is not a section.
pub(crate) struct Leaf<T> {
    shape: Shape,
    parse: Parse<T>,
    show: Show<T>,
}

impl<T: 'static> Leaf<T> {
    fn new(
        shape: Shape,
        parse: impl Fn(&YamlValue) -> Parsed<T> + 'static,
        show: impl Fn(&T) -> Json + 'static,
    ) -> Self {
        Self {
            shape,
            parse: Box::new(parse),
            show: Box::new(show),
        }
    }
}

impl<T> Kind<T> for Leaf<T> {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut T) -> bool {
        match (self.parse)(&node.value) {
            Ok(value) => *place = value,
            Err(expected) => {
                decoder.wrong(node.line, path, node.value.to_string(), expected);
                return false;
            }
        }
        true
    }

    fn show(&self, value: &T) -> Json {
        (self.show)(value)
    }

    fn expected(&self) -> String {
        (self.parse)(&YamlValue::Null).err().unwrap_or_default()
    }
}

/// A section inside another one. Settings that the file leaves out keep their values.
pub(crate) struct Subsection;

/// A section that is off if it is absent.
pub(crate) struct OptionalSection;

/// A list with at least one section.
pub(crate) struct SectionList;

/// A list of sections that is empty if it is not set.
pub(crate) struct SectionListOrNone;

impl<S: Settings> Kind<S> for Subsection {
    fn shape(&self) -> Shape {
        S::shape()
    }

    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut S) -> bool {
        decoder.section(path, node, |section| place.read(section)) == Some(true)
    }

    fn show(&self, value: &S) -> Json {
        value.show()
    }
}

impl<S: Settings> Kind<Option<S>> for OptionalSection {
    fn shape(&self) -> Shape {
        Shape::Optional(Box::new(S::shape()))
    }

    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut Option<S>) -> bool {
        let mut value = S::default();
        let complete = Subsection.read(decoder, path, node, &mut value);
        if complete {
            *place = Some(value);
        }
        complete
    }

    fn show(&self, value: &Option<S>) -> Json {
        value.as_ref().map_or(Json::Null, Settings::show)
    }
}

impl<S: Settings> Kind<Vec<S>> for SectionList {
    fn shape(&self) -> Shape {
        Shape::List(Box::new(S::shape()))
    }

    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut Vec<S>) -> bool {
        let items = match node.value {
            YamlValue::List(items) if !items.is_empty() => items,
            value => {
                let found = match value {
                    YamlValue::List(_) => "an empty list".to_owned(),
                    value => value.to_string(),
                };
                decoder.wrong(node.line, path, found, SOME_ITEMS.to_owned());
                return false;
            }
        };
        let all = items.len();
        // Whoever wrote `[pods]` meant the field that every item has.
        let required = S::declared().into_iter().find(|field| field.required);
        let required = required.map(|field| field.name);
        let items = items.into_iter().enumerate().filter_map(|(index, item)| {
            let mut value = S::default();
            let path = format!("{path}[{index}]");
            if let (YamlValue::Text(text), Some(field)) = (&item.value, &required) {
                let expected = format!("a mapping like {{{field}: {text}}}");
                decoder.wrong(item.line, path, item.value.to_string(), expected);
                return None;
            }
            Subsection
                .read(decoder, path, item, &mut value)
                .then_some(value)
        });
        *place = items.collect();
        place.len() == all
    }

    fn show(&self, value: &Vec<S>) -> Json {
        value.iter().map(Settings::show).collect()
    }
}

impl<S: Settings> Kind<Vec<S>> for SectionListOrNone {
    fn shape(&self) -> Shape {
        Shape::Optional(Box::new(Kind::<Vec<S>>::shape(&SectionList)))
    }

    fn read(&self, decoder: &mut Decoder, path: String, node: Node, place: &mut Vec<S>) -> bool {
        SectionList.read(decoder, path, node, place)
    }

    fn show(&self, value: &Vec<S>) -> Json {
        if value.is_empty() {
            Json::Null
        } else {
            SectionList.show(value)
        }
    }
}

const SOME_ITEMS: &str = "a list with at least one item";

/// A setting that may be `null`.
pub(crate) fn optional<T: 'static>(kind: Leaf<T>) -> Leaf<Option<T>> {
    let Leaf { shape, parse, show } = kind;
    Leaf::new(
        Shape::Optional(Box::new(shape)),
        move |value| parse(value).map(Some),
        move |value| value.as_ref().map_or(Json::Null, &*show),
    )
}

/// A list with at least one item.
pub(crate) fn list<T: 'static>(item: Leaf<T>) -> Leaf<Vec<T>> {
    let Leaf { shape, parse, show } = item;
    let each = move |node: &Node| {
        parse(&node.value)
            .map_err(|expected| format!("each item to be {expected}, not {}", node.value))
    };
    Leaf::new(
        Shape::List(Box::new(shape)),
        move |value| match value {
            YamlValue::List(nodes) if !nodes.is_empty() => nodes.iter().map(&each).collect(),
            _ => Err(SOME_ITEMS.into()),
        },
        move |values: &Vec<T>| values.iter().map(&*show).collect(),
    )
}

/// A list that is empty if it is not set.
pub(crate) fn list_or_none<T: 'static>(item: Leaf<T>) -> Leaf<Vec<T>> {
    let Leaf { shape, parse, show } = list(item);
    Leaf::new(Shape::Optional(Box::new(shape)), parse, move |values| {
        if values.is_empty() {
            Json::Null
        } else {
            show(values)
        }
    })
}

/// A list that may be empty.
pub(crate) fn list_or_empty<T: 'static>(item: Leaf<T>) -> Leaf<Vec<T>> {
    let Leaf { shape, parse, show } = list(item);
    let shape = match shape {
        Shape::List(item) => Shape::ListOrEmpty(item),
        other => other,
    };
    let parse = move |value: &YamlValue| match value {
        YamlValue::List(nodes) if nodes.is_empty() => Ok(Vec::new()),
        YamlValue::List(_) => parse(value),
        _ => Err("a list".to_owned()),
    };
    Leaf::new(shape, parse, show)
}

/// A Go duration between two bounds, both included.
pub(crate) fn duration<T>(min: Duration, max: Duration) -> Leaf<T>
where
    T: TryFrom<Duration> + Into<Duration> + Copy + 'static,
{
    let shape = Shape::Duration {
        min: GoDuration(min).to_string(),
        max: GoDuration(max).to_string(),
    };
    let parse = move |value: &YamlValue| {
        let parsed = match value {
            YamlValue::Text(text) => go_duration(text),
            YamlValue::Integer(0) => Some(Duration::ZERO),
            _ => None,
        };
        parsed
            .filter(|duration| (min..=max).contains(duration))
            .and_then(|duration| T::try_from(duration).ok())
            .ok_or_else(|| {
                let (min, max) = (GoDuration(min), GoDuration(max));
                format!("a duration from {min} to {max}, like 250ms or 1m30s")
            })
    };
    Leaf::new(shape, parse, |value| json!(in_one_unit((*value).into())))
}

/// The largest unit that is exact, as in `75s` or `250ms`.
fn in_one_unit(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos if nanos % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

/// A Kubernetes quantity in whole bytes between two bounds, both included.
pub(crate) fn bytes<T>(min: u64, max: u64) -> Leaf<T>
where
    T: TryFrom<u64> + Into<u64> + Copy + 'static,
{
    let parse = move |value: &YamlValue| {
        let parsed = match value {
            YamlValue::Text(text) => quantity(text),
            YamlValue::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        parsed
            .filter(|bytes| (min..=max).contains(bytes))
            .and_then(|bytes| T::try_from(bytes).ok())
            .ok_or_else(|| {
                let (min, max) = (Size(min), Size(max));
                format!("a size from {min} to {max}, like 64Ki or 3Mi")
            })
    };
    Leaf::new(Shape::Bytes { min, max }, parse, |value| {
        json!(Size((*value).into()).to_string())
    })
}

/// A whole number within the bounds of its type.
pub(crate) fn whole<const MIN: u32, const MAX: u32>() -> Leaf<Count<MIN, MAX>> {
    let parse = |value: &YamlValue| {
        integer(value)
            .and_then(|number: u32| Count::try_from(number).ok())
            .ok_or_else(|| format!("a whole number from {MIN} to {MAX}"))
    };
    let shape = Shape::Whole { min: MIN, max: MAX };
    Leaf::new(shape, parse, |value| json!(value.get()))
}

/// The number of a port.
pub(crate) fn port() -> Leaf<u16> {
    let max = u16::MAX;
    let parse = move |value: &YamlValue| {
        integer(value).ok_or_else(|| format!("a whole number from 0 to {max}"))
    };
    let shape = Shape::Whole {
        min: 0,
        max: max.into(),
    };
    Leaf::new(shape, parse, |value| json!(value))
}

fn integer<T: TryFrom<i128>>(value: &YamlValue) -> Option<T> {
    match value {
        YamlValue::Integer(number) => T::try_from(*number).ok(),
        _ => None,
    }
}

/// A number within the bounds of its type.
pub(crate) fn number<T: BoundedNumber + 'static>(example: &'static str) -> Leaf<T> {
    let parse = move |value: &YamlValue| {
        let parsed = match value {
            YamlValue::Float(number) => Some(*number),
            YamlValue::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            _ => None,
        };
        parsed
            .and_then(T::checked)
            .ok_or_else(|| format!("a number from {} to {}, like {example}", T::MIN, T::MAX))
    };
    let shape = Shape::Number {
        min: T::MIN,
        max: T::MAX,
    };
    Leaf::new(shape, parse, |value| json!(value.number()))
}

/// `true` or `false`.
pub(crate) fn boolean() -> Leaf<bool> {
    let parse = |value: &YamlValue| match value {
        YamlValue::Bool(value) => Ok(*value),
        _ => Err("true or false".into()),
    };
    Leaf::new(Shape::Bool, parse, |value| json!(value))
}

/// One of the words of an enum.
pub(crate) fn word<T: Words>() -> Leaf<T> {
    let parse = |value: &YamlValue| {
        let found = non_empty(value)
            .and_then(|text| T::ALL.iter().find(|(word, ..)| *word == text))
            .map(|(_, value, _)| *value);
        found.ok_or_else(|| {
            let words: Vec<_> = T::ALL.iter().map(|(word, ..)| *word).collect();
            words.join(" or ")
        })
    };
    let show = |value: &T| {
        let found = T::ALL.iter().find(|(_, each, _)| each == value);
        json!(found.map(|(word, ..)| word))
    };
    let words = T::ALL.iter().map(|(word, _, doc)| (*word, *doc)).collect();
    Leaf::new(Shape::Words(words), parse, show)
}

fn non_empty(value: &YamlValue) -> Option<&str> {
    match value {
        YamlValue::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
