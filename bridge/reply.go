package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/bridge/mqtt"
)

// Reply brings the answers to a downlink's records to Kafka.
//
// A device answers by publishing to the topic name that To makes of the record. It ends in
// the record's {id}, so a device of MQTT 3.1.1 finds it in the name of the topic by which
// the command came, and one of MQTT 5 finds the whole name as Response Topic. There is no
// table of open commands: the answer names the record, and what is to become of the answer
// is read in the record's headers again. So answers are matched as long as the record is in
// the log, by any start of the broker.
type Reply struct {
	// To is the MQTT topic name of answers, a template as Downlink.To. It ends in a level
	// of text and the level {id}: devices/{key}/reply/{id}. Empty: no answers are awaited.
	To string `yaml:"to"`
	// Topic is the Kafka topic of answers to records that name none in their header
	// kafka_replyTopic. Empty: they go by the routes.
	Topic string `yaml:"topic"`
	// Topics is names or globs (* any, ? one character) of the Kafka topics that records
	// may name. They must exist.
	Topics []string `yaml:"topics"`
	// Timeout is how old a record may be when its answer comes; 0: DefaultReplyTimeout.
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultReplyTimeout is how long an answer is awaited unless the downlink says.
const DefaultReplyTimeout = 24 * time.Hour

// Headers of records that are answers, beside those of any message.
const (
	// HeaderCommand names the record that is answered: topic-partition@offset.
	HeaderCommand = "mqtt.command"
	// HeaderReply says why an answer went by the routes: late, unmatched or refused.
	HeaderReply = "mqtt.reply"
)

// reply is a Reply made ready. What it is compared with comes from devices.
type reply struct {
	kafka   string // topic of the records
	to      *downlinkTemplate
	head    string // what To begins with
	near    string // the text before {id}
	topic   string
	topics  []string
	timeout time.Duration
	until   time.Time // when the last answer to a downlink that is no more may come
}

func newReply(d *Downlink) (*reply, error) {
	if d.Reply.To == "" {
		if d.Reply.Topic != "" || len(d.Reply.Topics) > 0 {
			return nil, fmt.Errorf("reply has no \"to\"; give the MQTT topic name of answers, such as devices/{key}/reply/{id}")
		}
		return nil, nil
	}
	to, err := parseDownlink("reply.to", d.Reply.To, d.Topic)
	if err != nil {
		return nil, err
	}
	r := &reply{kafka: d.Topic, to: to, topic: d.Reply.Topic, topics: d.Reply.Topics, timeout: d.Reply.Timeout}
	if n := len(to.pieces); n > 1 && to.pieces[n-1].id {
		r.near, r.head = to.pieces[n-2].text, to.pieces[0].text
	}
	ids := 0
	for _, p := range to.pieces {
		if p.id {
			ids++
		}
	}
	if ids != 1 || !strings.HasSuffix(r.near, "/") || strings.Trim(r.near, "/") == "" {
		return nil, fmt.Errorf("reply.to %q must end in a level of text and the level {id}, such as devices/{key}/reply/{id}, so that answers are told from other messages", d.Reply.To)
	}
	switch {
	case d.Retain:
		return nil, fmt.Errorf("has both retain and reply, but a retained message is sent to whoever comes, and is no command; remove one")
	case r.topic != "" && (!validTopic(r.topic) || internal(r.topic)):
		return nil, fmt.Errorf("reply.topic %q is no valid Kafka topic name for messages", r.topic)
	case r.timeout < 0:
		return nil, fmt.Errorf("reply.timeout is %v, it must not be negative", r.timeout)
	case r.timeout == 0:
		r.timeout = DefaultReplyTimeout
	}
	for _, glob := range r.topics {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return nil, fmt.Errorf("reply.topics: %q is neither a name nor a glob such as replies-*", glob)
		}
	}
	return r, nil
}

// id returns the last level of a topic name that may be one of r's.
func (r *reply) id(topic []byte) (id []byte, ok bool) {
	at := bytes.LastIndexByte(topic, '/') + 1
	return topic[at:], bytes.HasSuffix(topic[:at], []byte(r.near)) && bytes.HasPrefix(topic, []byte(r.head))
}

// allows reports whether records may name a Kafka topic for their answers.
func (r *reply) allows(topic string) bool {
	return validTopic(topic) && !internal(topic) && slices.ContainsFunc(r.topics, func(glob string) bool {
		ok, _ := path.Match(glob, topic)
		return ok
	})
}

// maxRetired is how many downlinks that are no more are remembered for answers on their way.
const maxRetired = 16

// replies matches answers with what they answer.
type replies struct {
	log   Log
	age   func(time.Time) time.Duration
	slog  *slog.Logger
	of    atomic.Pointer[[]*reply] // those of before behind those in force
	quiet atomic.Int64             // unix seconds until which nothing is logged again

	matched, late, unmatched, refused atomic.Uint64
}

// Answer has the router match devices' answers with the records in log. age is
// mqtt.Options.Age. Without it answers are messages as others.
func (r *Router) Answer(log Log, age func(time.Time) time.Duration, logger *slog.Logger) {
	if r.replies.log, r.replies.age, r.replies.slog = log, age, logger; age == nil {
		r.replies.age = time.Since
	}
	if logger == nil {
		r.replies.slog = slog.New(slog.DiscardHandler)
	}
}

// replace puts those of downlinks in force.
func (rs *replies) replace(downlinks []*downlink) {
	var now, old []*reply
	for _, d := range downlinks {
		if d.reply != nil {
			d.reply.until = time.Time{}
			now = append(now, d.reply)
		}
	}
	if before := rs.of.Load(); before != nil {
		for _, r := range *before {
			switch {
			case slices.Contains(now, r):
				continue
			case r.until.IsZero():
				gone := *r
				gone.until = time.Now().Add(r.timeout)
				r = &gone
			case time.Now().After(r.until):
				continue
			}
			old = append(old, r)
		}
	}
	now = append(now, old[:min(len(old), maxRetired)]...)
	rs.of.Store(&now)
}

// retire has answers to a downlink of before matched, too.
func (rs *replies) retire(r *reply) {
	now := *rs.of.Load()
	old := slices.IndexFunc(now, func(r *reply) bool { return !r.until.IsZero() })
	if old < 0 {
		old = len(now)
	}
	if r == nil || len(now)-old >= maxRetired {
		return
	}
	r.until = time.Now().Add(r.timeout)
	now = append(slices.Clone(now), r)
	rs.of.Store(&now)
}

// answer is what is known of a message on a topic of answers.
type answer struct {
	command record.Record
	at      record.TopicPartition
	reply   *reply
	problem string // why it goes by the routes; "": it does not
	detail  string // the same for the log
}

// find returns the answer that a message on topic is; ok is false when it is none.
func (rs *replies) find(topic []byte) (a answer, ok bool) {
	of := rs.of.Load()
	if of == nil || len(*of) == 0 || rs.log == nil {
		return a, false
	}
	for _, r := range *of {
		id, may := r.id(topic)
		if !may {
			continue
		}
		ok, a.problem, a.detail = true, "unmatched", "no command of "+r.kafka+" asked for an answer by this name"
		partition, offset, sound := parseID(id)
		if !sound {
			continue
		}
		a.at = record.TopicPartition{Topic: r.kafka, Partition: partition}
		found, err := rs.read(a.at, offset, &a.command)
		if err != nil && rs.mayLog() {
			rs.slog.Error("bridge: a command cannot be read for its answer", "topic", string(topic), "err", err)
		}
		if !found {
			continue
		}
		// The name is made anew, so that a device that may publish to names of its own
		// cannot answer for another.
		if name, err := r.to.append(nil, partition, &a.command); err != nil || !bytes.Equal(name, topic) {
			continue
		}
		if a.reply, a.problem = r, ""; rs.age(time.UnixMilli(a.command.Timestamp)) > r.timeout {
			a.problem, a.detail = "late", fmt.Sprintf("the command is older than reply.timeout (%v)", r.timeout)
		}
		return a, true
	}
	return a, ok
}

// read reads one record of the log, its headers in HeaderBlock.
func (rs *replies) read(tp record.TopicPartition, offset int64, out *record.Record) (bool, error) {
	start, end, err := rs.log.Offsets(tp)
	if errors.Is(err, record.ErrUnknownTopicOrPartition) || err == nil && (offset < start || offset >= end) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	bs, err := rs.log.Fetch(context.Background(), tp, offset, 1)
	if err != nil && !errors.Is(err, record.ErrOffsetOutOfRange) {
		return false, err
	}
	dec := record.Decoder{RawHeaders: true}
	for b := range bs.All() {
		if b.Control() || b.NextOffset() <= offset {
			continue
		}
		if err := dec.Reset(b); err != nil {
			return false, err
		}
		for {
			ok, err := dec.Next(out)
			if !ok || err != nil || out.Offset > offset { // or compacted away
				return false, err
			}
			if out.Offset == offset {
				return true, nil
			}
		}
	}
	return false, nil
}

// route appends the ways of an answer; done is false when it is to go by the routes, too.
func (rs *replies) route(a *answer, topic []byte, ways []mqtt.Route) (out []mqtt.Route, done bool) {
	if a.problem != "" {
		return ways, false
	}
	to, partition := a.reply.topic, int32(-1)
	if named, ok := mqtt.Header(a.command.HeaderBlock, mqtt.HeaderKafkaReplyTopic); ok {
		to = string(named)
		if p, ok := mqtt.Header(a.command.HeaderBlock, mqtt.HeaderKafkaReplyPartition); ok && len(p) == 4 {
			partition = int32(binary.BigEndian.Uint32(p))
		}
		if a.detail = rs.forbids(a.reply, record.TopicPartition{Topic: to, Partition: max(partition, 0)}); a.detail != "" {
			a.problem = "refused"
			return ways, false
		}
	}
	if to == "" {
		return ways, false
	}
	ways = another(ways)
	w := &ways[len(ways)-1]
	w.Topic, w.Partition = to, partition
	if w.Key = append(w.Key, a.command.Key...); len(w.Key) == 0 {
		w.Key = append(w.Key, topic...)
	}
	return ways, true
}

// forbids says why answers may not go to a partition that a record names; "": they may. It
// has to exist, in a topic that the downlink allows.
func (rs *replies) forbids(r *reply, tp record.TopicPartition) string {
	if !r.allows(tp.Topic) {
		return fmt.Sprintf("the command asks for the answer in the Kafka topic %.249q, which reply.topics does not allow", tp.Topic)
	}
	if _, _, err := rs.log.Offsets(tp); err != nil {
		return fmt.Sprintf("the command asks for the answer in %s, which does not exist", tp)
	}
	return ""
}

// mark gives an answer's records the headers by which it is matched.
func (rs *replies) mark(a *answer, topic []byte, ways []mqtt.Route) {
	switch a.problem {
	case "":
		rs.matched.Add(1)
	case "late":
		rs.late.Add(1)
	case "refused":
		rs.refused.Add(1)
	default:
		rs.unmatched.Add(1)
	}
	if a.problem != "" && rs.mayLog() {
		rs.slog.Warn("bridge: an answer of a device goes by the routes", "topic", string(topic), "outcome", a.problem, "cause", a.detail)
	}
	for i := range ways {
		w := &ways[i]
		if a.reply != nil {
			if id, ok := mqtt.Header(a.command.HeaderBlock, mqtt.HeaderKafkaCorrelation); ok {
				w.Headers = mqtt.AppendHeader(w.Headers, mqtt.HeaderKafkaCorrelation, id)
				w.Count++
			}
			w.Headers = mqtt.AppendHeader(w.Headers, HeaderCommand, fmt.Sprintf("%s@%d", a.at, a.command.Offset))
			w.Count++
		}
		if a.problem != "" {
			w.Headers = mqtt.AppendHeader(w.Headers, HeaderReply, a.problem)
			w.Count++
		}
	}
}

func (rs *replies) mayLog() bool {
	now, until := time.Now().Unix(), rs.quiet.Load()
	return now >= until && rs.quiet.CompareAndSwap(until, now+1)
}

// metrics writes the figures.
func (rs *replies) metrics(w *metric.Writer) {
	for _, c := range []struct {
		outcome string
		n       *atomic.Uint64
	}{{"matched", &rs.matched}, {"late", &rs.late}, {"unmatched", &rs.unmatched}, {"refused", &rs.refused}} {
		w.Counter("weir_mqtt_replies_total", "Answers of devices to records of downlinks, by what became of them; all but matched went by the routes.", float64(c.n.Load()), "outcome", c.outcome)
	}
}
