package kafka

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/weirmq/weir/appliance/auth"
	"github.com/weirmq/weir/appliance/record"
)

// logClosed says why a connection ended, unless it is the usual way.
func (c *conn) logClosed(err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, errServerClosed):
		return
	case errors.Is(err, record.ErrStorage), errors.Is(err, record.ErrCorrupt):
		c.s.o.Log.Error("kafka connection closed: the log cannot be read", c.attrs(err)...)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.s.o.Log.Debug("kafka connection timed out", c.attrs(err)...)
	case errors.Is(err, auth.ErrAuthentication), errors.Is(err, errLogin):
		c.s.loginFailures.Add(1)
		c.s.complain("kafka connection closed: not logged in", c.attrs(err)...)
	case errors.Is(err, errMalformed), errors.Is(err, errVersion), errors.Is(err, errUnknownAPI),
		errors.Is(err, errFrameSize), errors.Is(err, errFrameBudget):
		c.s.refused.Add(1)
		c.s.complain("kafka connection closed: bad request", c.attrs(err)...)
	default:
		c.s.o.Log.Debug("kafka connection lost", c.attrs(err)...)
	}
}

func (c *conn) attrs(err error) []any {
	return []any{slog.Any("remote", c.nc.RemoteAddr()), slog.String("software", c.software), slog.Any("error", err)}
}
