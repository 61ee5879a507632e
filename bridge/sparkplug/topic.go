package sparkplug

import "bytes"

// prefix is the namespace of Sparkplug B, which the specification fixes
// [tck-id-topic-structure-namespace-a].
const prefix = "spBv1.0/"

// Kind is what a message of an edge node says.
type Kind byte

// The kinds that change or need what is known of an edge node. Commands (NCMD, DCMD)
// and the STATE of host applications do neither.
const (
	NBIRTH Kind = iota + 1
	NDEATH
	NDATA
	DBIRTH
	DDEATH
	DDATA
)

var kinds = map[string]Kind{"NBIRTH": NBIRTH, "NDEATH": NDEATH, "NDATA": NDATA, "DBIRTH": DBIRTH, "DDEATH": DDEATH, "DDATA": DDATA}

// Topic is an MQTT topic spBv1.0/GROUP/TYPE/NODE[/DEVICE] in its parts.
type Topic struct {
	Group, Node []byte
	Device      []byte // of DBIRTH, DDEATH and DDATA
	Kind        Kind
}

// Owns reports whether a topic is in the namespace of Sparkplug B.
func Owns(topic []byte) bool {
	return len(topic) >= len(prefix) && string(topic[:len(prefix)]) == prefix
}

// ParseTopic splits a topic; ok is false unless it is one of an edge node's messages.
// The parts are views into topic.
func ParseTopic(topic []byte) (t Topic, ok bool) {
	if !Owns(topic) {
		return t, false
	}
	var kind []byte
	var more bool
	t.Group, topic, _ = bytes.Cut(topic[len(prefix):], slash)
	kind, topic, _ = bytes.Cut(topic, slash)
	t.Node, t.Device, more = bytes.Cut(topic, slash)
	t.Kind = kinds[string(kind)]
	ofDevice := t.Kind >= DBIRTH
	if t.Kind == 0 || len(t.Group) == 0 || len(t.Node) == 0 || more != ofDevice || ofDevice && len(t.Device) == 0 || bytes.IndexByte(t.Device, '/') >= 0 {
		return Topic{}, false
	}
	return t, true
}

var slash = []byte{'/'}

// Command is the topic of commands to an edge node.
func Command(group, node string) string { return prefix + group + "/NCMD/" + node }
