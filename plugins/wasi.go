package plugins

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"
)

// WASI preview 1, as much of it as a reactor's runtime needs to start: clocks,
// randomness, and standard output as lines for the log. There are no files, no
// arguments, no environment; exit is a failure.
const wasiModule = "wasi_snapshot_preview1"

// errno values of WASI.
const (
	wasiSuccess = 0
	wasiBadF    = 8
	wasiFault   = 21
	wasiInval   = 28
	wasiNoSys   = 52
	wasiNotSup  = 58
)

// Limits on one call.
const (
	maxIOVectors     = 64
	maxRandomBytes   = 64 << 10
	maxSubscriptions = 64
	fdStderr         = 2
)

var wasiFunctions = append([]hostFunction{
	wasi("args_get", "ii", returns(wasiSuccess)),
	wasi("args_sizes_get", "ii", none),
	wasi("environ_get", "ii", returns(wasiSuccess)),
	wasi("environ_sizes_get", "ii", none),
	wasi("clock_res_get", "ii", func(g *guest, s []uint64) uint32 { return g.put64(s[1], 1) }),
	wasi("clock_time_get", "ili", clockTimeGet),
	wasi("random_get", "ii", randomGet),
	wasi("fd_write", "iiii", fdWrite),
	wasi("fd_fdstat_get", "ii", fdStatGet),
	wasi("poll_oneoff", "iiii", pollOneOff),
	wasi("sched_yield", "", returns(wasiSuccess)),
	hostCall("proc_exit", "i", "", func(_ *guest, s []uint64) { panic(fmt.Errorf("%w(%d)", errExit, int32(s[0]))) }),
	wasi("proc_raise", "i", returns(wasiNoSys)),
}, wasiRefused...)

// wasiRefused are the functions on files and sockets, of which there are none.
var wasiRefused = refused(map[string]string{
	"fd_advise": "illi", "fd_allocate": "ill", "fd_close": "i", "fd_datasync": "i", "fd_fdstat_set_flags": "ii",
	"fd_fdstat_set_rights": "ill", "fd_filestat_get": "ii", "fd_filestat_set_size": "il", "fd_filestat_set_times": "illi",
	"fd_pread": "iiili", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_pwrite": "iiili", "fd_read": "iiii",
	"fd_readdir": "iiili", "fd_renumber": "ii", "fd_seek": "ilii", "fd_sync": "i", "fd_tell": "ii",
	"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiilli", "path_link": "iiiiiii",
	"path_open": "iiiiillii", "path_readlink": "iiiiii", "path_remove_directory": "iii", "path_rename": "iiiiii",
	"path_symlink": "iiiii", "path_unlink_file": "iii",
	"sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
})

func refused(signatures map[string]string) []hostFunction {
	var fs []hostFunction
	for name, params := range signatures {
		fs = append(fs, wasi(name, params, returns(wasiBadF)))
	}
	return fs
}

// wasi makes a function that returns an errno.
func wasi(name, params string, f func(g *guest, stack []uint64) uint32) hostFunction {
	return hostCall(name, params, "i", func(g *guest, stack []uint64) { stack[0] = uint64(f(g, stack)) })
}

func returns(errno uint32) func(*guest, []uint64) uint32 {
	return func(*guest, []uint64) uint32 { return errno }
}

// none says that there are 0 things with 0 bytes.
func none(g *guest, s []uint64) uint32 {
	if !g.memory.WriteUint32Le(uint32(s[0]), 0) || !g.memory.WriteUint32Le(uint32(s[1]), 0) {
		return wasiFault
	}
	return wasiSuccess
}

func (g *guest) put64(ptr, v uint64) uint32 {
	if !g.memory.WriteUint64Le(uint32(ptr), v) {
		return wasiFault
	}
	return wasiSuccess
}

// processStart is the origin of the monotonic clock.
var processStart = time.Now()

func clockTimeGet(g *guest, s []uint64) uint32 {
	switch uint32(s[0]) {
	case 0: // realtime
		return g.put64(s[2], uint64(time.Now().UnixNano()))
	case 1: // monotonic
		return g.put64(s[2], uint64(time.Since(processStart)))
	}
	return wasiNotSup
}

func randomGet(g *guest, s []uint64) uint32 {
	if uint32(s[1]) > maxRandomBytes {
		return wasiInval
	}
	b, ok := g.memory.Read(uint32(s[0]), uint32(s[1]))
	if !ok {
		return wasiFault
	}
	rand.Read(b) // never fails
	return wasiSuccess
}

// fdWrite takes lines for the log. What does not fit a line is dropped, but said
// to be written: a guest must not fail for talking too much.
func fdWrite(g *guest, s []uint64) uint32 {
	fd, vectors, count := uint32(s[0]), uint32(s[1]), uint32(s[2])
	if fd != 1 && fd != fdStderr {
		return wasiBadF
	}
	if count > maxIOVectors {
		return wasiInval
	}
	level, written := slog.LevelInfo, uint32(0)
	if fd == fdStderr {
		level = slog.LevelWarn
	}
	for i := range count {
		v, ok := g.memory.Read(vectors+8*i, 8)
		if !ok {
			return wasiFault
		}
		ptr, size := binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:])
		text, ok := g.memory.Read(ptr, min(size, maxOutputBytes))
		if !ok {
			return wasiFault
		}
		g.line.write(g.logs, level, text)
		written += size
	}
	if !g.memory.WriteUint32Le(uint32(s[3]), written) {
		return wasiFault
	}
	return wasiSuccess
}

// fdStatGet says of the standard streams that they are terminals and allow all.
func fdStatGet(g *guest, s []uint64) uint32 {
	if uint32(s[0]) > fdStderr {
		return wasiBadF
	}
	b, ok := g.memory.Read(uint32(s[1]), 24)
	if !ok {
		return wasiFault
	}
	clear(b)
	b[0] = 2 // character device
	return wasiSuccess
}

// pollOneOff sleeps until the first clock given, but not past the call's time
// limit; it knows no other events.
func pollOneOff(g *guest, s []uint64) uint32 {
	const subscriptionSize, eventSize = 48, 32
	in, out, count := uint32(s[0]), uint32(s[1]), uint32(s[2])
	if count == 0 || count > maxSubscriptions {
		return wasiInval
	}
	best, wait := -1, time.Duration(1<<63-1)
	for i := range count {
		sub, ok := g.memory.Read(in+i*subscriptionSize, subscriptionSize)
		if !ok {
			return wasiFault
		}
		if sub[8] != 0 { // not a clock
			continue
		}
		d := time.Duration(binary.LittleEndian.Uint64(sub[24:]))
		if binary.LittleEndian.Uint16(sub[40:])&1 != 0 { // a time, not a duration
			if d -= time.Since(processStart); binary.LittleEndian.Uint32(sub[16:]) == 0 {
				d = time.Until(time.Unix(0, int64(binary.LittleEndian.Uint64(sub[24:]))))
			}
		}
		if d < wait {
			best, wait = int(i), d
		}
	}
	if best < 0 {
		return wasiNotSup
	}
	time.Sleep(min(wait, time.Until(g.deadline)+time.Millisecond))
	g.checkTime()
	sub, ok := g.memory.Read(in+uint32(best)*subscriptionSize, 8)
	event, ok2 := g.memory.Read(out, eventSize)
	if !ok || !ok2 || !g.memory.WriteUint32Le(uint32(s[3]), 1) {
		return wasiFault
	}
	userData := binary.LittleEndian.Uint64(sub)
	clear(event)
	binary.LittleEndian.PutUint64(event, userData)
	return wasiSuccess
}
