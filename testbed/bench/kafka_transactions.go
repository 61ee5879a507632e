package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	transactionRecords = 100
	transactionBytes   = 200 // of a record
	// transactionRuns is how many transactions one run commits, of all producers together.
	transactionRuns = 800
)

// kafkaTransactions is producers that commit a transaction for each 100 records, one
// after another; franz-go is the client of both.
func kafkaTransactions(o options, t *table) error {
	return withPeers(o, t, "kafka-transactions", func(p *peers) error {
		for _, producers := range []int{1, 8} {
			name := fmt.Sprintf("franz-go, a transaction for each %d records of %d B, %s", transactionRecords, transactionBytes, count(producers, "producer"))
			measures := []measure{{name, "", "records/s"}, {name + ", p99 of the commit", "", "ms"}, {name + ", the broker's CPU", "", "µs/record"}}
			if err := p.compare(o, t, measures, func(at *peer) ([]float64, error) {
				return p.withTopic(at, loadPartitions, func(topic string) ([]float64, error) {
					n := transactionRuns / producers * producers * transactionRecords
					return at.costing(n, func() ([]float64, error) { return transact(at.addr, topic, producers) })
				})
			}); err != nil {
				return err
			}
		}
		return p.resident(t, "the transactions")
	})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// transact returns records/s and the p99 of the time that a commit takes, in ms.
func transact(addr, topic string, producers int) ([]float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientLimit)
	defer cancel()
	clients := make([]*kgo.Client, producers)
	for i := range clients {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(fmt.Sprintf("%s-%d", topic, i)),
			kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			return nil, err
		}
		defer cl.Close()
		clients[i] = cl
		if _, err := commitOne(ctx, cl); err != nil { // the producer's id, and the first use of all else
			return nil, err
		}
	}
	took := make([][]time.Duration, producers)
	var g errgroup.Group
	start := time.Now()
	for i, cl := range clients {
		g.Go(func() error {
			for range transactionRuns / producers {
				d, err := commitOne(ctx, cl)
				if err != nil {
					return err
				}
				took[i] = append(took[i], d)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all, elapsed := slices.Concat(took...), time.Since(start)
	slices.Sort(all)
	rate := float64(len(all)*transactionRecords) / elapsed.Seconds()
	return []float64{rate, float64(all[len(all)*99/100].Microseconds()) / 1000}, nil
}

// commitOne writes one transaction and returns how long its commit took, once all
// records were acknowledged.
func commitOne(ctx context.Context, cl *kgo.Client) (time.Duration, error) {
	if err := cl.BeginTransaction(); err != nil {
		return 0, err
	}
	records := make([]*kgo.Record, transactionRecords)
	for i := range records {
		records[i] = &kgo.Record{Value: make([]byte, transactionBytes)}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return 0, err
	}
	start := time.Now()
	err := cl.EndTransaction(ctx, kgo.TryCommit)
	return time.Since(start), err
}
