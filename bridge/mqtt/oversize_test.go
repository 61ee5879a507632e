package mqtt_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/bridge"
)

// smallTopics makes Kafka topics that take batches of 2,000 bytes.
func (b *box) smallTopics(names ...string) {
	b.t.Helper()
	for _, name := range names {
		if _, err := b.set.Ensure(name, topic.Spec{Configs: map[string]string{"max.message.bytes": "2000"}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// What is too large for its Kafka topic is refused alone, and many small messages are no
// large one: they are parted into batches that the topic takes.
func TestOversizeAlone(t *testing.T) {
	for name, routes := range map[string][]bridge.Route{
		"one way":     nil,
		"two ways":    {{Filter: "#", Topic: "mqtt", Continue: true}, {Filter: "#", Topic: "copy"}},
		"one of both": {{Filter: "#", Topic: "large", Continue: true}, {Filter: "#", Topic: "mqtt"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.routes = routes
			b.openLog()
			b.smallTopics("mqtt", "copy")
			b.serve()
			defer b.stop()
			for _, make := range []func(id uint16, size int) []byte{
				func(id uint16, size int) []byte { return publish(v5, id, "t", strings.Repeat("x", size)) },
				func(id uint16, size int) []byte { return publish2(v5, id, "t", strings.Repeat("x", size)) },
			} {
				c := b.client(v5, "c")
				var all []byte
				for i := range 40 {
					size := 1 + 17*i
					if i == 20 {
						size = 2000
					}
					all = append(all, make(uint16(i+1), size)...)
				}
				c.send(all)
				for i := range 40 {
					want := fmt.Sprintf("#%d", i+1)
					if i == 20 {
						want += " 83"
					}
					if _, got, _ := strings.Cut(c.next(), " "); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				}
			}
			if n := len(b.records("mqtt")); n != 78 {
				t.Errorf("%d records, want 78", n)
			}
		})
	}
}
