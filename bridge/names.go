package bridge

import (
	"fmt"
	"strings"
	"sync"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

const maxTopicLen = 249

func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxTopicLen {
		return false
	}
	for i := range len(name) {
		if !topicChar(name[i]) {
			return false
		}
	}
	return true
}

func topicChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// internal reports whether a name is one of the broker's own.
func internal(name string) bool { return strings.HasPrefix(name, "__") }

// nameCache keeps the Kafka topic names that a route has made, so that making one
// again costs no memory.
type nameCache struct {
	mu    sync.RWMutex
	names map[string]string // by what the template made
}

// maxNames bounds a cache; a route that makes more names pays for each.
const maxNames = 10_000

func (n *nameCache) get(raw []byte) (string, error) {
	n.mu.RLock()
	name, ok := n.names[string(raw)]
	n.mu.RUnlock()
	if ok {
		return name, nil
	}
	name = sanitise(raw)
	if !validTopic(name) || internal(name) {
		return "", &packet.Error{Reason: packet.TopicNameInvalid, Text: fmt.Sprintf("the route makes of this topic the Kafka topic name %.260q, which is not allowed", name)}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.names) < maxNames {
		n.names[string(raw)] = name
	}
	return name, nil
}

// sanitise replaces what Kafka does not allow in a topic name. Two MQTT topics may
// so share a Kafka topic; the header mqtt.topic keeps them apart.
func sanitise(raw []byte) string {
	name := append([]byte(nil), raw...)
	for i, c := range name {
		if !topicChar(c) {
			name[i] = '_'
		}
	}
	return string(name)
}
