package appliance

import (
	"fmt"
	"maps"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Profile says how appends gather into commit rounds: they differ in delay and in
// wear of flash. All but ProfileRelaxed acknowledge only what is on stable storage.
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
	// ProfileRelaxed is ProfileFlash with another default for topics that are not
	// internal: they are acknowledged once written, and synced within a second. A power
	// cut can lose what was acknowledged last; no crash of the process can.
	ProfileRelaxed Profile = "relaxed"
)

const (
	flashLinger = 20 * time.Millisecond
	wearLinger  = time.Second
)

// relaxedConfigs are ProfileRelaxed's defaults of topic configs: no number of
// messages forces a sync, a second does.
var relaxedConfigs = map[string]string{"flush.messages": strconv.FormatInt(math.MaxInt64, 10), "flush.ms": "1000"}

// apply fills in what o does not set, the linger and topic configs, and names the
// profile in force.
func (p Profile) apply(o *Options) (Profile, error) {
	linger := map[Profile]time.Duration{ProfileSync: 0, ProfileFlash: flashLinger, ProfileWear: wearLinger, ProfileRelaxed: flashLinger}
	if p == ProfileAuto {
		p = detectProfile(o.Data)
	}
	d, ok := linger[p]
	if !ok {
		return p, fmt.Errorf("commit profile %q is unknown: use sync, flash, wear or relaxed", p)
	}
	if o.WAL.Linger == 0 {
		o.WAL.Linger = d
	}
	if p == ProfileRelaxed {
		configs := maps.Clone(relaxedConfigs)
		maps.Copy(configs, o.TopicConfigs)
		o.TopicConfigs = configs
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
