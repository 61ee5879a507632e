package console

import (
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
	next = http.NewCrossOriginProtection().Handler(s.requireAction(next))
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
