//! Who may come in: so many connections on the node, and from one remote address so many at once and
//! so many per second. Looked at on the front's thread before anything is read; a place is given back
//! by whichever thread the connection ends on.

use crate::metrics::{Refusal, Refusals};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub connections: u32,
    /// The largest number is no bound, here and below.
    pub per_address: u32,
    pub per_address_rate: u32,
    pub addresses: usize,
}

pub struct Gate {
    bounds: Bounds,
    open: Arc<AtomicU32>,
    /// `None` if no address is bounded: then nothing is locked or looked up.
    addresses: Option<Arc<Addresses>>,
    /// HTTP connections refused; those of protocols are counted with their protocol.
    http: Mutex<Refusals>,
}

/// A place inside, given back when dropped.
pub struct Place {
    open: Option<Arc<AtomicU32>>,
    address: Option<(Arc<Addresses>, IpAddr)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some((addresses, address)) = self.address.take() {
            addresses.leave(address);
        }
    }
}

impl Gate {
    pub fn new(bounds: Bounds) -> Self {
        let is_bounded = bounds.per_address != u32::MAX || bounds.per_address_rate != u32::MAX;
        Gate {
            bounds,
            open: Arc::default(),
            addresses: is_bounded.then(Arc::default),
            http: Mutex::default(),
        }
    }

    /// For a connection of a protocol.
    pub fn admit(&self, remote: IpAddr) -> Result<Place, Refusal> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.bounds.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooMany);
        }
        // From here on the count is given back by the place.
        let mut place = Place { open: Some(Arc::clone(&self.open)), address: None };
        place.address = self.admit_address(remote, Instant::now())?;
        Ok(place)
    }

    /// For an HTTP connection: those have places of their own, but the same bounds per address.
    pub fn admit_http(&self, remote: IpAddr) -> Result<Place, Refusal> {
        let address = self.admit_address(remote, Instant::now())?;
        Ok(Place { open: None, address })
    }

    fn admit_address(
        &self,
        remote: IpAddr,
        now: Instant,
    ) -> Result<Option<(Arc<Addresses>, IpAddr)>, Refusal> {
        let Some(addresses) = &self.addresses else { return Ok(None) };
        let address = network(remote);
        addresses.enter(address, now, &self.bounds)?;
        Ok(Some((Arc::clone(addresses), address)))
    }

    pub fn refused_http(&self, refusal: Refusal) {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).add(refusal);
    }

    pub fn http_refusals(&self) -> Refusals {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An IPv4 address however it came; of an IPv6 address the network that one customer has (RFC 6177).
fn network(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[derive(Default)]
struct Addresses {
    /// Guards what is known of each address; held for one look-up.
    known: Mutex<HashMap<IpAddr, Known>>,
}

struct Known {
    open: u32,
    /// New connections that it may make now, refilled with time up to one second's.
    allowance: f64,
    at: Instant,
}

impl Addresses {
    fn enter(&self, address: IpAddr, now: Instant, bounds: &Bounds) -> Result<(), Refusal> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = f64::from(bounds.per_address_rate);
        if known.len() >= bounds.addresses && !known.contains_key(&address) {
            known.retain(|_, one| one.open > 0);
            if known.len() >= bounds.addresses {
                return Err(Refusal::Address);
            }
        }
        let entry = known.entry(address).or_insert(Known { open: 0, allowance: rate, at: now });
        let passed = now.saturating_duration_since(entry.at).as_secs_f64();
        entry.allowance = rate.min(entry.allowance + passed * rate);
        entry.at = now;
        if entry.open >= bounds.per_address {
            return Err(Refusal::Address);
        }
        if entry.allowance < 1.0 {
            return Err(Refusal::Rate);
        }
        entry.allowance -= 1.0;
        entry.open += 1;
        Ok(())
    }

    fn leave(&self, address: IpAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&address) {
            entry.open = entry.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn gate(per_address: u32, per_address_rate: u32, addresses: usize) -> Gate {
        Gate::new(Bounds { connections: 5, per_address, per_address_rate, addresses })
    }

    fn refusal(gate: &Gate, remote: &str) -> Option<Refusal> {
        gate.admit(remote.parse().unwrap()).map(std::mem::forget).err()
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let gate = gate(2, u32::MAX, 10);
        let first = gate.admit("192.0.2.1".parse().unwrap()).ok().unwrap();
        assert_eq!(refusal(&gate, "::ffff:192.0.2.1"), None, "the same address");
        assert_eq!(refusal(&gate, "192.0.2.1"), Some(Refusal::Address));
        assert_eq!(refusal(&gate, "192.0.2.2"), None, "another one");
        drop(first);
        assert_eq!(refusal(&gate, "192.0.2.1"), None);
        assert_eq!(refusal(&gate, "2001:db8::1"), None);
        assert_eq!(refusal(&gate, "2001:db8::2"), None, "the second of its network");
        assert_eq!(refusal(&gate, "192.0.2.9"), Some(Refusal::TooMany), "of the node");
        let places = gate.open.load(Ordering::Relaxed);
        assert_eq!(places, 5, "what was refused holds no place");
    }

    #[test]
    fn one_network_is_one_address() {
        let gate = gate(1, u32::MAX, 10);
        assert_eq!(refusal(&gate, "2001:db8:0:1::1"), None);
        assert_eq!(refusal(&gate, "2001:db8:0:1:ffff::2"), Some(Refusal::Address));
        assert_eq!(refusal(&gate, "2001:db8:0:2::1"), None);
    }

    #[test]
    fn the_allowance_comes_back_with_time() {
        let gate = gate(u32::MAX, 2, 10);
        let (remote, start) = ("192.0.2.1".parse().unwrap(), Instant::now());
        let enter = |ms: u64| gate.admit_address(remote, start + Duration::from_millis(ms)).is_ok();
        assert_eq!([enter(0), enter(0), enter(0)], [true, true, false]);
        assert_eq!([enter(400), enter(600), enter(700)], [false, true, false]);
        assert_eq!([enter(60_000), enter(60_000), enter(60_000)], [true, true, false]);
    }

    #[test]
    fn the_table_forgets_who_has_left_and_never_grows() {
        let gate = gate(1, 1000, 2);
        assert_eq!(refusal(&gate, "192.0.2.1"), None);
        for number in 2..100 {
            drop(gate.admit(IpAddr::from([192, 0, 2, number])).ok().unwrap());
        }
        assert_eq!(
            refusal(&gate, "192.0.2.1"),
            Some(Refusal::Address),
            "who is there is not forgotten"
        );
        assert_eq!(refusal(&gate, "192.0.2.101"), None);
        assert_eq!(refusal(&gate, "192.0.2.102"), Some(Refusal::Address), "no room to count it");
        let known = gate.addresses.as_ref().unwrap().known.lock().unwrap().len();
        assert_eq!(known, 2);
    }
}
