package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

type aclCmd struct {
	Add    aclAddCmd    `cmd:"" help:"Allow or deny a principal operations on a resource."`
	List   aclListCmd   `cmd:"" help:"List access rules."`
	Delete aclDeleteCmd `cmd:"" help:"Delete the access rules that the flags find."`
}

// resourceFlags name resources; each command says how many it takes.
type resourceFlags struct {
	Topic           []string `placeholder:"NAME" help:"Topic; * is every one."`
	Group           []string `placeholder:"NAME" help:"Consumer group; * is every one."`
	TransactionalID []string `placeholder:"NAME" help:"Transactional id; * is every one."`
	MQTT            []string `name:"mqtt" placeholder:"NAME" help:"MQTT topic name or filter, where a level %%c is the client identifier and %%u the user; kept as the topic mqtt:NAME."`
	Cluster         bool     `help:"The cluster."`
	Prefixed        bool     `help:"The names are prefixes."`
}

type aclResource struct {
	typ  kmsg.ACLResourceType
	name string
}

func (f resourceFlags) resources() (out []aclResource) {
	add := func(typ kmsg.ACLResourceType, prefix string, names []string) {
		for _, n := range names {
			if n != auth.Wildcard {
				n = prefix + n
			}
			out = append(out, aclResource{typ, n})
		}
	}
	add(kmsg.ACLResourceTypeTopic, "", f.Topic)
	add(kmsg.ACLResourceTypeTopic, auth.MQTTPrefix, f.MQTT)
	add(kmsg.ACLResourceTypeGroup, "", f.Group)
	add(kmsg.ACLResourceTypeTransactionalId, "", f.TransactionalID)
	if f.Cluster {
		out = append(out, aclResource{kmsg.ACLResourceTypeCluster, auth.ClusterName})
	}
	return out
}

func (f resourceFlags) pattern() kmsg.ACLResourcePatternType {
	if f.Prefixed {
		return kmsg.ACLResourcePatternTypePrefixed
	}
	return kmsg.ACLResourcePatternTypeLiteral
}

// principalOf lets a user be named without its type.
func principalOf(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return string(auth.UserPrincipal(name))
}

// MQTT's words for operations.
const publishOperation, subscribeOperation = "publish", "subscribe"

func operationOf(name string) (kmsg.ACLOperation, error) {
	switch strings.ToLower(name) {
	case publishOperation:
		return kmsg.ACLOperationWrite, nil
	case subscribeOperation:
		return kmsg.ACLOperationRead, nil
	}
	op, err := kmsg.ParseACLOperation(strings.ReplaceAll(name, "-", "_"))
	if err != nil || op <= kmsg.ACLOperationAny {
		return 0, failf(exitUsage, "'%s' is no operation: all, read (subscribe), write (publish), create, delete, alter, describe, cluster_action, describe_configs, alter_configs or idempotent_write", name)
	}
	return op, nil
}

type aclAddCmd struct {
	kafkaFlags
	resourceFlags
	Principal  string   `arg:"" help:"User, or Type:name, such as Group:pumps; User:* is everybody."`
	Operations []string `arg:"" help:"all, read (or subscribe), write (or publish), create, delete, alter, describe, describe_configs, alter_configs, idempotent_write."`
	Deny       bool     `help:"Deny instead of allow. What denies wins over all that allows."`
	Host       string   `default:"*" help:"Only from this address (every one)."`
}

func (c *aclAddCmd) Run(s *session) error {
	resources := c.resources()
	if len(resources) == 0 {
		return failf(exitUsage, "name what the rule is about: --topic, --group, --transactional-id, --mqtt or --cluster")
	}
	req := kmsg.NewPtrCreateACLsRequest()
	for _, res := range resources {
		for _, name := range c.Operations {
			op, err := operationOf(name)
			if err != nil {
				return err
			}
			r := kmsg.NewCreateACLsRequestCreation()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = res.typ, res.name, c.pattern()
			r.Principal, r.Host, r.Operation, r.PermissionType = principalOf(c.Principal), c.Host, op, kmsg.ACLPermissionTypeAllow
			if c.Deny {
				r.PermissionType = kmsg.ACLPermissionTypeDeny
			}
			if res.typ == kmsg.ACLResourceTypeCluster {
				r.ResourcePatternType = kmsg.ACLResourcePatternTypeLiteral
			}
			req.Creations = append(req.Creations, r)
		}
	}
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	n, err := createRules(s.ctx, cl, c.Principal, req)
	if err != nil {
		return err
	}
	return s.show(map[string]int{"added": n}, func(w io.Writer) {
		fmt.Fprintf(w, "%d access rules hold from now on\n", n)
	})
}

// createRules makes rules for somebody and says how many.
func createRules(ctx context.Context, cl *kgo.Client, whom string, req *kmsg.CreateACLsRequest) (int, error) {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return 0, brokerError("add rules for", whom, err)
	}
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return 0, refused("add rules for", whom, err, deref(r.ErrorMessage))
		}
	}
	return len(resp.Results), nil
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// aclFilter finds rules; what is not given matches all.
type aclFilter struct {
	resourceFlags
	Principal string `placeholder:"USER" help:"Only rules of this user."`
	Operation string `help:"Only rules of this operation."`
}

// filter makes the wire's filters, one for each resource named.
func (f aclFilter) filters() ([]kmsg.DescribeACLsRequest, error) {
	one := kmsg.NewDescribeACLsRequest()
	one.ResourceType, one.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	one.Operation, one.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	if f.Principal != "" {
		one.Principal = kmsg.StringPtr(principalOf(f.Principal))
	}
	if f.Operation != "" {
		op, err := operationOf(f.Operation)
		if err != nil {
			return nil, err
		}
		one.Operation = op
	}
	if f.Prefixed {
		one.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
	}
	var out []kmsg.DescribeACLsRequest
	for _, res := range f.resources() {
		this := one
		this.ResourceType, this.ResourceName = res.typ, kmsg.StringPtr(res.name)
		out = append(out, this)
	}
	if len(out) == 0 {
		out = append(out, one)
	}
	return out, nil
}

type aclRow struct {
	Principal  string `json:"principal"`
	Permission string `json:"permission"`
	Operation  string `json:"operation"`
	Type       string `json:"resource_type"`
	Name       string `json:"resource"`
	Pattern    string `json:"pattern"`
	Host       string `json:"host"`
}

type aclListCmd struct {
	kafkaFlags
	aclFilter
}

func (c *aclListCmd) Run(s *session) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	rows, err := listACLs(s.ctx, cl, filters)
	if err != nil {
		return err
	}
	return s.show(rows, func(w io.Writer) { aclTable(w, rows) })
}

func listACLs(ctx context.Context, cl *kgo.Client, filters []kmsg.DescribeACLsRequest) ([]aclRow, error) {
	rows := []aclRow{}
	for i := range filters {
		resp, err := filters[i].RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return nil, brokerError("list", "access rules", err)
		}
		for _, res := range resp.Resources {
			for _, a := range res.ACLs {
				rows = append(rows, aclRow{a.Principal, a.PermissionType.String(), a.Operation.String(),
					res.ResourceType.String(), res.ResourceName, res.ResourcePatternType.String(), a.Host})
			}
		}
	}
	return rows, nil
}

func aclTable(w io.Writer, rows []aclRow) {
	var cells [][]any
	for _, r := range rows {
		cells = append(cells, []any{r.Principal, r.Permission, r.Operation, r.Type, r.Name, r.Pattern, r.Host})
	}
	table(w, []string{"principal", "permission", "operation", "resource", "name", "pattern", "host"}, cells)
}

type aclDeleteCmd struct {
	kafkaFlags
	aclFilter
	All bool `help:"Delete every rule there is."`
}

func (c *aclDeleteCmd) Run(s *session) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	if len(c.resources()) == 0 && c.Principal == "" && !c.All {
		return failf(exitUsage, "say which rules to delete: by --principal, --topic, --group, --mqtt or --cluster; --all deletes every one")
	}
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	rows, err := deleteACLs(s.ctx, cl, filters)
	if err != nil {
		return err
	}
	return s.show(rows, func(w io.Writer) {
		fmt.Fprintf(w, "%d access rules deleted\n", len(rows))
		if len(rows) > 0 {
			aclTable(w, rows)
		}
	})
}

// deleteACLs deletes the rules that the filters find.
func deleteACLs(ctx context.Context, cl *kgo.Client, filters []kmsg.DescribeACLsRequest) ([]aclRow, error) {
	req := kmsg.NewPtrDeleteACLsRequest()
	for _, f := range filters {
		df := kmsg.NewDeleteACLsRequestFilter()
		df.ResourceType, df.ResourceName, df.ResourcePatternType = f.ResourceType, f.ResourceName, f.ResourcePatternType
		df.Principal, df.Host, df.Operation, df.PermissionType = f.Principal, f.Host, f.Operation, f.PermissionType
		req.Filters = append(req.Filters, df)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, brokerError("delete", "access rules", err)
	}
	rows := []aclRow{}
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return nil, refused("delete", "access rules", err, deref(r.ErrorMessage))
		}
		for _, a := range r.MatchingACLs {
			rows = append(rows, aclRow{a.Principal, a.PermissionType.String(), a.Operation.String(),
				a.ResourceType.String(), a.ResourceName, a.ResourcePatternType.String(), a.Host})
		}
	}
	return rows, nil
}
