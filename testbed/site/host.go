package site

import (
	"fmt"
	"math/rand/v2"
	"runtime"
)

// LoopbackHost is an address of this machine that nothing else is likely to use.
//
// A killed appliance needs its ports again, and on 127.0.0.1 a client that dials
// in between can be given such a port as its own, or even connect to itself.
// Connections to another loopback address still come from 127.0.0.1, so there
// neither happens. Only Linux has all of 127.0.0.0/8 without set-up.
func LoopbackHost() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(254))
}
