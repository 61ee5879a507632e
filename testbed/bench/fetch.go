package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/appliance/commitlog"
	"github.com/weirmq/weir/appliance/record"
	"github.com/weirmq/weir/appliance/topic"
)

const fetchBytes = 1 << 20 // max.partition.fetch.bytes

// catchUp is a consumer that reads a partition from its start, against the same
// file copied to a socket.
func catchUp(o options, t *table) error {
	set, dir, err := open(o, "fetch")
	if err != nil {
		return err
	}
	defer discard(set, dir)
	made, err := set.Create(topicName, topic.Spec{})
	if err != nil {
		return err
	}
	b, err := fullBatch()
	if err != nil {
		return err
	}
	p := made.Partitions()[0]
	if err := produce(made.Partitions(), b, 4*o.bytes/len(b), writers, deepFlight); err != nil {
		return err
	}
	if err := set.Checkpoint(); err != nil {
		return err
	}
	segment := filepath.Join(dir, "topics", p.TopicPartition().String(), commitlog.FileName(0))
	weir := side{"Weir", func() ([]float64, error) {
		return overLoopback(func(c *net.TCPConn) error { return fetchAll(p, b, c) })
	}}
	cat := side{"cat", func() ([]float64, error) {
		return overLoopback(func(c *net.TCPConn) error { return runCat(segment, c) })
	}}
	sendfile := side{"sendfile of the file", func() ([]float64, error) {
		return overLoopback(func(c *net.TCPConn) error { return copyFile(segment, c) })
	}}
	if err := t.compare(o.pairs, []measure{{"catch-up Fetch of 1 MiB each", ">= 0.8", "MiB/s"}}, weir, cat); err != nil {
		return err
	}
	return t.compare(o.pairs, []measure{{"the same against sendfile", "", "MiB/s"}}, weir, sendfile)
}

// fetchAll reads as a consumer does that asks for the offset after what it got.
// All batches are as long as b.
func fetchAll(p *topic.Partition, b record.Batch, c *net.TCPConn) error {
	for offset := int64(0); offset < p.HighWatermark(); {
		section, err := p.Read(offset, fetchBytes)
		if err != nil {
			return err
		}
		n, err := section.WriteTo(c)
		if err := errors.Join(err, section.Close()); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("nothing at offset %d", offset)
		}
		offset += n / int64(len(b)) * int64(b.Count())
	}
	return nil
}

// runCat is cat file > socket.
func runCat(name string, c *net.TCPConn) error {
	socket, err := c.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	cat := exec.Command("cat", name)
	cat.Stdout, cat.Stderr = socket, os.Stderr
	return cat.Run()
}

// copyFile leaves the copying to the kernel: io.Copy of a file to a socket is a
// sendfile, as a Fetch is, in calls of 4 MiB.
func copyFile(name string, c *net.TCPConn) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(c, f)
	return err
}

// overLoopback sends to a reader that discards, and says how fast the reader got
// all of it, in MiB/s.
func overLoopback(send func(*net.TCPConn) error) ([]float64, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	sent := make(chan error, 1)
	start := time.Now()
	go func() {
		c := out.(*net.TCPConn)
		sent <- errors.Join(send(c), c.CloseWrite())
	}()
	got, err := discardAll(in)
	rate := mib(got, start)
	return []float64{rate}, errors.Join(err, <-sent)
}

func discardAll(r io.Reader) (n int, err error) {
	buf := make([]byte, 256<<10)
	for {
		k, err := r.Read(buf)
		n += k
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
