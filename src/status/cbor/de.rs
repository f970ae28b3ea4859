//! Lets serde read CBOR, so that one type holds the fields of a Status in JSON, YAML and CBOR.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::reader::{Kind, Left, Reader};

/// The bytes are not CBOR, or hold other types than were asked for.
#[derive(Debug)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed CBOR")
    }
}

impl std::error::Error for Malformed {}

impl Error for Malformed {
    fn custom<T: fmt::Display>(_message: T) -> Malformed {
        Malformed
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Malformed;

    /// The depth of the recursion is that of the type which is read.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.kind().ok_or(Malformed)? {
            Kind::Integer => visitor.visit_i64(self.integer().ok_or(Malformed)?),
            Kind::Text => match self.text().ok_or(Malformed)? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Kind::Array => {
                let left = self.array().ok_or(Malformed)?;
                visitor.visit_seq(Entries { reader: self, left })
            }
            Kind::Map => {
                let left = self.map().ok_or(Malformed)?;
                visitor.visit_map(Entries { reader: self, left })
            }
            Kind::Simple => Err(Malformed),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        if self.null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.skip().ok_or(Malformed)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// The elements of an array, or the entries of a map.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: Left,
}

impl<'de> SeqAccess<'de> for Entries<'_, 'de> {
    type Error = Malformed;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Malformed> {
        if self.reader.more(&mut self.left).ok_or(Malformed)? {
            seed.deserialize(&mut *self.reader).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Malformed> {
        if !self.reader.more(&mut self.left).ok_or(Malformed)? {
            return Ok(None);
        }
        let key = self.reader.text().ok_or(Malformed)?;
        let key: StrDeserializer<'_, Malformed> = (&*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Malformed> {
        seed.deserialize(&mut *self.reader)
    }
}
