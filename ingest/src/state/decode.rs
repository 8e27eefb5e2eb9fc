//! Decoding of shared collections: through those of the standard library, which allocate what is there, not what a
//! damaged length announces.

use std::collections::BTreeMap;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Deserializer};

pub fn map<'de, D, K, V>(decoder: D) -> Result<OrdMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    BTreeMap::deserialize(decoder).map(|map| map.into_iter().collect())
}

pub fn vector<'de, D, T>(decoder: D) -> Result<Vector<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Clone,
{
    Vec::deserialize(decoder).map(Vector::from)
}
