package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

type certCmd struct {
	Client certClientCmd `cmd:"" help:"Issue a client certificate, for a device or a program."`
	Server certServerCmd `cmd:"" help:"Renew the server's certificate; a running appliance takes it in by itself."`
}

type certClientCmd struct {
	Dir  string `default:"pki" placeholder:"DIR" help:"Folder of the authority (${default})."`
	Name string `arg:"" help:"The client's name (CN), which becomes the user's name."`
}

func (c *certClientCmd) Run(s *session) error {
	if strings.ContainsAny(c.Name, "/\\,=+\x00") || c.Name == "" || len(c.Name) > 64 {
		return failf(exitUsage, "'%s' cannot be the name of a certificate: 1 to 64 bytes without / \\ , = +", c.Name)
	}
	a, err := loadAuthority(c.Dir)
	if err != nil {
		return err
	}
	cert, key, err := a.client(c.Name)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(c.Dir, c.Name+".crt"), filepath.Join(c.Dir, c.Name+".key")
	if err := writeSecret(keyFile, key); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := writePublic(certFile, cert); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	return s.show(map[string]string{"certificate": certFile, "key": keyFile}, func(w io.Writer) {
		fmt.Fprintf(w, "certificate %s\nkey         %s\n", certFile, keyFile)
	})
}

type certServerCmd struct {
	Dir  string   `default:"pki" placeholder:"DIR" help:"Folder of the authority (${default})."`
	Host []string `placeholder:"NAME" help:"Further name or address of this machine."`
}

func (c *certServerCmd) Run(s *session) error {
	a, err := loadAuthority(c.Dir)
	if err != nil {
		return err
	}
	names := ownNames(c.Host)
	cert, key, err := a.server(names)
	if err != nil {
		return err
	}
	certFile := filepath.Join(c.Dir, serverCertFile)
	if err := replaceSecret(filepath.Join(c.Dir, serverKeyFile), key); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := replaceSecret(certFile, cert); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := os.Chmod(certFile, 0o644); err != nil {
		return err
	}
	return s.show(map[string]any{"certificate": certFile, "names": names}, func(w io.Writer) {
		fmt.Fprintf(w, "%s renewed for %s\n", certFile, describeNames(names))
	})
}
