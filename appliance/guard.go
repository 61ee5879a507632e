package appliance

import (
	"context"
	"strconv"
	"time"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/metadata"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

// Tables of the metadata that belong to auth.
const (
	usersTable = "auth.users"
	rulesTable = "auth.rules"
	keysTable  = "auth.keys"
)

// The audit trail keeps a year, and no more than this.
const (
	auditBytes     = 64 << 20
	auditRetention = 365 * 24 * time.Hour
)

// UserTable is where the users of a box are kept, for a command that makes one before
// the box has ever run.
func UserTable(store *metadata.Store) auth.Table { return store.Bucket(usersTable) }

// RuleTable is where its access rules are kept.
func RuleTable(store *metadata.Store) auth.Table { return store.Bucket(rulesTable) }

// openAuth reads users and access rules and begins the audit trail.
func (b *Broker) openAuth(o Options) (err error) {
	a := auth.Options{AllowEveryone: true}
	if o.Auth != nil {
		a = *o.Auth
	}
	a.Users, a.Rules, a.Now, a.Log = UserTable(b.store), RuleTable(b.store), b.clock.Now, o.Log
	if !o.NoAudit {
		b.trail = auth.NewTrail(auditLog{b.topics}, o.MaxAuditQueue, o.Log)
		a.Trail = b.trail
	}
	if o.AuthTokens != nil {
		t := *o.AuthTokens
		t.Cache, t.Log = b.store.Bucket(keysTable), o.Log
		if a.Tokens, err = auth.NewTokens(t); err != nil {
			return err
		}
	}
	b.auth, err = auth.Open(a)
	return err
}

// auditLog makes the audit topic with the first event.
type auditLog struct{ topics *topic.Set }

func (l auditLog) Append(ctx context.Context, tp record.TopicPartition, b record.Batch) (int64, error) {
	_, err := l.topics.Ensure(tp.Topic, topic.Spec{Partitions: 1, Internal: true, Configs: map[string]string{
		"retention.bytes": strconv.Itoa(auditBytes), "segment.bytes": strconv.Itoa(auditBytes / 8),
		"retention.ms": strconv.FormatInt(auditRetention.Milliseconds(), 10), "cleanup.policy": "delete",
	}})
	if err != nil {
		return -1, err
	}
	return l.topics.Append(ctx, tp, b)
}

// AuthStatus counts users, rules and what the audit trail took.
type AuthStatus struct {
	Users        int   `json:"users"`
	Rules        int   `json:"access_rules"`
	AuditWritten int64 `json:"audit_events"`
	AuditLost    int64 `json:"audit_events_lost"`
}

func (b *Broker) authStatus() (st AuthStatus) {
	st.Users, st.Rules = b.auth.Counts()
	st.AuditWritten, st.AuditLost = b.trail.Counts()
	return st
}
