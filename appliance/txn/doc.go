// Package txn is the broker's transaction coordinator: which producer writes under
// which transactional.id, and how its transactions end.
//
// Two things make it up:
//
//   - [Transaction] is the protocol of one transactional.id (KIP-98, with the epoch bump
//     of KIP-890) as a pure state machine. It has no lock, clock, goroutine or I/O:
//     [Transaction.Step] takes an event and the time, and returns an answer and
//     effects. Scripts under testdata pin what it does.
//   - [Coordinator] is the shell: it locks a transaction, steps it, appends what must
//     be stored, writes markers, answers when that is on stable storage, and has time pass.
//
// What the coordinator knows is in the compacted topic __transaction_state, in Kafka's
// own records.
//
// # Order instead of rounds
//
// Coordinator, topics and group offsets are on one box and share one write-ahead log,
// which makes entries durable in the order in which they were staged. So what Kafka
// does in rounds of messages is here one commit: the decision, the markers in all partitions
// and the completion are staged one after another, under the transaction's lock, and one
// fsync makes them durable. If the power goes between them, there is a decision without
// some of its markers, and the next start writes these ([Open]); never the reverse.
// For the same reason a batch may be staged right behind the record that says its
// partition is part of the transaction.
//
// # Locks
//
// A transaction's lock, then a partition's staging lock. A group's lock may be held
// before the transaction's, never after. The goroutine that commits rounds takes none of them.
package txn
