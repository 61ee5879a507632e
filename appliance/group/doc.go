// Package group is the broker's consumer groups: who is a member, who consumes
// which partition, and how far each group has read.
//
// Four things make it up:
//
//   - [Group] is the classic consumer-group protocol as a pure state machine. It
//     has no lock, clock, goroutine or I/O: [Group.Step] takes an event and the
//     time, and returns effects. Scripts under testdata pin what it does.
//   - [ConsumerGroup] is the protocol of KIP-848 in the same form: the group assigns,
//     and each member gets there by heartbeats of its own. A group is of one protocol or
//     of the other, and goes over when the first member of the consumer protocol joins
//     and the last one leaves; between, classic members are served as consumers.
//   - the table is committed offsets and group metadata: what the topic
//     __consumer_offsets says, last record per key, and never anything else.
//     Every change is appended to the log first and reaches the table through
//     the one goroutine that follows the log. So it does not matter who
//     appended: this coordinator, or a plugin that commits its position
//     together with its output (see [EncodeOffsetCommit]).
//   - [Coordinator] is the shell: it locks a group, steps it, appends what must
//     be stored, answers those who wait, and keeps the timers.
//
// Records in the log are Kafka's own (OffsetCommitKey/Value, GroupMetadataKey/
// Value), so Kafka's tools read them. A commit is answered when its record is
// on stable storage and applied.
//
// # Snapshots
//
// The log would grow with every commit. So when enough bytes have come since the
// last time, the follower appends the whole table anew and then deletes the
// records before the point where it began. A commit of somebody else may land
// between the two, so a copied record carries in the header [CopiedFromHeader] the
// offset of the record that it repeats, and wherever a record lies, the greatest
// *original* offset wins. An old snapshot can therefore never undo a newer commit,
// and the log can be cut or the broker killed at any point.
//
// Compaction of this topic, which keeps the last record of a key as it lies in the
// log, would have to heed that header too; snapshots do its work already.
//
// # Locks
//
// A group's lock, then the coordinator's map lock or the table's; never the
// other way round. The goroutine that commits rounds takes none of them, and the
// follower takes only the table's, so appending under a group's lock is safe.
package group
