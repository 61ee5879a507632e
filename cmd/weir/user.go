package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/auth"
)

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Add a user and print its password."`
	List   userListCmd   `cmd:"" help:"List users."`
	Passwd userPasswdCmd `cmd:"" help:"Give a user another password. What was logged in by the old one is cut off."`
	Delete userDeleteCmd `cmd:"" help:"Delete a user and cut it off."`
	Rescue userRescueCmd `cmd:"" help:"Give a user of a stopped appliance another password, when nobody can log in any more."`
}

// passwordFlags say where a password comes from; nowhere: one is made.
type passwordFlags struct {
	Stdin      bool `name:"password-stdin" help:"Read the password from stdin instead of making one."`
	Iterations int  `default:"4096" help:"Hash iterations (${default})."`
}

func (f passwordFlags) password(in io.Reader) (password string, made bool, err error) {
	if !f.Stdin {
		return rand.Text(), true, nil
	}
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", false, err
	}
	if password = strings.TrimRight(line, "\r\n"); password == "" {
		return "", false, failf(exitUsage, "stdin has no password: echo it into the command, or leave --password-stdin out to have one made")
	}
	return password, false, nil
}

type userAddCmd struct {
	kafkaFlags
	passwordFlags
	Name string `arg:"" help:"Name."`
}

func (c *userAddCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	users, err := scramUsers(s.ctx, adm)
	if err != nil {
		return err
	}
	if _, known := users[c.Name]; known {
		return failf(exitFailed, "user '%s' exists already: weir user passwd gives it another password", c.Name)
	}
	return setPassword(s, adm, c.passwordFlags, c.Name, "added")
}

type userPasswdCmd struct {
	kafkaFlags
	passwordFlags
	Name string `arg:"" help:"Name."`
}

func (c *userPasswdCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	users, err := scramUsers(s.ctx, adm)
	if err != nil {
		return err
	}
	if _, known := users[c.Name]; !known {
		return failf(exitNotFound, "user '%s' does not exist: see weir user list", c.Name)
	}
	return setPassword(s, adm, c.passwordFlags, c.Name, "has a new password")
}

// setPassword gives the user both SCRAM credentials: clients choose.
func setPassword(s *session, adm *kadm.Client, f passwordFlags, name, done string) error {
	password, made, err := f.password(s.in)
	if err != nil {
		return err
	}
	if err := storePassword(s.ctx, adm, name, password, f.Iterations); err != nil {
		return err
	}
	return showPassword(s, name, done, password, made)
}

func storePassword(ctx context.Context, adm *kadm.Client, name, password string, iterations int) error {
	var upserts []kadm.UpsertSCRAM
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		upserts = append(upserts, kadm.UpsertSCRAM{User: name, Mechanism: m, Iterations: int32(iterations), Password: password})
	}
	results, err := adm.AlterUserSCRAMs(ctx, nil, upserts)
	return scramError("set the password of", name, results, err)
}

// deleteUser deletes all credentials of a user, and so the user.
func deleteUser(ctx context.Context, adm *kadm.Client, u kadm.DescribedUserSCRAM) error {
	var deletes []kadm.DeleteSCRAM
	for _, info := range u.CredInfos {
		deletes = append(deletes, kadm.DeleteSCRAM{User: u.User, Mechanism: info.Mechanism})
	}
	results, err := adm.AlterUserSCRAMs(ctx, deletes, nil)
	return scramError("delete", u.User, results, err)
}

// showPassword shows a password that was made, once.
func showPassword(s *session, name, done, password string, made bool) error {
	shown := map[string]string{"user": name}
	if made {
		shown["password"] = password
	}
	return s.show(shown, func(w io.Writer) {
		fmt.Fprintf(w, "user %s %s\n", name, done)
		if made {
			fmt.Fprintf(w, "password: %s\n", password)
			fmt.Fprintln(w, "It is not kept in clear text: write it down now. weir acl add says what the user may do.")
		}
	})
}

func scramError(doing, name string, results kadm.AlteredUserSCRAMs, err error) error {
	if err != nil {
		return brokerError(doing, name, err)
	}
	for _, r := range results {
		if r.Err != nil {
			return refused(doing, name, r.Err, r.ErrMessage)
		}
	}
	return nil
}

func scramUsers(ctx context.Context, adm *kadm.Client) (kadm.DescribedUserSCRAMs, error) {
	users, err := adm.DescribeUserSCRAMs(ctx)
	return users, brokerError("list", "users", err)
}

type userListCmd struct{ kafkaFlags }

type userRow struct {
	User       string   `json:"user"`
	Mechanisms []string `json:"mechanisms"`
}

func (c *userListCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	users, err := scramUsers(s.ctx, adm)
	if err != nil {
		return err
	}
	rows := []userRow{}
	for _, u := range users.Sorted() {
		row := userRow{User: u.User}
		for _, info := range u.CredInfos {
			row.Mechanisms = append(row.Mechanisms, info.Mechanism.String())
		}
		rows = append(rows, row)
	}
	return s.show(rows, func(w io.Writer) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.User, strings.Join(r.Mechanisms, ", ")})
		}
		table(w, []string{"user", "mechanisms"}, cells)
	})
}

type userDeleteCmd struct {
	kafkaFlags
	Name string `arg:"" help:"Name."`
}

func (c *userDeleteCmd) Run(s *session) error {
	adm, err := c.admin(s.ctx)
	if err != nil {
		return err
	}
	defer adm.Close()
	users, err := scramUsers(s.ctx, adm)
	if err != nil {
		return err
	}
	u, known := users[c.Name]
	if !known {
		return failf(exitNotFound, "user '%s' does not exist: see weir user list", c.Name)
	}
	if err := deleteUser(s.ctx, adm, u); err != nil {
		return err
	}
	return s.show(map[string]string{"deleted": c.Name}, func(w io.Writer) {
		fmt.Fprintf(w, "user %s deleted; its access rules stay: weir acl delete --principal %s\n", c.Name, auth.UserPrincipal(c.Name))
	})
}

type userRescueCmd struct {
	passwordFlags
	Data string `required:"" placeholder:"DIR" help:"Data folder of the appliance, which must be stopped."`
	Name string `arg:"" help:"Name; made if there is none."`
}

func (c *userRescueCmd) Run(s *session) error {
	if _, err := os.Stat(filepath.Join(c.Data, appliance.MetadataFile)); err != nil {
		return failf(exitNotFound, "%s is no data folder of weir: %w", c.Data, err)
	}
	password, made, err := c.password(s.in)
	if err != nil {
		return err
	}
	if err := makeAdmin(c.Data, c.Name, password); err != nil {
		return fmt.Errorf("set the password of %s: %w", c.Name, err)
	}
	return showPassword(s, c.Name, "has a new password", password, made)
}

// writeSecret writes a file that only its owner can read, and no other in its place.
func writeSecret(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
