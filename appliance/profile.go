package appliance

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/appliance/wal"
)

// Profile says how appends gather into commit rounds. None of them acknowledges
// what is not on stable storage: they differ in delay and in wear of flash.
type Profile string

const (
	// ProfileAuto is ProfileFlash on SD cards and eMMC, ProfileSync elsewhere.
	ProfileAuto Profile = ""
	// ProfileSync begins a commit round when the last has ended.
	ProfileSync Profile = "sync"
	// ProfileFlash waits 20 ms for company, unless 256 KiB or 512 appends have
	// gathered or the box was idle.
	ProfileFlash Profile = "flash"
	// ProfileWear waits up to 1 s.
	ProfileWear Profile = "wear"
)

const (
	flashLinger = 20 * time.Millisecond
	wearLinger  = time.Second
)

// apply fills in the linger that o does not set, and names the profile in force.
func (p Profile) apply(o *wal.Options, dir string) (Profile, error) {
	linger := map[Profile]time.Duration{ProfileSync: 0, ProfileFlash: flashLinger, ProfileWear: wearLinger}
	if p == ProfileAuto {
		p = detectProfile(dir)
	}
	d, ok := linger[p]
	if !ok {
		return p, fmt.Errorf("commit profile %q is unknown: use sync, flash or wear", p)
	}
	if o.Linger == 0 {
		o.Linger = d
	}
	return p, nil
}

// detectProfile looks at the device that holds dir: Linux names SD cards and eMMC
// mmcblk. A device that cannot be told is taken for a disk.
func detectProfile(dir string) Profile {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return ProfileSync
	}
	dev := uint64(st.Dev) // its width differs by architecture
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err == nil && strings.Contains(device, "mmcblk") {
		return ProfileFlash
	}
	return ProfileSync
}
