package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Files of the folder that weir init makes for keys and certificates.
const (
	caCertFile, caKeyFile         = "ca.crt", "ca.key"
	serverCertFile, serverKeyFile = "server.crt", "server.key"
)

// How long certificates hold. Clients of Apple take no server certificate beyond 825 days.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 825 * 24 * time.Hour
	clientLife    = 5 * 365 * 24 * time.Hour
	backdate      = 24 * time.Hour // for clients whose clock is behind
)

// authority signs the certificates of one site.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func serialNumber() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic("weir: internal error: " + err.Error())
	}
	return n
}

func template(name string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life), BasicConstraintsValid: true,
	}
}

// newAuthority makes a site's own certificate authority in dir.
func newAuthority(dir, site string) (*authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	t := template("Weir CA of "+site, authorityLife)
	t.IsCA, t.MaxPathLenZero, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: key, pem: certPEM(der)}
	return a, errors.Join(writeSecret(filepath.Join(dir, caKeyFile), keyPEM), writePublic(filepath.Join(dir, caCertFile), a.pem))
}

// loadAuthority reads what newAuthority has made.
func loadAuthority(dir string) (*authority, error) {
	pemText, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if err != nil {
		return nil, failf(exitNotFound, "no certificate authority in %s: weir init makes one: %w", dir, err)
	}
	keyText, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, failf(exitNotFound, "the authority's key is not in %s: %w", dir, err)
	}
	block, _ := pem.Decode(pemText)
	keyBlock, _ := pem.Decode(keyText)
	if block == nil || keyBlock == nil {
		return nil, failf(exitFailed, "%s or %s in %s is not PEM", caCertFile, caKeyFile, dir)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, failf(exitFailed, "the key in %s cannot sign", dir)
	}
	return &authority{cert: cert, key: signer, pem: pemText}, nil
}

// server issues a certificate for a server under these names and addresses.
func (a *authority) server(hosts []string) (certText, keyText []byte, err error) {
	t := template(hosts[0], serverLife)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.issue(t)
}

// client issues a certificate for a client of this name.
func (a *authority) client(name string) (certText, keyText []byte, err error) {
	t := template(name, clientLife)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(t)
}

func (a *authority) issue(t *x509.Certificate) (certText, keyText []byte, err error) {
	key, keyText, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return certPEM(der), keyText, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writePublic writes a file that there is none of yet.
func writePublic(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// replaceSecret puts a file in the place of another at once, readable by its owner.
func replaceSecret(name string, text []byte) error {
	staged := name + ".new"
	if err := os.Remove(staged); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeSecret(staged, text); err != nil {
		return err
	}
	return os.Rename(staged, name)
}

// ownNames are the names and addresses by which this machine may be reached.
func ownNames(further []string) []string {
	var names []string
	add := func(n string) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range further {
		add(n)
	}
	if host, err := os.Hostname(); err == nil {
		add(host)
		if net.ParseIP(host) == nil && !slices.Contains([]string{"localhost"}, host) {
			add(host + ".local")
		}
	}
	add("localhost")
	add("127.0.0.1")
	add("::1")
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
				add(n.IP.String())
			}
		}
	}
	return names
}

// describeNames is a list for people.
func describeNames(names []string) string {
	if len(names) > 8 {
		return fmt.Sprintf("%v and %d more", names[:8], len(names)-8)
	}
	return fmt.Sprint(names)
}
