//! Where a connection's publishes go, remembered per topic: a publisher that stays with few topics
//! asks the router once per change of metadata, not once per message.

use crate::codec::Qos;
use bytes::Bytes;
use koine_base::checksum::crc32c;
use koine_broker::session::Route;

/// Topics remembered per connection.
const SLOTS: usize = 16;

/// Receivers of one remembered route. A larger one is asked for each time: remembering it would cost
/// a connection more memory than asking costs time.
const RECEIVERS_MAX: usize = 4096;

#[derive(Debug)]
struct Slot {
    topic: Bytes,
    qos: Qos,
    retain: bool,
    version: u64,
    route: Route,
    /// Of a message without properties.
    envelope: Bytes,
}

/// A small direct-mapped cache.
#[derive(Debug, Default)]
pub struct RouteCache {
    /// Empty until the first publish, so that subscribers pay nothing.
    slots: Vec<Option<Slot>>,
}

fn slot_of(topic: &[u8]) -> usize {
    crc32c(topic) as usize % SLOTS
}

impl RouteCache {
    /// `version` is that of the metadata now.
    pub fn find(
        &self,
        topic: &[u8],
        qos: Qos,
        retain: bool,
        version: u64,
    ) -> Option<(&Route, &Bytes)> {
        let slot = self.slots.get(slot_of(topic))?.as_ref()?;
        let same = slot.version == version
            && slot.qos == qos
            && slot.retain == retain
            && slot.topic == topic;
        same.then_some((&slot.route, &slot.envelope))
    }

    pub fn remember(
        &mut self,
        topic: &[u8],
        qos: Qos,
        retain: bool,
        version: u64,
        route: &Route,
        envelope: &Bytes,
    ) {
        if route.live.len() + route.backlogs.len() > RECEIVERS_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        self.slots[slot_of(topic)] = Some(Slot {
            topic: Bytes::copy_from_slice(topic),
            qos,
            retain,
            version,
            route: route.clone(),
            envelope: Bytes::copy_from_slice(envelope),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::StreamId;

    #[test]
    fn a_change_of_metadata_or_flags_is_a_miss() {
        let mut cache = RouteCache::default();
        let route = Route { streams: vec![StreamId::from_raw(9)], ..Route::default() };
        let envelope = Bytes::from_static(b"e");
        assert!(cache.find(b"a", Qos::AtMostOnce, false, 1).is_none());
        cache.remember(b"a", Qos::AtMostOnce, false, 1, &route, &envelope);
        assert_eq!(cache.find(b"a", Qos::AtMostOnce, false, 1), Some((&route, &envelope)));
        assert!(cache.find(b"a", Qos::AtMostOnce, false, 2).is_none());
        assert!(cache.find(b"a", Qos::AtLeastOnce, false, 1).is_none());
        assert!(cache.find(b"a", Qos::AtMostOnce, true, 1).is_none());
        assert!(cache.find(b"b", Qos::AtMostOnce, false, 1).is_none());
    }
}
