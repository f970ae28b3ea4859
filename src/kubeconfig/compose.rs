//! Text to a tree, by the rules of the YAML reader that kubectl uses.
//!
//! A key that a mapping has twice takes its last value. `<<` sets the keys of the mapping where it
//! stands, so it replaces what stands before it. Only the first document counts, and what follows
//! it need not be valid
//! (<https://github.com/yaml/go-yaml/blob/v2.4.2/decode.go#L628>). Where the syntax of YAML 1.2
//! allows more than that reader, such as `\/` in JSON, this module takes it.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::mistake::{Oddity, OddityKind, ParseError, Problem};
use super::scalar::resolve;
use crate::config::yaml::{Entry, Node, YamlValue};

/// The namespace of `!!`.
const CORE: &str = "tag:yaml.org,2002:";

/// The first document of a text.
pub(super) struct Document {
    /// Null for an empty text. Each mapping has each key once.
    pub(super) root: Node,
    pub(super) oddities: Vec<Oddity>,
}

/// Reads the first document of a text.
pub(super) fn compose(text: &str) -> Result<Document, ParseError> {
    let mut options = granit_parser::options! {
        bom_inside_document_as_content: true,
        block_scalar_eof_without_line_feed: true,
    };
    options.set_emit_comments(false);
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        oddities: Vec::new(),
        nodes: 0,
        aliased: 0,
    };
    let root = composer.document()?;
    Ok(Document {
        root,
        oddities: composer.oddities,
    })
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// The finished values of anchors, with how many nodes each one has. An alias whose anchor is
    /// not here stands inside of the anchor's own value.
    anchors: HashMap<usize, (Node, usize)>,
    oddities: Vec<Oddity>,
    /// How many nodes the tree has, those of aliases included.
    nodes: usize,
    /// How many of them aliases made.
    aliased: usize,
}

/// Where a node came from, which decides what `<<` may do with it.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Written,
    Alias,
}

impl<'t> Composer<'t> {
    fn document(&mut self) -> Result<Node, ParseError> {
        loop {
            match self.next()? {
                (Event::StreamStart, _) => {}
                (Event::DocumentStart(..), _) => break,
                (_, mark) => return Ok(node(mark, YamlValue::Null)),
            }
        }
        let (root, _) = self.node()?;
        if !matches!(self.next()?.0, Event::DocumentEnd) {
            return Err(syntax(0, "expected the end of the document"));
        }
        self.look_for_another();
        Ok(root)
    }

    /// Notes another document, unless it is empty. It need not be valid, because nobody reads it.
    fn look_for_another(&mut self) {
        while let Ok((event, mark)) = self.next() {
            match event {
                Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty() => {}
                Event::StreamEnd => return,
                _ => {
                    self.oddities.push(Oddity {
                        line: line(mark),
                        kind: OddityKind::AnotherDocument,
                    });
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Marker), ParseError> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, start)),
            Some(Err(error)) => Err(syntax(line(*error.marker()), words(error.kind()))),
            None => Ok((Event::StreamEnd, Marker::new(0, 0, 0))),
        }
    }

    fn node(&mut self) -> Result<(Node, Origin), ParseError> {
        let (event, mark) = self.next()?;
        self.node_of(event, mark)
    }

    fn node_of(&mut self, event: Event<'t>, mark: Marker) -> Result<(Node, Origin), ParseError> {
        let before = self.nodes;
        self.nodes += 1;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag.as_deref() {
                    None if style == ScalarStyle::Plain => resolve(None, &text),
                    None => Ok(YamlValue::Text(text.into_owned())),
                    Some(tag) => resolve(Some(&short(tag)), &text),
                };
                let value = value.map_err(|problem| at(mark, problem))?;
                if matches!(value, YamlValue::Float(number) if !number.is_finite()) {
                    return Err(at(mark, Problem::NotFinite));
                }
                (anchor, value)
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.list()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => return self.alias(anchor, mark),
            _ => return Err(syntax(line(mark), "expected a value")),
        };
        let node = node(mark, value);
        if anchor > 0 {
            let size = self.nodes - before;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok((node, Origin::Written))
    }

    fn alias(&mut self, anchor: usize, mark: Marker) -> Result<(Node, Origin), ParseError> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(at(mark, Problem::SelfAlias));
        };
        self.nodes += size;
        self.aliased += size;
        // A small file must not become a large tree. kubectl's reader has the same limit for files
        // of less than 400,000 nodes.
        if self.aliased > 100 && self.nodes > 1000 && self.aliased > self.nodes / 100 * 99 {
            return Err(at(mark, Problem::Aliases));
        }
        Ok((node.clone(), Origin::Alias))
    }

    fn list(&mut self) -> Result<YamlValue, ParseError> {
        Ok(YamlValue::List(
            self.items()?.into_iter().map(|(node, _)| node).collect(),
        ))
    }

    fn items(&mut self) -> Result<Vec<(Node, Origin)>, ParseError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, mark) => items.push(self.node_of(event, mark)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<YamlValue, ParseError> {
        let mut entries = Entries::default();
        loop {
            let (event, mark) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(YamlValue::Map(entries.list));
            }
            if is_merge(&event) {
                self.merge(&mut entries, mark)?;
                continue;
            }
            let (key, _) = self.node_of(event, mark)?;
            let key = key_text(&key.value).ok_or_else(|| at(mark, Problem::Key))?;
            let (node, _) = self.node()?;
            if !entries.set(Entry {
                key,
                line: line(mark),
                node,
            }) {
                self.oddities.push(Oddity {
                    line: line(mark),
                    kind: OddityKind::KeyTwice,
                });
            }
        }
    }

    /// Sets the keys of the mappings that follow a `<<`. In a list of them, the first one wins.
    fn merge(&mut self, entries: &mut Entries, mark: Marker) -> Result<(), ParseError> {
        let refused = || at(mark, Problem::Merge);
        let (event, start) = self.next()?;
        let merged = match event {
            Event::SequenceStart(..) => self.items()?,
            event => vec![self.node_of(event, start)?],
        };
        for (node, _) in merged.into_iter().rev() {
            let YamlValue::Map(merged) = node.value else {
                return Err(refused());
            };
            for entry in merged {
                entries.set(entry);
            }
        }
        Ok(())
    }
}

/// The entries of a mapping, with an index, so that a large mapping takes no quadratic time.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    places: HashMap<String, usize>,
}

impl Entries {
    /// Adds the entry, or gives the one with its key the new value. False if there was one.
    fn set(&mut self, entry: Entry) -> bool {
        if let Some(place) = self.places.get(&entry.key) {
            self.list[*place] = entry;
            return false;
        }
        self.places.insert(entry.key.clone(), self.list.len());
        self.list.push(entry);
        true
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(text, style, _, tag) if text == "<<" => match tag.as_deref() {
            None => *style == ScalarStyle::Plain,
            Some(tag) => short(tag) == "merge",
        },
        _ => false,
    }
}

/// `int` for `!!int`. Tags that are not YAML's own stay as they are.
fn short(tag: &Tag) -> String {
    tag.suffix_in_namespace(CORE)
        .map_or_else(|| tag.to_string(), |name| name.into_owned())
}

/// A key as JSON has it. None if JSON cannot have it.
fn key_text(key: &YamlValue) -> Option<String> {
    match key {
        YamlValue::Text(text) => Some(text.clone()),
        YamlValue::Bool(value) => Some(value.to_string()),
        YamlValue::Integer(value) => i64::try_from(*value).ok().map(|value| value.to_string()),
        YamlValue::Float(value) => Some(value.to_string()),
        YamlValue::Null | YamlValue::List(_) | YamlValue::Map(_) => None,
    }
}

fn node(mark: Marker, value: YamlValue) -> Node {
    Node {
        line: line(mark),
        value,
    }
}

fn line(mark: Marker) -> u64 {
    mark.line() as u64
}

fn at(mark: Marker, problem: Problem) -> ParseError {
    ParseError {
        line: line(mark),
        problem,
    }
}

fn syntax(line: u64, why: &'static str) -> ParseError {
    ParseError {
        line,
        problem: Problem::Syntax(why),
    }
}

/// The reason in words for the person who wrote the file.
fn words(kind: &ErrorKind) -> &'static str {
    use ErrorKind as K;
    match kind {
        K::UnknownAnchor => "an alias (*name) names an anchor (&name) that is not above it",
        K::UnexpectedEofFlowSequence
        | K::UnexpectedEofFlowMapping
        | K::UnexpectedEofImplicitFlowMapping
        | K::UnclosedFlowCollection { .. }
        | K::ExpectedFlowMappingSeparator
        | K::ExpectedFlowSequenceSeparator => {
            "a list in [ ] or a mapping in { } has no end, or a comma is missing"
        }
        K::MisplacedFlowCollectionEnd | K::MismatchedFlowCollectionEnd { .. } => {
            "a ] or } does not belong to any [ or { before it"
        }
        K::UnclosedQuotedScalar
        | K::DocumentIndicatorInQuotedScalar
        | K::InvalidQuotedScalarIndent => "a text in quotes has no end",
        K::InvalidTrailingSingleQuotedScalar | K::InvalidTrailingDoubleQuotedScalar => {
            "something follows a text in quotes"
        }
        K::UnknownQuotedScalarEscape
        | K::InvalidQuotedScalarHexEscape
        | K::InvalidLowSurrogateHexEscape
        | K::InvalidLowSurrogate
        | K::MissingLowSurrogate
        | K::UnpairedLowSurrogate
        | K::InvalidUnicodeEscape => {
            "a \\ in double quotes begins no escape; use single quotes, or write \\\\"
        }
        K::TabNotAllowed
        | K::TabInBlockIndentation
        | K::TabInIndentation
        | K::TabAtBlockScalarStart
        | K::TabInPlainScalar => "a tab stands where only spaces may be; indent with spaces",
        K::MappingValueNotAllowed
        | K::InvalidColonPlacement
        | K::InvalidMappingValueWhitespace
        | K::FlowMappingValueAdjacentCollection
        | K::MappingKeyNotAllowed => {
            "a colon stands where none may be; put a text that has one in quotes"
        }
        K::SimpleKeyExpected | K::InvalidSimpleKey => "expected a colon after a key",
        K::InvalidIndentation
        | K::InvalidBlockScalarIndent
        | K::InvalidFlowScalarIndent
        | K::ExpectedBlockMappingKey
        | K::ExpectedBlockSequenceEntry
        | K::BlockSequenceEntryNotAllowed => "the indentation of this line fits no line above it",
        K::UnexpectedCharacter { .. } | K::PlainScalarStartsWithDashFlowIndicator => {
            "no value begins with this character; put the value in quotes"
        }
        K::RecursionLimitExceeded => "lists and mappings are nested too deep",
        K::UnsupportedYamlMajorVersion
        | K::DuplicateVersionDirective
        | K::InvalidDirectiveName
        | K::MissingDirectiveName => "the line that begins with % is not one of YAML 1",
        _ => "check the colons, quotes and indentation of this line and of those above it",
    }
}
