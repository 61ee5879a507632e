package firmwareconfig

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In the file it is a whole number or a number with
// one of the units KiB, MiB, GiB, TiB (powers of 1024) and KB, MB, GB (powers of 1000).
type Size int64

// units is searched from the front; String uses only the binary ones.
var units = []struct {
	suffix string
	bytes  int64
}{
	{"tib", 1 << 40}, {"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10},
	{"ti", 1 << 40}, {"gi", 1 << 30}, {"mi", 1 << 20}, {"ki", 1 << 10},
	{"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3}, {"b", 1},
}

// ParseSize reads a Size as the file writes it.
func ParseSize(s string) (Size, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(strings.ToLower(number), u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("'%s' is not a size such as 1048576, 64KiB or 16MiB", s)
	}
	return Size(n * factor), nil
}

// String is the shortest exact form, which ParseSize reads back.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + strings.ToUpper(u.suffix[:1]) + "iB"
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Share is a Size, or a whole number of percent of something: 80%.
type Share string

// ParseShare reads a Share as the file writes it; percent is 0 for a Size, bytes 0
// for percent.
func ParseShare(s Share) (bytes Size, percent int, err error) {
	if number, ok := strings.CutSuffix(strings.TrimSpace(string(s)), "%"); ok {
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || n < 1 || n > 100 {
			return 0, 0, fmt.Errorf("'%s' is not a share from 1%% to 100%%", s)
		}
		return 0, n, nil
	}
	if bytes, err = ParseSize(string(s)); err != nil || bytes == 0 {
		return 0, 0, fmt.Errorf("'%s' is neither a size such as 64GiB nor a share such as 80%%", s)
	}
	return bytes, 0, nil
}

// Duration is a time.Duration that the file writes as 250ms, 20s or 1h30m.
type Duration time.Duration

// ParseDuration reads a Duration as the file writes it.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("'%s' is not a duration such as 250ms, 20s or 1h30m", s)
	}
	return Duration(d), nil
}

func (d Duration) String() string {
	s := time.Duration(d).String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}
