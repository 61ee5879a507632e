package compat_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// Kafka Streams counts words exactly once, although it is killed while it does so.
func TestStreamsCountWordsExactlyOnce(t *testing.T) {
	t.Parallel()
	s := startWeir(t, "")
	makeTopic(t, s, "words", 2)
	makeTopic(t, s, "counts", 1)
	d := compat.Java(t, compat.JavaVersions[len(compat.JavaVersions)-1], "WordCount")
	run := func(number int) *member {
		seen := &collector{lines: map[string]int{}}
		m := start(t, d, []string{"BOOTSTRAP=" + s.Addresses().Kafka}, seen, number, "word-count", "words", "counts", filepath.Join(t.TempDir(), "state"))
		seen.waitFor(t, "RUNNING")
		return m
	}
	said := newSpeech(t, s)
	counts := readCounts(t, s)
	first := run(0)
	said.speak(t, 50)
	counts.wait(t, map[string]int{"round": 1}) // it has begun, and is not done
	first.kill()
	said.speak(t, 50)
	second := run(1)
	said.speak(t, 50)
	counts.wait(t, said.words)
	second.leave(t)
	counts.compare(t, said.words)
}

// speech is what was said, by words.
type speech struct {
	cl    *kgo.Client
	words map[string]int
}

func newSpeech(t *testing.T, s *site.Site) *speech {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.DefaultProduceTopic("words"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &speech{cl, map[string]int{}}
}

func (sp *speech) speak(t *testing.T, lines int) {
	t.Helper()
	for i := range lines {
		words := []string{"round", fmt.Sprint("word", i%7), fmt.Sprint("word", i%3)}
		for _, w := range words {
			sp.words[w]++
		}
		line := fmt.Sprintf("%s %s, %s", words[0], words[1], words[2])
		if err := sp.cl.ProduceSync(t.Context(), &kgo.Record{Key: fmt.Append(nil, i), Value: []byte(line)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// counted follows the topic with the counts, as one who reads committed records.
type counted struct {
	cl     *kgo.Client
	latest map[string]int
}

func readCounts(t *testing.T, s *site.Site) *counted {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addresses().Kafka), kgo.ConsumeTopics("counts"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &counted{cl, map[string]int{}}
}

// wait reads until every word has been counted so often at the least. A count never
// goes back: that would be a word whose state was lost.
func (c *counted) wait(t *testing.T, want map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !c.reached(want) {
		fetches := c.cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("counted are %v, said were %v: %v", c.latest, want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil || n < c.latest[string(r.Key)] {
				t.Errorf("%s is counted %s times after %d", r.Key, r.Value, c.latest[string(r.Key)])
			}
			c.latest[string(r.Key)] = n
		})
	}
}

func (c *counted) reached(want map[string]int) bool {
	for word, n := range want {
		if c.latest[word] < n {
			return false
		}
	}
	return true
}

func (c *counted) compare(t *testing.T, want map[string]int) {
	t.Helper()
	if !maps.Equal(c.latest, want) {
		t.Errorf("counted are %v, said were %v", c.latest, want)
	}
}
