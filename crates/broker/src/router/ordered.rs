//! A map that keeps its keys in order and is cheap for the usual one or two entries, yet does not
//! turn quadratic when a hundred thousand sessions share one filter. Must never iterate in an order
//! that depends on history: replicas and the simulator compare results.

use std::collections::BTreeMap;

/// Entries kept in one sorted run; moving this many on an insert costs about one cache line fill
/// each, beyond it a tree is cheaper.
const FEW_MAX: usize = 32;

#[derive(Clone, Debug)]
pub(super) enum OrderedMap<K, V> {
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K: Ord, V> OrderedMap<K, V> {
    pub(super) const fn new() -> Self {
        OrderedMap::Few(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            OrderedMap::Few(entries) => entries.is_empty(),
            OrderedMap::Many(entries) => entries.is_empty(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self {
            OrderedMap::Few(entries) => {
                let index = entries.binary_search_by(|(held, _)| held.cmp(key)).ok()?;
                Some(&entries[index].1)
            }
            OrderedMap::Many(entries) => entries.get(key),
        }
    }

    /// Gives back the value that stood there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let entries = match self {
            OrderedMap::Many(entries) => return entries.insert(key, value),
            OrderedMap::Few(entries) => entries,
        };
        match entries.binary_search_by(|(held, _)| held.cmp(&key)) {
            Ok(index) => return Some(std::mem::replace(&mut entries[index].1, value)),
            Err(index) if entries.len() < FEW_MAX => {
                // The first entry takes a run of one: most filters have one subscriber.
                if entries.is_empty() {
                    entries.reserve_exact(1);
                }
                entries.insert(index, (key, value));
            }
            Err(_) => {
                let mut many: BTreeMap<K, V> = std::mem::take(entries).into_iter().collect();
                many.insert(key, value);
                *self = OrderedMap::Many(many);
            }
        }
        None
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            OrderedMap::Few(entries) => {
                let index = entries.binary_search_by(|(held, _)| held.cmp(key)).ok()?;
                Some(entries.remove(index).1)
            }
            OrderedMap::Many(entries) => {
                let value = entries.remove(key);
                if entries.is_empty() {
                    *self = OrderedMap::new();
                }
                value
            }
        }
    }

    /// In key order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        match self {
            OrderedMap::Few(entries) => entries.iter().for_each(|(k, v)| visit(k, v)),
            OrderedMap::Many(entries) => entries.iter().for_each(|(k, v)| visit(k, v)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_in_order() {
        let mut map = OrderedMap::new();
        for key in (0..100u32).rev() {
            assert_eq!(map.insert(key, key), None);
            assert_eq!(map.insert(key, key + 1), Some(key));
        }
        let mut keys = Vec::new();
        map.for_each(|key, value| keys.push((*key, *value)));
        assert_eq!(keys, (0..100).map(|k| (k, k + 1)).collect::<Vec<_>>());
        for key in 0..100 {
            assert_eq!(map.get(&key), Some(&(key + 1)));
            assert_eq!(map.remove(&key), Some(key + 1));
            assert_eq!(map.remove(&key), None);
        }
        assert!(map.is_empty() && matches!(map, OrderedMap::Few(_)));
    }
}
