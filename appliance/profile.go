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
	// ProfileAuto is ProfileFlash on SD cards and eMMC, and on any disk whose Endurance
	// is given; ProfileSync elsewhere.
	ProfileAuto Profile = ""
	// ProfileSync begins a commit round when the last has ended.
	ProfileSync Profile = "sync"
	// ProfileFlash waits 20 ms for company, and 100 ms for as much as fills a block of
	// 4 KiB, unless 256 KiB or 512 appends have gathered or the box was idle.
	ProfileFlash Profile = "flash"
	// ProfileWear waits up to 1 s.
	ProfileWear Profile = "wear"
	// ProfileRelaxed is ProfileFlash with another default for topics that are not
	// internal: they are acknowledged once written, and synced within a second. A power
	// cut can lose what was acknowledged last; no crash of the process can.
	ProfileRelaxed Profile = "relaxed"
)

// Pace is when commit rounds and checkpoints come.
type Pace struct {
	Linger, BlockLinger time.Duration // those of wal.Options
	// Checkpoint is the interval. Checkpoints write what the write-ahead log holds a
	// second time, in whole blocks and with the file system's journal: flash is spared by
	// few of them, and a start after a crash reads what came since.
	Checkpoint time.Duration
}

var paces = map[Profile]Pace{
	ProfileSync:    {0, 0, 10 * time.Second},
	ProfileFlash:   {20 * time.Millisecond, 100 * time.Millisecond, time.Minute},
	ProfileWear:    {time.Second, 0, time.Minute},
	ProfileRelaxed: {20 * time.Millisecond, 100 * time.Millisecond, time.Minute},
}

// Pace is the profile's; ok is false for ProfileAuto and those that there are not.
func (p Profile) Pace() (pace Pace, ok bool) {
	pace, ok = paces[p]
	return pace, ok
}

// relaxedConfigs are ProfileRelaxed's defaults of topic configs: no number of
// messages forces a sync, a second does.
var relaxedConfigs = map[string]string{"flush.messages": strconv.FormatInt(math.MaxInt64, 10), "flush.ms": "1000"}

// apply fills in what o does not set, the linger, the checkpoints and topic configs,
// and names the profile in force.
func (p Profile) apply(o *Options) (Profile, error) {
	if p == ProfileAuto {
		if p = detectProfile(o.Data); o.Endurance > 0 {
			p = ProfileFlash
		}
	}
	pace, ok := p.Pace()
	if !ok {
		return p, fmt.Errorf("commit profile %q is unknown: use sync, flash, wear or relaxed", p)
	}
	if o.WAL.Linger == 0 {
		o.WAL.Linger, o.WAL.BlockLinger = pace.Linger, pace.BlockLinger
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = pace.Checkpoint
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
