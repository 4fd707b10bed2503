//! A policy's document as JSON: strict, and with errors that name what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::condition::Condition;
use crate::policy::{Effect, Principal, Statement};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<IgnoredAny>,
    pub(super) statement: OneOrMany<RawStatement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RawStatement {
    #[serde(rename = "Sid")]
    _sid: Option<IgnoredAny>,
    effect: Effect,
    principal: Option<RawPrincipal>,
    action: OneOrMany<String>,
    resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: Unique<Unique<OneOrMany<Scalar>>>,
}

enum RawPrincipal {
    Text(String),
    Map(BTreeMap<String, OneOrMany<String>>),
}

/// `X` or `[X, …]`.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

/// A map of which no key comes twice: the last one would silently win.
struct Unique<V>(BTreeMap<String, V>);

/// A condition's value: `"true"` and `true` are the same.
struct Scalar(String);

impl RawStatement {
    pub(super) fn read(self) -> Result<Statement, String> {
        let principals = match self.principal {
            None => None,
            Some(RawPrincipal::Text(text)) if text == "*" => Some(vec![Principal::Everyone]),
            Some(RawPrincipal::Text(text)) => {
                return Err(format!("Principal {text:?} is neither \"*\" nor a map"));
            }
            Some(RawPrincipal::Map(map)) => {
                let each = map.into_iter().flat_map(|(kind, values)| {
                    values.0.into_iter().map(move |value| Principal::read(&kind, &value))
                });
                Some(each.collect::<Result<Vec<_>, _>>()?)
            }
        };
        let actions = self.action.0;
        if let Some(action) = actions.iter().find(|action| *action != "*" && !action.contains(':')) {
            return Err(format!("action {action:?} names no service: write \"service:Action\""));
        }
        let resources = self.resource.map(|resources| resources.0);
        let mut conditions = Vec::new();
        for (operator, Unique(keys)) in self.condition.0 {
            for (key, values) in keys {
                let values = values.0.into_iter().map(|value| value.0).collect();
                conditions.push(Condition::new(&operator, key, values)?);
            }
        }
        let texts = actions.iter().chain(resources.iter().flatten());
        if let Some(text) =
            texts.chain(conditions.iter().flat_map(Condition::values)).find(|text| text.contains("${"))
        {
            return Err(format!("policy variables are not known: {text:?}"));
        }
        Ok(Statement { effect: self.effect, principals, actions, resources, conditions })
    }
}

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                unique(map).map(Unique)
            }
        }

        deserializer.deserialize_map(Keys(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RawPrincipal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> Visitor<'de> for TextOrMap {
            type Value = RawPrincipal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"*\" or a map of principals")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RawPrincipal::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                unique(map).map(RawPrincipal::Map)
            }
        }

        deserializer.deserialize_any(TextOrMap)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one or a list")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                one(value.into_deserializer())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                one(value.into_deserializer())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                one(value.into_deserializer())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                one(text.into_deserializer())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                one(MapAccessDeserializer::new(map))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany(all))
            }
        }

        deserializer.deserialize_any(Each(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a truth value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

fn one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<T>, D::Error> {
    T::deserialize(deserializer).map(|one| OneOrMany(vec![one]))
}

fn unique<'de, V: Deserialize<'de>, A: MapAccess<'de>>(mut map: A) -> Result<BTreeMap<String, V>, A::Error> {
    let mut unique = BTreeMap::new();
    while let Some((key, value)) = map.next_entry::<String, V>()? {
        if unique.contains_key(&key) {
            return Err(A::Error::custom(format_args!("the key {key:?} comes twice")));
        }
        unique.insert(key, value);
    }
    Ok(unique)
}
