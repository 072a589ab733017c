//! The network between nodes: who reaches whom, and what becomes of a mail on its way. It may lose,
//! double, delay and so reorder; it never changes a byte.

use koine_base::rng::Rng;

/// How nodes are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A minority from the others.
    Halves,
    /// Each node reaches a majority, no two the same one.
    Ring,
    /// What one node says does not arrive; it hears all the others.
    Mute(usize),
    /// One node hears nothing; all hear it.
    Deaf(usize),
    Alone(usize),
}

pub struct Network {
    /// `reaches[from][to]`.
    reaches: Vec<Vec<bool>>,
}

impl Network {
    pub fn new(nodes: usize) -> Self {
        Network { reaches: vec![vec![true; nodes]; nodes] }
    }

    pub fn add(&mut self) {
        let count = self.reaches.len() + 1;
        for row in &mut self.reaches {
            row.push(true);
        }
        self.reaches.push(vec![true; count]);
    }

    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.reaches[from][to]
    }

    pub fn heal(&mut self) {
        self.reaches.iter_mut().flatten().for_each(|reaches| *reaches = true);
    }

    fn cut(&mut self, keep: impl Fn(usize, usize) -> bool) {
        for (from, row) in self.reaches.iter_mut().enumerate() {
            for (to, reaches) in row.iter_mut().enumerate() {
                *reaches = keep(from, to);
            }
        }
    }

    pub fn split(&mut self, shape: Shape, rng: &mut Rng) {
        let count = self.reaches.len();
        match shape {
            Shape::Halves => {
                let mut order: Vec<usize> = (0..count).collect();
                shuffle(&mut order, rng);
                let minority = order[..count.div_ceil(2) - 1].to_vec();
                self.cut(|from, to| minority.contains(&from) == minority.contains(&to));
            }
            Shape::Ring => {
                // Neighbours on a circle, up to a quarter of it on either side.
                let mut place: Vec<usize> = (0..count).collect();
                shuffle(&mut place, rng);
                let near = (count / 4).max(1);
                self.cut(|from, to| {
                    let apart = place[from].abs_diff(place[to]);
                    // In a ring of three every node would reach every other.
                    apart.min(count - apart) <= near && (count > 3 || apart <= 1)
                });
            }
            Shape::Mute(node) => self.cut(|from, to| from != node || to == node),
            Shape::Deaf(node) => self.cut(|from, to| to != node || from == node),
            Shape::Alone(node) => self.cut(|from, to| (from == node) == (to == node)),
        }
    }

    /// Exactly these reach each other; all others reach nobody.
    pub fn only(&mut self, nodes: &[usize]) {
        self.cut(|from, to| from == to || nodes.contains(&from) && nodes.contains(&to));
    }
}

pub fn shuffle<T>(all: &mut [T], rng: &mut Rng) {
    for at in (1..all.len()).rev() {
        all.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(network: &Network) -> Vec<usize> {
        network.reaches.iter().map(|row| row.iter().filter(|reaches| **reaches).count()).collect()
    }

    #[test]
    fn shapes_cut_what_their_names_say() {
        let rng = &mut Rng::new(3);
        let mut network = Network::new(5);
        network.split(Shape::Halves, rng);
        let mut sizes = degrees(&network);
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 2, 3, 3, 3]);
        network.split(Shape::Ring, rng);
        assert_eq!(degrees(&network), [3; 5], "each reaches a majority, itself included");
        network.split(Shape::Mute(1), rng);
        assert_eq!(degrees(&network), [5, 1, 5, 5, 5]);
        assert!(network.reaches(0, 1));
        network.split(Shape::Deaf(1), rng);
        assert!(network.reaches(1, 0) && !network.reaches(0, 1) && network.reaches(0, 2));
        network.split(Shape::Alone(4), rng);
        assert_eq!(degrees(&network), [4, 4, 4, 4, 1]);
        network.heal();
        assert_eq!(degrees(&network), [5; 5]);
        let mut three = Network::new(3);
        three.split(Shape::Ring, rng);
        let mut sizes = degrees(&three);
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 2, 3], "one in the middle reaches both");
    }
}
