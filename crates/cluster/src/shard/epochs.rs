//! Leader epochs as sessions see them: a client that believes in an older one is told to look again, and
//! one that knows an older one can ask where it ended.

use super::Shard;
use crate::mail::Mail;
use koine_base::GroupId;

impl Shard {
    /// Tells all shards of the node under which epochs the groups of this one serve.
    pub(super) fn tell_epochs(&mut self) {
        let node = &self.config.node;
        let known = |id: GroupId| node.epochs.get(usize::from(id.0)).copied();
        let changed: Vec<(GroupId, i32)> = self
            .groups
            .values()
            .filter(|group| group.is_serving() && known(group.id) != Some(group.epoch()))
            .map(|group| (group.id, group.epoch()))
            .collect();
        for (group, epoch) in changed {
            self.learn_epoch(group, epoch);
            for shard in self.config.layout.shards() {
                if shard != self.config.shard {
                    self.outbox.push((shard, Mail::Epoch { group, epoch }));
                }
            }
        }
    }

    pub(super) fn learn_epoch(&mut self, group: GroupId, epoch: i32) {
        let epochs = &mut self.config.node.epochs;
        let number = usize::from(group.0);
        if epochs.len() <= number {
            epochs.resize(number + 1, -1);
        }
        // Mail of two shards may cross: epochs only grow.
        epochs[number] = epochs[number].max(epoch);
    }
}
