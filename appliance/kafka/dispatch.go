package kafka

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// api is one row of the dispatch table: an API key, the versions served and what
// serves them. Each NN_name.go registers its own.
type api struct {
	key  int16
	name string
	// min and max are the versions served.
	min, max int16
	// advertised is where the advertised range starts if not at min: old librdkafka
	// wants to see versions that it never sends.
	advertised *int16
	// maxFrame bounds the request in bytes; 0 means maxAdminFrame.
	maxFrame func(o *Options) int
	// handle answers a decoded request; nil means that there is no answer. It runs on
	// the connection's reader, so a request sees the effects of those before it. It
	// may block, as JoinGroup must, while it watches r.ctx.
	handle func(s *Server, r *request) kmsg.Response
	// stream, instead of handle, is given the undecoded body and makes its own reply.
	// The body's memory is reused once stream has returned.
	stream func(s *Server, r *request, body []byte) (reply, error)
	// unsupported answers a version that is not served; nil closes the connection.
	unsupported func(r *request, body []byte) (reply, error)
	// needs says what the client must be allowed to do, for docs/COMPATIBILITY.md.
	needs string
	// waits says that the handler waits for other clients, which is no use of the broker.
	waits bool
	// notes say in one line what is special, for docs/COMPATIBILITY.md.
	notes string
}

// request is one request as a handler sees it. A decoded body owns its memory:
// handlers may keep parts of it.
type request struct {
	ctx           context.Context // ends with the connection and with the server
	conn          *conn
	api           *api
	version       int16
	correlationID int32
	clientID      string // empty when the client did not say
	body          kmsg.Request
	// started is when the handler began; zero if nobody asks. waited is how long it
	// has waited for others since.
	started time.Time
	waited  time.Duration
	// owed is for how long the client is to be silent for what it changed, see mutate.
	owed time.Duration
}

// localAddr is the address the client dialled, as far as this host can know.
func (r *request) localAddr() net.Addr { return r.conn.nc.LocalAddr() }

// remoteAddr is the client's address.
func (r *request) remoteAddr() net.Addr { return r.conn.nc.RemoteAddr() }

// open is what an API needs that everybody may use.
const open = "–"

// maxKey is the greatest API key that can be registered.
const maxKey = 127

// table is indexed by API key. It is filled by init functions and then only read.
var table [maxKey + 1]*api

func register(a api) {
	if a.key < 0 || a.key > maxKey || table[a.key] != nil || a.max < a.min || (a.handle == nil) == (a.stream == nil) {
		panic(fmt.Sprintf("kafka: internal error: bad registration of key %d (%s)", a.key, a.name))
	}
	if a.advertised == nil {
		a.advertised = &a.min
	}
	table[a.key] = &a
}

// from is for the advertised field.
func from(version int16) *int16 { return &version }

func (a *api) serves(version int16) bool { return version >= a.min && version <= a.max }

// dataFrame is the maxFrame of the APIs that clients use while they work.
func dataFrame(o *Options) int { return o.MaxRequestBytes }

func lookup(key int16) *api {
	if key < 0 || key > maxKey {
		return nil
	}
	return table[key]
}

func (a *api) frameLimit(o *Options) int {
	if a == nil || a.maxFrame == nil {
		return o.MaxAdminBytes
	}
	return a.maxFrame(o)
}

// TableRow is one API as the compatibility page shows it.
type TableRow struct {
	Key           int16
	Name          string
	Min, Max      int16
	AdvertisedMin int16
	Needs         string // operation and resource type, "–" if none
	Notes         string
}

// Table lists the APIs served, by key.
func Table() []TableRow {
	var rows []TableRow
	for _, a := range table {
		if a != nil {
			rows = append(rows, TableRow{a.key, a.name, a.min, a.max, *a.advertised, a.needs, a.notes})
		}
	}
	slices.SortFunc(rows, func(a, b TableRow) int { return cmp.Compare(a.Key, b.Key) })
	return rows
}
