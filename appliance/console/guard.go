package console

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// ActionHeader must be on every request that changes something. A foreign page
// cannot set it without a CORS preflight, which the console never grants.
const ActionHeader = "X-Weir-Action"

// guard keeps other people's web pages out: an operator's browser sits in the
// plant network and visits the Internet at the same time.
//
//   - The Host must be an address or a name of this box. A page that rebinds its
//     own name to this address is stopped here.
//   - A change needs ActionHeader and must not come from another origin.
func (s *Server) guard(next http.Handler) http.Handler {
	names := append([]string{"localhost"}, s.opts.Hosts...)
	if name, err := os.Hostname(); err == nil {
		names = append(names, name, name+".local")
	}
	next = http.NewCrossOriginProtection().Handler(s.requireLogin(s.requireAction(next)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !hostAllowed(r.Host, names) {
			fail(w, http.StatusMisdirectedRequest, "this box does not answer to the name '"+r.Host+
				"': use its address, or add the name to http.hosts")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Errors of Options.Authorize.
var (
	ErrLogin     = errors.New("log in")
	ErrForbidden = errors.New("not allowed")
)

// open are the paths that tell nothing but whether the box lives.
func open(path string) bool { return path == "/healthz" || path == "/readyz" }

// requireLogin asks who the client is, the way a browser understands as well. That the
// browser then sends the password with every request is why a change needs ActionHeader.
func (s *Server) requireLogin(next http.Handler) http.Handler {
	if s.opts.Authorize == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := error(nil)
		if !open(r.URL.Path) {
			err = s.opts.Authorize(r, r.Method != http.MethodGet && r.Method != http.MethodHead)
		}
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, ErrLogin):
			w.Header().Add("WWW-Authenticate", `Basic realm="weir", charset="UTF-8"`)
			w.Header().Add("WWW-Authenticate", `Bearer realm="weir"`)
			fail(w, http.StatusUnauthorized, err.Error())
		case errors.Is(err, ErrForbidden):
			fail(w, http.StatusForbidden, err.Error())
		default:
			fail(w, http.StatusServiceUnavailable, err.Error())
		}
	})
}

func (s *Server) requireAction(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !safe && r.Header.Get(ActionHeader) == "" {
			fail(w, http.StatusForbidden, "a change needs the header "+ActionHeader+": 1")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.opts.MaxUpload)
		next.ServeHTTP(w, r)
	})
}

func hostAllowed(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) })
}
