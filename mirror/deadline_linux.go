package mirror

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// linkDeadMs is how long sent bytes may go unacknowledged by the peer's TCP
// before the connection counts as dead: a link that swallows packets without a
// reset is noticed within 30 s, however long a request may take.
const linkDeadMs = 30_000

func deadline(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, linkDeadMs)
	})
	if err != nil {
		return err
	}
	return failed
}
