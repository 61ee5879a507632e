package mqtt

import (
	"encoding/binary"
	"strconv"

	"github.com/weirmq/weir/bridge/mqtt/packet"
)

// Header names that a message has as a record. The other headers are the user
// properties; one whose name begins with "mqtt." is stored behind userPrefix, so
// that no device can forge the names here.
const (
	HeaderTopic  = "mqtt.topic"
	HeaderQoS    = "mqtt.qos"
	HeaderRetain = "mqtt.retain"
	HeaderClient = "mqtt.client"

	// HeaderCopy marks the further records of a message that several routes stored: MQTT
	// subscribers get the first one alone.
	HeaderCopy = "mqtt.copy"

	headerFormat      = "mqtt.payload-format"
	headerExpiry      = "mqtt.message-expiry" // seconds from the record's timestamp
	headerContentType = "mqtt.content-type"
	headerResponse    = "mqtt.response-topic"
	headerCorrelation = "mqtt.correlation-data"

	// Names by which Kafka's clients ask for a reply (as Spring's ReplyingKafkaTemplate does).
	HeaderKafkaCorrelation    = "kafka_correlationId"
	HeaderKafkaReplyTopic     = "kafka_replyTopic"
	HeaderKafkaReplyPartition = "kafka_replyPartition" // 4 bytes, big-endian

	// lostProperty is the user property of the first message after a gap: topic,
	// partition, first and last offset that retention has removed.
	lostProperty = "weir-lost"

	headerPrefix = "mqtt."
	userPrefix   = "mqtt.user."
)

// AppendHeader appends one record header as it stands in a record batch.
func AppendHeader[K, V ~string | ~[]byte](dst []byte, key K, value V) []byte {
	dst = binary.AppendVarint(dst, int64(len(key)))
	dst = append(dst, key...)
	dst = binary.AppendVarint(dst, int64(len(value)))
	return append(dst, value...)
}

var digits = [...]string{"0", "1", "2"}

// appendHeaderBlock encodes the headers of a published message, count first.
func appendHeaderBlock(dst []byte, p *packet.Publish, topic []byte, client string, r *Route) []byte {
	retain := "false"
	if p.Retain {
		retain = "true"
	}
	count := 4 + r.Count + propertyHeaders(&p.Props)
	if r.copy {
		count++
	}
	dst = binary.AppendVarint(dst, int64(count))
	dst = AppendHeader(dst, HeaderTopic, topic)
	dst = AppendHeader(dst, HeaderQoS, digits[p.QoS])
	dst = AppendHeader(dst, HeaderRetain, retain)
	dst = AppendHeader(dst, HeaderClient, client)
	if r.copy {
		dst = AppendHeader(dst, HeaderCopy, "true")
	}
	dst = appendProperties(dst, &p.Props)
	return append(dst, r.Headers...)
}

var byteHeaders = [...]struct {
	prop packet.Property
	name string
}{
	{packet.ContentType, headerContentType},
	{packet.ResponseTopic, headerResponse},
	{packet.CorrelationData, headerCorrelation},
}

var uintHeaders = [...]struct {
	prop packet.Property
	name string
}{
	{packet.PayloadFormat, headerFormat},
	{packet.MessageExpiry, headerExpiry},
}

func propertyHeaders(p *packet.Properties) int {
	n := len(p.User)
	for _, h := range byteHeaders {
		if _, ok := p.Bytes(h.prop); ok {
			n++
		}
	}
	for _, h := range uintHeaders {
		if _, ok := p.Uint(h.prop); ok {
			n++
		}
	}
	return n
}

func appendProperties(dst []byte, p *packet.Properties) []byte {
	for _, h := range byteHeaders {
		if v, ok := p.Bytes(h.prop); ok {
			dst = AppendHeader(dst, h.name, v)
		}
	}
	var num [10]byte
	for _, h := range uintHeaders {
		if v, ok := p.Uint(h.prop); ok {
			dst = AppendHeader(dst, h.name, strconv.AppendUint(num[:0], uint64(v), 10))
		}
	}
	for _, u := range p.User {
		if !hasPrefix(u.Name, headerPrefix) {
			dst = AppendHeader(dst, u.Name, u.Value)
			continue
		}
		dst = binary.AppendVarint(dst, int64(len(userPrefix)+len(u.Name)))
		dst = append(append(dst, userPrefix...), u.Name...)
		dst = binary.AppendVarint(dst, int64(len(u.Value)))
		dst = append(dst, u.Value...)
	}
	return dst
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// headers walks an encoded header block without allocating, as far as it is intact.
func headers(block []byte, yield func(key, value []byte) bool) {
	count, n := binary.Varint(block)
	if n <= 0 {
		return
	}
	for rest := block[n:]; count > 0; count-- {
		var key, value []byte
		var ok bool
		if key, rest, ok = varBytes(rest); !ok {
			return
		}
		if value, rest, ok = varBytes(rest); !ok || !yield(key, value) {
			return
		}
	}
}

// Header returns the first header of a name in an encoded block.
func Header(block []byte, name string) (value []byte, ok bool) {
	headers(block, func(k, v []byte) bool {
		if string(k) != name {
			return true
		}
		value, ok = v, true
		return false
	})
	return value, ok
}

func varBytes(src []byte) (value, rest []byte, ok bool) {
	size, n := binary.Varint(src)
	if n <= 0 || size < -1 || size > int64(len(src)-n) {
		return nil, nil, false
	}
	if src = src[n:]; size == -1 {
		return nil, src, true
	}
	return src[:size:size], src[size:], true
}

// withHeader returns a copy of block with one more header.
func withHeader(block []byte, key string, value []byte) []byte {
	count, n := binary.Varint(block)
	if n <= 0 {
		count, n = 0, len(block)
	}
	out := make([]byte, 0, len(block)+len(key)+len(value)+12)
	out = append(binary.AppendVarint(out, count+1), block[n:]...)
	return AppendHeader(out, key, value)
}
