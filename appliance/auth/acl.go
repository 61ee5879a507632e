package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Operation is what is done to a resource, by Kafka's AclOperation codes.
type Operation int8

// The operations. AnyOperation stands in filters only, AllOperations in rules.
const (
	AnyOperation Operation = iota + 1
	AllOperations
	Read
	Write
	Create
	Delete
	Alter
	Describe
	ClusterAction
	DescribeConfigs
	AlterConfigs
	IdempotentWrite
	CreateTokens
	DescribeTokens
	TwoPhaseCommit
)

var operationNames = [...]string{"UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE",
	"CLUSTER_ACTION", "DESCRIBE_CONFIGS", "ALTER_CONFIGS", "IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS", "TWO_PHASE_COMMIT"}

func (o Operation) String() string { return nameOf(operationNames[:], int8(o)) }

// ResourceType is what kind of thing a rule is about, by Kafka's ResourceType codes.
type ResourceType int8

// The resource types. AnyResource stands in filters only.
const (
	AnyResource ResourceType = iota + 1
	Topic
	Group
	Cluster
	TransactionalID
	DelegationToken
	User
	resourceTypes
)

var resourceNames = [...]string{"UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"}

func (r ResourceType) String() string { return nameOf(resourceNames[:], int8(r)) }

// ClusterName is the name of the one resource of type Cluster.
const ClusterName = "kafka-cluster"

// Wildcard as the name of a literal rule means every resource of its type, as a
// host every address; "User:*" is every principal.
const (
	Wildcard              = "*"
	everybody   Principal = "User:*"
	maxRuleText           = 1024
)

// Pattern is how a rule's name is meant (KIP-290), by Kafka's PatternType codes.
type Pattern int8

// The patterns. AnyPattern and MatchPattern stand in filters only: MatchPattern
// finds the rules that apply to a resource of the name.
const (
	AnyPattern Pattern = iota + 1
	MatchPattern
	Literal
	Prefixed
)

var patternNames = [...]string{"UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"}

func (p Pattern) String() string { return nameOf(patternNames[:], int8(p)) }

// Permission is what a rule does, by Kafka's AclPermissionType codes.
type Permission int8

// The permissions. AnyPermission stands in filters only.
const (
	AnyPermission Permission = iota + 1
	Deny
	Allow
)

var permissionNames = [...]string{"UNKNOWN", "ANY", "DENY", "ALLOW"}

func (p Permission) String() string { return nameOf(permissionNames[:], int8(p)) }

func nameOf(names []string, code int8) string {
	if code < 0 || int(code) >= len(names) {
		code = 0
	}
	return names[code]
}

// Rule is one access rule, what Kafka calls an ACL binding. Rules are equal if all
// their fields are.
type Rule struct {
	Type       ResourceType `json:"type"`
	Name       string       `json:"name"`
	Pattern    Pattern      `json:"pattern"`
	Principal  Principal    `json:"principal"`
	Host       string       `json:"host"` // an address as text, or Wildcard
	Operation  Operation    `json:"operation"`
	Permission Permission   `json:"permission"`
}

func (r Rule) String() string {
	return fmt.Sprintf("%s %s %s on %s %s %q from %s", r.Permission, r.Principal, r.Operation, r.Pattern, r.Type, r.Name, r.Host)
}

// ErrInvalidRule is wrapped by the errors of Check.
var ErrInvalidRule = errors.New("invalid access rule")

// Check reports why a rule cannot be one.
func (r Rule) Check() error {
	switch {
	case r.Type <= AnyResource || r.Type >= resourceTypes:
		return fmt.Errorf("%w: resource type %d is none a rule can have", ErrInvalidRule, r.Type)
	case r.Name == "":
		return fmt.Errorf("%w: the resource has no name", ErrInvalidRule)
	case r.Type == Cluster && r.Name != ClusterName:
		return fmt.Errorf("%w: the only name of a cluster is %s", ErrInvalidRule, ClusterName)
	case r.Pattern != Literal && r.Pattern != Prefixed:
		return fmt.Errorf("%w: pattern %s is for filters, a rule is LITERAL or PREFIXED", ErrInvalidRule, r.Pattern)
	case r.Operation <= AnyOperation || r.Operation > TwoPhaseCommit:
		return fmt.Errorf("%w: operation %d is none a rule can have", ErrInvalidRule, r.Operation)
	case r.Permission != Deny && r.Permission != Allow:
		return fmt.Errorf("%w: permission is neither ALLOW nor DENY", ErrInvalidRule)
	case r.Host == "":
		return fmt.Errorf("%w: there is no host; * is every one", ErrInvalidRule)
	case len(r.Name)+len(r.Principal)+len(r.Host) > maxRuleText:
		return fmt.Errorf("%w: name, principal and host are longer than %d bytes", ErrInvalidRule, maxRuleText)
	}
	if err := r.Principal.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidRule, err)
	}
	return checkTemplate(&r)
}

// concerns reports whether the rule is about this client: its principal, everybody, or a
// group that it is in; at its host.
func (r *Rule) concerns(a *asker) bool {
	return (r.Principal == a.principal || r.Principal == everybody || slices.Contains(a.groups, r.Principal)) && (r.Host == Wildcard || r.Host == a.host)
}

// grants reports whether an ALLOW of the rule's operation allows op. Reading,
// writing, deleting and altering imply describing; altering configs implies
// describing them. A DENY denies what it says and no more.
func (r *Rule) grants(op Operation) bool {
	switch {
	case r.Operation == op || r.Operation == AllOperations:
		return true
	case op == Describe:
		return r.Operation == Read || r.Operation == Write || r.Operation == Delete || r.Operation == Alter
	case op == DescribeConfigs:
		return r.Operation == AlterConfigs
	}
	return false
}

func (r *Rule) denies(op Operation) bool { return r.Operation == op || r.Operation == AllOperations }

// Filter finds rules. A nil Name, Principal or Host is any.
type Filter struct {
	Type            ResourceType
	Name            *string
	Pattern         Pattern
	Principal, Host *string
	Operation       Operation
	Permission      Permission
}

// Check reports a filter with a code that nobody knows.
func (f *Filter) Check() error {
	if f.Type < AnyResource || f.Type >= resourceTypes || f.Pattern < AnyPattern || f.Pattern > Prefixed ||
		f.Operation < AnyOperation || f.Operation > TwoPhaseCommit || f.Permission < AnyPermission || f.Permission > Allow {
		return fmt.Errorf("%w: the filter has a resource type, pattern, operation or permission that is not known", ErrInvalidRule)
	}
	return nil
}

// Matches reports whether the filter finds the rule.
func (f *Filter) Matches(r *Rule) bool {
	return (f.Type == AnyResource || f.Type == r.Type) &&
		(f.Principal == nil || *f.Principal == string(r.Principal)) &&
		(f.Host == nil || *f.Host == r.Host) &&
		(f.Operation == AnyOperation || f.Operation == r.Operation) &&
		(f.Permission == AnyPermission || f.Permission == r.Permission) &&
		f.matchesName(r)
}

func (f *Filter) matchesName(r *Rule) bool {
	if f.Pattern == Literal || f.Pattern == Prefixed {
		return f.Pattern == r.Pattern && (f.Name == nil || *f.Name == r.Name)
	}
	switch {
	case f.Name == nil || *f.Name == r.Name:
		return true
	case f.Pattern == AnyPattern:
		return false
	case r.Pattern == Prefixed:
		return strings.HasPrefix(*f.Name, r.Name)
	}
	return r.Name == Wildcard
}
