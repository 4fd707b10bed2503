//! Nodes as a serde format. Scalars become what the type that reads them asks for, as in Go: `regex: 8080` is a
//! text, `honor_labels: yes` a boolean, and null is the zero value of everything.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::scalar::Resolved;
use super::{Entry, Mapping, Node, NodeError, Value};

/// Reads one node.
pub(super) struct NodeDeserializer<'de>(pub(super) &'de Node);

impl<'de> NodeDeserializer<'de> {
    /// What a scalar is; for what is none, an error that says what was expected.
    fn scalar(&self, expected: &str) -> Result<(&'de str, Resolved), NodeError> {
        match &self.0.value {
            Value::Scalar(scalar) => Ok((&scalar.text, scalar.resolve())),
            _ => Err(self.0.wrong_type(expected)),
        }
    }

    fn integer<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, NodeError> {
        const EXPECTED: &str = "a whole number";
        /// Floats up to here are exact; larger ones are no count that anybody means.
        const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
        let visited = match self.scalar(EXPECTED)?.1 {
            Resolved::Null => visitor.visit_u64(0),
            Resolved::Signed(value) => match u64::try_from(value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(value),
            },
            Resolved::Unsigned(value) => visitor.visit_u64(value),
            Resolved::Float(value) if value.fract() == 0.0 && value.abs() <= MAX_EXACT => {
                if value < 0.0 {
                    visitor.visit_i64(value as i64)
                } else {
                    visitor.visit_u64(value as u64)
                }
            }
            _ => Err(self.0.wrong_type(EXPECTED)),
        };
        visited.map_err(|error: NodeError| error.at(self.0.at))
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            self.integer(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let node = self.0;
        match &node.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Unsigned(value) => visitor.visit_u64(value),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text => visitor.visit_borrowed_str(&scalar.text),
            }
            .map_err(|error: NodeError| error.at(node.at)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        const EXPECTED: &str = "true or false";
        let value = match self.scalar(EXPECTED)?.1 {
            Resolved::Null => false,
            Resolved::Bool(value) => value,
            _ => return Err(self.0.wrong_type(EXPECTED)),
        };
        visitor.visit_bool(value).map_err(|error: NodeError| error.at(self.0.at))
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        const EXPECTED: &str = "a number";
        let value = match self.scalar(EXPECTED)?.1 {
            Resolved::Null => 0.0,
            Resolved::Signed(value) => value as f64,
            Resolved::Unsigned(value) => value as f64,
            Resolved::Float(value) => value,
            Resolved::Bool(_) | Resolved::Text => return Err(self.0.wrong_type(EXPECTED)),
        };
        visitor.visit_f64(value).map_err(|error: NodeError| error.at(self.0.at))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let text = match &self.0.written {
            Some(written) => written,
            None => match self.scalar("a text")? {
                (_, Resolved::Null) => "",
                (text, _) => text,
            },
        };
        visitor.visit_borrowed_str(text).map_err(|error: NodeError| error.at(self.0.at))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let at = self.0.at;
        let visited = if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        visited.map_err(|error: NodeError| error.at(at))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let at = self.0.at;
        visitor.visit_newtype_struct(self).map_err(|error: NodeError| error.at(at))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let items = Items { items: self.0.list()?.iter().enumerate() };
        visitor.visit_seq(items).map_err(|error| error.at(self.0.at))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        MappingDeserializer(self.0.mapping()?).deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let text = match &self.0.written {
            Some(written) => written,
            None => self.scalar("a text")?.0,
        };
        visitor.visit_enum(Variant(text)).map_err(|error| error.at(self.0.at))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { bytes byte_buf }
}

/// Reads some entries of a mapping.
pub(super) struct MappingDeserializer<'de>(pub(super) Mapping<'de>);

impl<'de> Deserializer<'de> for MappingDeserializer<'de> {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let entries = Entries { entries: self.0.entries().iter(), current: None };
        visitor.visit_map(entries).map_err(|error| error.at(self.0.at()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NodeError> {
        let Some((index, item)) = self.items.next() else { return Ok(None) };
        seed.deserialize(NodeDeserializer(item)).map(Some).map_err(|error| error.in_item(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a, 'de> {
    entries: std::slice::Iter<'a, &'de Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NodeError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.current = Some(entry);
        let key = StrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|error: NodeError| error.at(entry.key_at))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, NodeError> {
        let Some(entry) = self.current.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer(&entry.value))
            .map_err(|error| error.at(entry.value.at).in_key(&entry.key))
    }
}

/// A scalar as the name of an enum's variant.
struct Variant<'de>(&'de str);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = NodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), NodeError> {
        seed.deserialize(StrDeserializer::<NodeError>::new(self.0)).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = NodeError;

    fn unit_variant(self) -> Result<(), NodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, NodeError> {
        Err(serde::de::Error::custom("expected more than a name"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, NodeError> {
        Err(serde::de::Error::custom("expected more than a name"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, NodeError> {
        Err(serde::de::Error::custom("expected more than a name"))
    }
}
