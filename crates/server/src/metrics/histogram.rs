//! A histogram of whole numbers (microseconds, bytes) with log-linear buckets: eight per power of two,
//! so that a quantile is at most 12.5 % off. Plain counters, owned by one thread; copies are merged
//! when somebody asks.

/// Buckets per power of two.
const STEPS: u64 = 8;
/// Values up to 16 have a bucket each.
const EXACT: u64 = 16;
/// Larger values count as this one: 2^40 us is twelve days.
const POWER_MAX: u32 = 40;
const BUCKETS: usize = (EXACT + (POWER_MAX as u64 - 4) * STEPS) as usize;

#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    sum: u64,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), sum: 0, count: 0 }
    }
}

/// Bucket `i` holds the values in `(upper(i - 1), upper(i)]`, so that the bounds are inclusive as
/// Prometheus' `le` has them: values are looked up by their predecessor.
fn bucket(value: u64) -> usize {
    let below = value.saturating_sub(1);
    if below < EXACT {
        return below as usize;
    }
    let power = 63 - below.leading_zeros();
    if power >= POWER_MAX {
        return BUCKETS - 1;
    }
    let step = (below >> (power - 3)) & (STEPS - 1);
    (EXACT + u64::from(power - 4) * STEPS + step) as usize
}

fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket + 1;
    }
    let power = (bucket - EXACT) / STEPS + 4;
    let step = (bucket - EXACT) % STEPS;
    (STEPS + step + 1) << (power - 3)
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.count += other.count;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The smallest bucket bound that at least `fraction` of the values do not exceed; 0 if empty.
    pub fn quantile(&self, fraction: f64) -> u64 {
        let rank = ((self.count as f64 * fraction).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index);
            }
        }
        0
    }

    /// `(bound, values <= bound)` for the powers of two from 2^`low` to 2^`high`, both within 4..=40.
    /// Exact, because every power of two from 16 is a bucket's bound.
    pub fn cumulative(&self, low: u32, high: u32) -> Vec<(u64, u64)> {
        let mut rows = Vec::with_capacity((high - low + 1) as usize);
        let (mut seen, mut index) = (0, 0);
        for power in low..=high {
            let bound = 1u64 << power;
            while index < BUCKETS && upper(index) <= bound {
                seen += self.counts[index];
                index += 1;
            }
            rows.push((bound, seen));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_within_its_bucket() {
        let mut last = 0;
        for index in 0..BUCKETS {
            assert!(upper(index) > last, "bucket {index}");
            assert_eq!(bucket(last + 1), index);
            assert_eq!(bucket(upper(index)), index);
            last = upper(index);
        }
        assert_eq!(last, 1 << POWER_MAX);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn quantiles_and_bounds_of_a_ramp() {
        let mut all = Histogram::default();
        let mut upper_half = Histogram::default();
        (1..=500).for_each(|value| all.record(value));
        (501..=1000).for_each(|value| upper_half.record(value));
        all.merge(&upper_half);
        assert_eq!((all.count(), all.sum()), (1000, 500_500));
        assert_eq!(all.cumulative(4, 7), [(16, 16), (32, 32), (64, 64), (128, 128)]);
        for (fraction, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let shown = all.quantile(fraction) as f64;
            assert!(shown >= exact && shown <= exact * 1.125, "{fraction}: {shown}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
