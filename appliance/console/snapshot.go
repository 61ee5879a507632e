package console

// MaxRows bounds each list of a Snapshot as it is shown; what is cut is said.
const MaxRows = 500

// Snapshot is what an operator asks first: is data arriving, is it safe, is it
// leaving, when will the disk be full. Counters start at zero with the process.
type Snapshot struct {
	Totals   Totals    `json:"totals"`
	Disk     Disk      `json:"disk"`
	Warnings []Warning `json:"warnings"`
	Topics   []Topic   `json:"topics"`
	Groups   []Group   `json:"groups"`
	Flows    []Flow    `json:"flows"`
	Plugins  []Plugin  `json:"plugins"`
	Members  []Member  `json:"members"`
	Cut      []string  `json:"cut,omitempty"` // lists of which only the first MaxRows are here
}

// Totals are the figures of the page's upper row.
type Totals struct {
	DevicesConnected int64 `json:"devices_connected"`
	MessagesIn       int64 `json:"messages_in"`    // MQTT publishes received
	MessagesAcked    int64 `json:"messages_acked"` // of these, committed and acknowledged
	RecordsIn        int64 `json:"records_in"`     // ever appended to the topics that exist
	Transformed      int64 `json:"transformed"`    // records written by plugins
	Mirrored         int64 `json:"mirrored"`       // records delivered by mirror flows
	MirrorLag        int64 `json:"mirror_lag"`     // records not yet delivered
	DeadLetters      int64 `json:"dead_letters"`
}

// Disk is the file system that holds the data folder, in bytes.
type Disk struct {
	LogBytes   int64 `json:"log_bytes"` // Weir's own
	UsedBytes  int64 `json:"used_bytes"`
	FreeBytes  int64 `json:"free_bytes"`
	TotalBytes int64 `json:"total_bytes"`

	ReserveBytes int64 `json:"reserve_bytes"` // stays free for deletes, commits and recovery
	BallastBytes int64 `json:"ballast_bytes"` // how much of the reserve is taken from the disk now
	BudgetBytes  int64 `json:"budget_bytes"`  // of all segments; -1: no limit but the reserve
	RoomBytes    int64 `json:"room_bytes"`    // until the disk policies come in; -1: not known
	Refusing     bool  `json:"refusing"`      // appends, for want of room
	// FullInSeconds is when the room is used up at this rate; -1: it is not filling up.
	FullInSeconds int64  `json:"full_in_seconds"`
	LosesFirst    string `json:"loses_first,omitempty"` // the topic that loses data then; empty: none, appends are refused
	Forecast      string `json:"forecast,omitempty"`    // the same in words
}

// Severities of a Warning.
const (
	SeverityWarning = "warning" // something an operator should change
	SeverityFailed  = "failed"  // something does not work now
)

// Warning is a banner.
type Warning struct {
	Severity string `json:"severity"`
	Text     string `json:"text"`
}

// Topic is one topic with its partitions.
type Topic struct {
	Name       string      `json:"name"`
	Internal   bool        `json:"internal"`
	Bytes      int64       `json:"bytes"`
	Records    int64       `json:"records"` // offsets from log start to high watermark
	Partitions []Partition `json:"partitions"`

	BytesPerSecond float64 `json:"bytes_per_second"` // growth, over minutes
	DiskPolicy     string  `json:"disk_policy"`      // weir.disk.policy
	DiskPriority   int64   `json:"disk_priority"`    // weir.disk.priority
	DroppedRecords int64   `json:"dropped_records"`  // by the disk policy
	DroppedBytes   int64   `json:"dropped_bytes"`
	RefusedAppends int64   `json:"refused_appends"` // for want of room
}

// Partition is one partition's offsets.
type Partition struct {
	Partition      int32 `json:"partition"`
	LogStartOffset int64 `json:"log_start_offset"`
	HighWatermark  int64 `json:"high_watermark"`
	Bytes          int64 `json:"bytes"`
}

// Group is one consumer group.
type Group struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Members int    `json:"members"`
	Lag     int64  `json:"lag"` // -1: nothing committed
}

// Flow is one mirror flow.
type Flow struct {
	Name     string `json:"name"`
	State    string `json:"state"` // running, connecting, halted …
	Peer     string `json:"peer"`
	Topics   int    `json:"topics"`
	Mirrored int64  `json:"mirrored"`
	Lag      int64  `json:"lag"`
	Error    string `json:"error,omitempty"`
}

// Plugin is one deployed plugin.
type Plugin struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	State       string `json:"state"`
	RecordsIn   int64  `json:"records_in"`
	RecordsOut  int64  `json:"records_out"`
	DeadLetters int64  `json:"dead_letters"`
	Lag         int64  `json:"lag"`
	Error       string `json:"error,omitempty"`
}

// Member is one site of the fleet.
type Member struct {
	Name    string            `json:"name"`
	Address string            `json:"address"`
	State   string            `json:"state"` // alive, left, failed
	Tags    map[string]string `json:"tags,omitempty"`
}

// bound cuts the lists to MaxRows and gives empty lists instead of null.
func (s *Snapshot) bound() {
	cut(&s.Warnings, "warnings", &s.Cut)
	cut(&s.Topics, "topics", &s.Cut)
	cut(&s.Groups, "groups", &s.Cut)
	cut(&s.Flows, "flows", &s.Cut)
	cut(&s.Plugins, "plugins", &s.Cut)
	cut(&s.Members, "members", &s.Cut)
	for i := range s.Topics {
		cut(&s.Topics[i].Partitions, "partitions of "+s.Topics[i].Name, &s.Cut)
	}
}

func cut[T any](rows *[]T, name string, names *[]string) {
	if *rows == nil {
		*rows = []T{}
	}
	if len(*rows) > MaxRows {
		*rows = (*rows)[:MaxRows]
		*names = append(*names, name)
	}
}
