package mirror

// pace bounds the bytes on their way to one broker, so that a slow link (64
// kbit/s is 8 KB/s) is not given more than it can carry before a request times
// out: it grows by what is acknowledged and halves at each failure.
type pace struct{ limit int }

const (
	paceMin   = 32 << 10
	paceStart = 256 << 10
	paceMax   = 8 << 20
)

func newPace() pace { return pace{limit: paceStart} }

func (p *pace) acked(bytes int) { p.limit = min(paceMax, p.limit+bytes) }
func (p *pace) failed()         { p.limit = max(paceMin, p.limit/2) }

// allows reports whether another request may go while that many bytes are on
// their way; one request may always go.
func (p *pace) allows(flying int) bool { return flying == 0 || flying < p.limit }
