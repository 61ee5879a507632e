package txn

import "errors"

// Errors of the transaction protocol, each Kafka's error of the same name, beside
// record.ErrInvalidTxnState.
var (
	// ErrCoordinatorNotAvailable is returned while __transaction_state cannot be read or
	// written, and after Close. Clients try again.
	ErrCoordinatorNotAvailable = errors.New("coordinator not available")
	// ErrConcurrentTransactions is returned while the last transaction is not complete: a
	// partition of it is offline. Clients try again.
	ErrConcurrentTransactions = errors.New("concurrent transactions")
	// ErrProducerFenced is returned to a producer whose transactional.id another has
	// taken over, or whose transaction took too long.
	ErrProducerFenced = errors.New("producer fenced")
	// ErrInvalidProducerIDMapping is returned for a producer id that is not the
	// transactional.id's: it may have expired.
	ErrInvalidProducerIDMapping = errors.New("producer id is not that of the transactional.id")
	// ErrInvalidTransactionTimeout is returned for a transaction.timeout.ms that is not
	// between 1 ms and transaction.max.timeout.ms.
	ErrInvalidTransactionTimeout = errors.New("invalid transaction timeout")
	// ErrInvalidRequest is returned for an empty or over-long transactional.id.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrTransactionalIDNotFound is returned by Describe.
	ErrTransactionalIDNotFound = errors.New("transactional id not found")
	// ErrLimit is returned for what would go beyond one of the Limits that has no error of its own.
	ErrLimit = errors.New("limit of transactions reached")
)
