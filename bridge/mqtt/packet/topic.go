package packet

import "bytes"

// CheckTopic reports a topic name that may not be published to. That it is
// well-formed UTF-8 has been checked when it was decoded.
func CheckTopic[S ~string | ~[]byte](topic S) error {
	if len(topic) == 0 {
		return &Error{Reason: TopicNameInvalid, Clause: "MQTT-4.7.3-1", Text: "empty topic name"}
	}
	for i := range len(topic) {
		switch topic[i] {
		case '+', '#':
			return &Error{Reason: TopicNameInvalid, Clause: "MQTT-3.3.2-2", Text: "topic name holds a wildcard"}
		case 0:
			return &Error{Reason: TopicNameInvalid, Clause: "MQTT-4.7.3-2", Text: "topic name holds the character U+0000"}
		}
	}
	return nil
}

// CheckFilter reports a topic filter that breaks the rules of wildcards.
func CheckFilter[S ~string | ~[]byte](filter S) error {
	if len(filter) == 0 {
		return &Error{Reason: TopicFilterInvalid, Clause: "MQTT-4.7.3-1", Text: "empty topic filter"}
	}
	for i := range len(filter) {
		alone := (i == 0 || filter[i-1] == '/') && (i+1 == len(filter) || filter[i+1] == '/')
		switch c := filter[i]; {
		case c == '#' && (!alone || i+1 != len(filter)):
			return &Error{Reason: TopicFilterInvalid, Clause: "MQTT-4.7.1-1", Text: "# must be the last level of a topic filter, alone"}
		case c == '+' && !alone:
			return &Error{Reason: TopicFilterInvalid, Clause: "MQTT-4.7.1-2", Text: "+ must be a whole level of a topic filter"}
		case c == 0:
			return &Error{Reason: TopicFilterInvalid, Clause: "MQTT-4.7.3-2", Text: "topic filter holds the character U+0000"}
		}
	}
	return nil
}

// Depth is the number of levels of a topic name or filter.
func Depth(topic []byte) int { return bytes.Count(topic, []byte{'/'}) + 1 }

// Match reports whether a valid topic filter matches a valid topic name. A filter
// that starts with a wildcard does not match a name that starts with $ [MQTT-4.7.2-1].
func Match(filter string, topic []byte) bool {
	if len(topic) > 0 && topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	i := 0 // in topic; len(topic)+1 once its last level is used up
	for f := 0; ; {
		end := f
		for end < len(filter) && filter[end] != '/' {
			end++
		}
		level := filter[f:end]
		if level == "#" {
			return true // also the parent level: i may be past the end
		}
		if i > len(topic) {
			return false
		}
		stop := i
		for stop < len(topic) && topic[stop] != '/' {
			stop++
		}
		if level != "+" && level != string(topic[i:stop]) {
			return false
		}
		i, f = stop+1, end+1
		if f > len(filter) {
			return i > len(topic)
		}
	}
}
