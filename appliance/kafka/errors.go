package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
)

// codes maps the errors of the log and of groups to Kafka's, first match wins. Every error that
// reaches a client goes through here.
var codes = []struct {
	err  error
	kerr *kerr.Error
}{
	// Those of groups first: they may wrap an error of the log, of which the
	// clients of groups know nothing.
	{group.ErrCoordinatorNotAvailable, kerr.CoordinatorNotAvailable},
	{group.ErrUnknownMemberID, kerr.UnknownMemberID},
	{group.ErrMemberIDRequired, kerr.MemberIDRequired},
	{group.ErrFencedInstanceID, kerr.FencedInstanceID},
	{group.ErrIllegalGeneration, kerr.IllegalGeneration},
	{group.ErrRebalanceInProgress, kerr.RebalanceInProgress},
	{group.ErrInconsistentGroupProtocol, kerr.InconsistentGroupProtocol},
	{group.ErrInvalidSessionTimeout, kerr.InvalidSessionTimeout},
	{group.ErrInvalidGroupID, kerr.InvalidGroupID},
	{group.ErrInvalidRequest, kerr.InvalidRequest},
	{group.ErrGroupMaxSizeReached, kerr.GroupMaxSizeReached},
	{group.ErrNonEmptyGroup, kerr.NonEmptyGroup},
	{group.ErrGroupIDNotFound, kerr.GroupIDNotFound},
	{group.ErrGroupSubscribedToTopic, kerr.GroupSubscribedToTopic},
	{group.ErrOffsetMetadataTooLarge, kerr.OffsetMetadataTooLarge},
	{group.ErrInvalidCommitOffsetSize, kerr.InvalidCommitOffsetSize},
	{group.ErrFencedMemberEpoch, kerr.FencedMemberEpoch},
	{group.ErrStaleMemberEpoch, kerr.StaleMemberEpoch},
	{group.ErrUnreleasedInstanceID, kerr.UnreleasedInstanceID},
	{group.ErrUnsupportedAssignor, kerr.UnsupportedAssignor},
	{group.ErrInvalidRegularExpression, kerr.InvalidRegularExpression},
	{txn.ErrCoordinatorNotAvailable, kerr.CoordinatorNotAvailable},
	{txn.ErrConcurrentTransactions, kerr.ConcurrentTransactions},
	{txn.ErrProducerFenced, kerr.ProducerFenced},
	{txn.ErrInvalidProducerIDMapping, kerr.InvalidProducerIDMapping},
	{txn.ErrInvalidTransactionTimeout, kerr.InvalidTransactionTimeout},
	{txn.ErrInvalidRequest, kerr.InvalidRequest},
	{txn.ErrTransactionalIDNotFound, kerr.TransactionalIDNotFound},
	{txn.ErrLimit, kerr.PolicyViolation},
	{record.ErrUnknownTopicOrPartition, kerr.UnknownTopicOrPartition},
	{record.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{record.ErrTooLarge, kerr.MessageTooLarge},
	{record.ErrInvalidRecord, kerr.InvalidRecord},
	{record.ErrUnsupportedCodec, kerr.UnsupportedCompressionType},
	{record.ErrCorrupt, kerr.CorruptMessage},
	{record.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	// Not PRODUCER_FENCED, which Produce answers only to transactional producers since
	// KIP-588; idempotent ones know INVALID_PRODUCER_EPOCH.
	{record.ErrProducerFenced, kerr.InvalidProducerEpoch},
	{record.ErrInvalidTxnState, kerr.InvalidTxnState},
	{record.ErrStorage, kerr.KafkaStorageError},
	{record.ErrDiskFull, kerr.KafkaStorageError},
	// A log that shuts down is like a leader that moved: the client refreshes its
	// metadata and tries again, and by then the broker may be back.
	{record.ErrClosed, kerr.NotLeaderForPartition},
	{topic.ErrExists, kerr.TopicAlreadyExists},
	{topic.ErrInvalidName, kerr.InvalidTopicException},
	{topic.ErrInvalidPartitions, kerr.InvalidPartitions},
	{topic.ErrInvalidConfig, kerr.InvalidConfig},
	{auth.ErrTooMany, kerr.PolicyViolation},
	{quota.ErrInvalid, kerr.InvalidRequest},
	{quota.ErrTooMany, kerr.PolicyViolation},
	{context.Canceled, kerr.RequestTimedOut},
	{context.DeadlineExceeded, kerr.RequestTimedOut},
}

// errorCode is the Kafka error code for err: 0 for nil, UNKNOWN_SERVER_ERROR for
// what is not known. An error that wraps a *kerr.Error has that one's code.
func errorCode(err error) int16 {
	if err == nil {
		return 0
	}
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Code
	}
	for i := range codes {
		if errors.Is(err, codes[i].err) {
			return codes[i].kerr.Code
		}
	}
	return kerr.UnknownServerError.Code
}

// errorMessage is the text sent beside errorCode where the version has room for it.
func errorMessage(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	return &s
}
