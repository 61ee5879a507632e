package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ceiling is a broker that does nothing a broker is for: it checks no batch, syncs no
// disk, and keeps what is produced in memory, or in files that nobody reads, or not at
// all. What a client reaches with it is the most that it would reach with any broker
// beside it on this machine.
type ceiling struct {
	ln         net.Listener
	keeps      bool   // what is produced can be fetched
	dir        string // of the files; "" is without
	partitions int32  // of every topic
	mu         sync.Mutex
	parts      map[shelfName]*shelf
}

type shelfName struct {
	topic     string
	partition int32
}

// shelf is a partition: whole batches, one after another.
type shelf struct {
	mu      sync.Mutex
	batches []kept
	end     int64
	grown   chan struct{} // closed by the next append
	file    *os.File      // of the partition in the newest topic; nil is without
	size    int64
}

type kept struct {
	next  int64 // the offset after the batch
	bytes []byte
}

func newCeiling(keeps bool, dir string, partitions int32) (*ceiling, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &ceiling{ln: ln, keeps: keeps, dir: dir, partitions: partitions, parts: map[shelfName]*shelf{}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = c.serve(conn) // how it ends is the client's affair
			}()
		}
	}()
	return c, nil
}

func (c *ceiling) addr() string { return c.ln.Addr().String() }

// maxCeilingFrame is far more than a client sends at once by its defaults.
const maxCeilingFrame = 64 << 20

func (c *ceiling) serve(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	var frame, out []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > maxCeilingFrame {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		frame = slices.Grow(frame[:0], n)[:n]
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		var err error
		if out, err = c.answer(out[:0], frame); err != nil {
			return err
		}
		if len(out) == 0 {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
}

// answer appends the answer to a frame, with its length.
func (c *ceiling) answer(out, frame []byte) ([]byte, error) {
	b := kbin.Reader{Src: frame}
	key, version, correlation := b.Int16(), b.Int16(), b.Int32()
	b.NullableString()
	req := kmsg.RequestForKey(key)
	if req == nil || !b.Ok() {
		return nil, fmt.Errorf("a request of kind %d", key)
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		kmsg.SkipTags(&b)
	}
	if err := req.ReadFrom(b.Src); err != nil {
		return nil, err
	}
	resp, err := c.respond(req)
	if err != nil || resp == nil {
		return out, err
	}
	resp.SetVersion(version)
	out = binary.BigEndian.AppendUint32(append(out, 0, 0, 0, 0), uint32(correlation))
	if resp.IsFlexible() && key != int16(kmsg.ApiVersions) {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

func (c *ceiling) shelf(topic string, partition int32) *shelf {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := shelfName{topic, partition}
	s := c.parts[name]
	if s == nil {
		s = &shelf{grown: make(chan struct{})}
		if c.dir != "" {
			// What an older topic had there is gone, as if it had been deleted.
			s.file, _ = os.Create(filepath.Join(c.dir, fmt.Sprint("nothing-", partition)))
		}
		c.parts[name] = s
	}
	return s
}

// put takes batches whose buffer is the caller's and returns the first offset.
func (s *shelf) put(batches []byte, keeps bool) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := s.end
	if s.file != nil {
		n, _ := s.file.WriteAt(batches, s.size)
		s.size += int64(n)
	}
	for len(batches) >= 61 {
		n := 12 + int(binary.BigEndian.Uint32(batches[8:]))
		next := s.end + int64(binary.BigEndian.Uint32(batches[23:])) + 1 // lastOffsetDelta
		if keeps {
			b := slices.Clone(batches[:n])
			binary.BigEndian.PutUint64(b, uint64(s.end))
			s.batches = append(s.batches, kept{next, b})
		}
		s.end, batches = next, batches[n:]
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return base
}

// get returns whole batches from the offset on, at least one if there is any, and
// what is closed when there is more.
func (s *shelf) get(from int64, most int) (batches []byte, end int64, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.batches, from+1, func(k kept, next int64) int { return int(k.next - next) })
	for _, k := range s.batches[i:] {
		if batches != nil && len(batches)+len(k.bytes) > most {
			break
		}
		if batches == nil {
			batches = make([]byte, 0, min(most, 1<<20))
		}
		batches = append(batches, k.bytes...)
	}
	return batches, s.end, s.grown
}

// fetch waits like a broker: until there is a byte, or the time is over.
func (c *ceiling) fetch(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	over := time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
	defer over.Stop()
	for {
		resp := kmsg.NewPtrFetchResponse()
		var grown []<-chan struct{}
		left := int(req.MaxBytes)
		for _, t := range req.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition = p.Partition
				var more <-chan struct{}
				s := c.shelf(t.Topic, p.Partition)
				rp.RecordBatches, rp.HighWatermark, more = s.get(p.FetchOffset, min(left, int(p.PartitionMaxBytes)))
				rp.LastStableOffset, rp.LogStartOffset = rp.HighWatermark, 0
				left -= len(rp.RecordBatches)
				grown = append(grown, more)
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		if left < int(req.MaxBytes) || !await(grown, over.C) {
			return resp
		}
	}
}

// await says whether one of the partitions has grown before the time was over. It
// looks at four at the most, as many as the rows have.
func await(grown []<-chan struct{}, over <-chan time.Time) bool {
	var four [4]<-chan struct{}
	copy(four[:], grown)
	select {
	case <-four[0]:
	case <-four[1]:
	case <-four[2]:
	case <-four[3]:
	case <-over:
		return false
	}
	return true
}
