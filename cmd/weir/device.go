package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/appliance/auth"
)

type deviceCmd struct {
	Add    deviceAddCmd    `cmd:"" help:"Make an identity for a device, with access rules of its own, and print what the device needs."`
	List   deviceListCmd   `cmd:"" help:"List the devices: who has access rules of its own about MQTT topics."`
	Rotate deviceRotateCmd `cmd:"" help:"Give a device another secret and print what it needs."`
	Remove deviceRemoveCmd `cmd:"" help:"Remove a device's user and its access rules; it is cut off."`
}

// deviceFlags reach a running appliance by both of its ways: the Kafka wire for users
// and rules, HTTP for what it listens on.
type deviceFlags struct {
	kafkaFlags
	HTTP string `name:"http" placeholder:"HOST:PORT" default:"127.0.0.1:8080" env:"WEIR_HTTP" help:"HTTP address of the appliance (${default}); https:// before it encrypts."`
}

func (f deviceFlags) http() httpFlags { return httpFlags{HTTP: f.HTTP, clientFlags: f.clientFlags} }

// identityFlags say what is made, and how it is shown.
type identityFlags struct {
	Certificate bool   `help:"A client certificate of the box's authority instead of a password."`
	PKI         string `name:"pki" placeholder:"DIR" help:"Folder of the authority, and for certificates (the one of ssl.ca.location)."`
	Host        string `placeholder:"NAME" help:"Name or address under which the device reaches this machine (the host's name)."`
	replace     bool
	QR          string `name:"qr" enum:"auto,always,never" default:"auto" help:"Print a QR code of it: auto on a terminal, always or never (${default})."`
}

type deviceAddCmd struct {
	deviceFlags
	identityFlags
	Publish   []string `placeholder:"FILTER" sep:"none" default:"dev/%u/#" help:"What the device may publish; %%u is its name, %%c its client identifier (dev/%%u/#)."`
	Subscribe []string `placeholder:"FILTER" sep:"none" default:"dev/%u/#" help:"What it may subscribe to (dev/%%u/#)."`
	Name      string   `arg:"" help:"Name."`
}

func (c *deviceAddCmd) Run(s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	made, err := c.prepare(s, c.deviceFlags, c.Name)
	if err != nil {
		return err
	}
	d, err := findDevice(s.ctx, cl, made.principal)
	if err != nil {
		return err
	}
	if d.known() {
		return failf(exitFailed, "'%s' has a login or access rules already: weir device rotate gives it another secret, weir device remove removes it", c.Name)
	}
	if err := c.addRules(s.ctx, cl, made); err != nil { // first: a login without rules is of no use
		return err
	}
	made.may(c.Publish, c.Subscribe)
	return made.finish(s, cl, "added", c.QR)
}

// addRules gives the device its rules.
func (c *deviceAddCmd) addRules(ctx context.Context, cl *kgo.Client, made *card) error {
	req := kmsg.NewPtrCreateACLsRequest()
	for op, filters := range map[kmsg.ACLOperation][]string{kmsg.ACLOperationWrite: c.Publish, kmsg.ACLOperationRead: c.Subscribe} {
		for _, filter := range filters {
			r := kmsg.NewCreateACLsRequestCreation()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceTypeTopic, auth.MQTTPrefix+filter, kmsg.ACLResourcePatternTypeLiteral
			r.Principal, r.Host, r.Operation, r.PermissionType = made.principal, auth.Wildcard, op, kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, r)
		}
	}
	_, err := createRules(ctx, cl, made.Device, req)
	return err
}

// check finds what the box would refuse half-way.
func (c *deviceAddCmd) check() error {
	for _, filter := range slices.Concat(c.Publish, c.Subscribe) {
		rule := auth.Rule{Type: auth.Topic, Name: auth.MQTTPrefix + filter, Pattern: auth.Literal, Principal: auth.UserPrincipal("x"),
			Host: auth.Wildcard, Operation: auth.Read, Permission: auth.Allow}
		if err := rule.Check(); err != nil || filter == "" {
			return failf(exitUsage, "'%s' is no filter for a device: %w", filter, err)
		}
	}
	name := c.Name
	if name == "" || len(name) > 64 || name[0] == '$' || strings.ContainsAny(name, "/+#:\\,=*\x00") {
		return failf(exitUsage, "'%s' cannot be a device's name: 1 to 64 bytes without / + # : \\ , = *, and no $ in front", name)
	}
	return nil
}

// enrolled is what there is of a device.
type enrolled struct {
	principal          string
	password           bool
	publish, subscribe []string
	others             int // rules that are about no MQTT topic, or deny
}

func (d *enrolled) known() bool { return d.password || d.isDevice() || d.others > 0 }

// isDevice tells a device from other users: it has rules about MQTT topics.
func (d *enrolled) isDevice() bool { return len(d.publish)+len(d.subscribe) > 0 }

// devices is all users and everybody who has rules, by principal.
func devices(ctx context.Context, cl *kgo.Client) (map[string]*enrolled, error) {
	users, err := scramUsers(ctx, kadm.NewClient(cl))
	if err != nil {
		return nil, err
	}
	all, err := aclFilter{}.filters()
	if err != nil {
		return nil, err
	}
	rules, err := listACLs(ctx, cl, all)
	if err != nil {
		return nil, err
	}
	out := map[string]*enrolled{}
	of := func(principal string) *enrolled {
		if out[principal] == nil {
			out[principal] = &enrolled{principal: principal}
		}
		return out[principal]
	}
	for name := range users {
		of(principalOf(name)).password = true
	}
	for _, r := range rules {
		d := of(r.Principal)
		filter, ok := strings.CutPrefix(r.Name, auth.MQTTPrefix)
		if ok && r.Pattern == kmsg.ACLResourcePatternTypePrefixed.String() {
			filter += "..."
		}
		switch {
		case !ok || r.Permission != kmsg.ACLPermissionTypeAllow.String():
			d.others++
		case r.Operation == kmsg.ACLOperationWrite.String():
			d.publish = append(d.publish, filter)
		case r.Operation == kmsg.ACLOperationRead.String():
			d.subscribe = append(d.subscribe, filter)
		default:
			d.others++
		}
	}
	return out, nil
}

func findDevice(ctx context.Context, cl *kgo.Client, principal string) (*enrolled, error) {
	all, err := devices(ctx, cl)
	if err != nil {
		return nil, err
	}
	if d := all[principal]; d != nil {
		return d, nil
	}
	return &enrolled{principal: principal}, nil
}

type deviceRow struct {
	Device    string   `json:"device"`
	Login     string   `json:"login"` // password, or certificate or token
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
}

type deviceListCmd struct{ kafkaFlags }

func (c *deviceListCmd) Run(s *session) error {
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	all, err := devices(s.ctx, cl)
	if err != nil {
		return err
	}
	rows := []deviceRow{}
	for _, principal := range slices.Sorted(maps.Keys(all)) {
		d := all[principal]
		if !d.isDevice() || principal == principalOf("*") {
			continue
		}
		row := deviceRow{auth.Principal(principal).Name(), "certificate or token", d.publish, d.subscribe}
		if d.password {
			row.Login = "password"
		}
		rows = append(rows, row)
	}
	return s.show(rows, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Device, r.Login, strings.Join(r.Publish, " "), strings.Join(r.Subscribe, " ")})
		}
		table(w, []string{"device", "login", "publish", "subscribe"}, cells)
	})
}

type deviceRotateCmd struct {
	deviceFlags
	identityFlags
	Name string `arg:"" help:"Name."`
}

func (c *deviceRotateCmd) Run(s *session) error {
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	d, err := findDevice(s.ctx, cl, principalOf(c.Name))
	switch {
	case err != nil:
		return err
	case !d.isDevice():
		return noSuchDevice(c.Name)
	case !d.password && !c.Certificate:
		return failf(exitUsage, "device '%s' has no password: --certificate issues it another certificate", c.Name)
	}
	c.replace = true
	made, err := c.prepare(s, c.deviceFlags, c.Name)
	if err != nil {
		return err
	}
	made.may(d.publish, d.subscribe)
	return made.finish(s, cl, "has another secret", c.QR)
}

func noSuchDevice(name string) error {
	return failf(exitNotFound, "there is no device '%s': see weir device list; users that are none are removed by weir user delete", name)
}

type deviceRemoveCmd struct {
	kafkaFlags
	Name string `arg:"" help:"Name."`
}

func (c *deviceRemoveCmd) Run(s *session) error {
	cl, err := c.connect(s.ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	d, err := findDevice(s.ctx, cl, principalOf(c.Name))
	switch {
	case err != nil:
		return err
	case !d.isDevice():
		return noSuchDevice(c.Name)
	}
	if d.password {
		adm := kadm.NewClient(cl)
		users, err := scramUsers(s.ctx, adm)
		if err != nil {
			return err
		}
		if err := deleteUser(s.ctx, adm, users[c.Name]); err != nil {
			return err
		}
	}
	filters, err := aclFilter{Principal: d.principal}.filters()
	if err != nil {
		return err
	}
	rules, err := deleteACLs(s.ctx, cl, filters)
	if err != nil {
		return err
	}
	return s.show(map[string]any{"removed": c.Name, "rules": len(rules)}, func(w io.Writer) {
		fmt.Fprintf(w, "device %s removed, with its access rules (%d)\n", c.Name, len(rules))
		if !d.password {
			fmt.Fprintln(w, "Its certificate is not revoked, but has no rights any more, but for those that rules give everybody (User:*).")
		}
	})
}

// issue makes a client certificate and says whose it makes its bearer.
func (f *identityFlags) issue(dir, name string, rules auth.NameRules) (certText, keyText []byte, principal string, err error) {
	a, err := loadAuthority(dir)
	if err != nil {
		return nil, nil, "", err
	}
	if certText, keyText, err = a.client(name); err != nil {
		return nil, nil, "", err
	}
	block, _ := pem.Decode(certText)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, "", err
	}
	user, err := rules.Apply(cert)
	if err != nil {
		return nil, nil, "", failf(exitFailed, "tls.principal.mapping.rules: %w", err)
	}
	return certText, keyText, string(auth.UserPrincipal(user)), nil
}

// clear reports a file of an earlier certificate.
func (f *identityFlags) clear(files ...string) error {
	for _, name := range files {
		if _, err := os.Lstat(name); err == nil && !f.replace {
			return failf(exitFailed, "%s exists already: is it in use? move it away, or see weir device rotate --certificate", filepath.Base(name))
		}
	}
	return nil
}
