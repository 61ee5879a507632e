package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance/console"
)

// httpFlags is for commands that ask a running appliance over HTTP.
type httpFlags struct {
	HTTP string `name:"http" placeholder:"HOST:PORT" default:"127.0.0.1:8080" env:"WEIR_HTTP" help:"HTTP address of the appliance (${default}); https:// before it encrypts."`
	clientFlags
}

// base is the appliance's URL.
func (f httpFlags) base() string {
	if strings.Contains(f.HTTP, "://") {
		return strings.TrimSuffix(f.HTTP, "/")
	}
	return "http://" + f.HTTP
}

const (
	callTimeout    = time.Minute
	maxAnswerBytes = 64 << 20
)

// call sends one request and decodes the answer into out, which may be nil or
// a *[]byte for the raw body.
func (f httpFlags) call(ctx context.Context, method, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	props, err := f.properties()
	if err != nil {
		return err
	}
	client, err := props.http()
	if err != nil {
		return failf(exitUsage, "%w", err)
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, f.base()+path, bytes.NewReader(body))
	if err != nil {
		return failf(exitUsage, "--http %s is not an address such as 127.0.0.1:8080", f.HTTP)
	}
	req.Header.Set(console.ActionHeader, "1")
	props.authorize(req)
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return failf(exitUnreachable, "no appliance answers at %s (%s): is weir serve running? give its address with --http HOST:PORT", f.base(), rootCause(err))
		}
		return ctx.Err()
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return failf(exitUnreachable, "the answer of %s broke off: %w", f.base(), err)
	}
	if res.StatusCode != http.StatusOK {
		return refusal(f.base(), res, answer)
	}
	return decodeAnswer(f.base(), answer, out)
}

func decodeAnswer(from string, answer []byte, out any) error {
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = answer
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return failf(exitFailed, "%s does not answer as a weir of this version does: %w", from, err)
	}
	return nil
}

func refusal(from string, res *http.Response, answer []byte) error {
	var body struct{ Error string }
	if json.Unmarshal(answer, &body) != nil || body.Error == "" {
		return failf(exitFailed, "%s answers %s: is it a weir?", from, res.Status)
	}
	code := exitFailed
	if res.StatusCode == http.StatusUnauthorized {
		return failf(code, "%s: %s; give a login with --client FILE", from, body.Error)
	}
	if res.StatusCode == http.StatusNotFound {
		code = exitNotFound
	}
	return failf(code, "%s", body.Error)
}

// rootCause drops the address and operation that net and net/http put before
// the reason: the sentence around it names them already.
func rootCause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "no such host"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return text
}
