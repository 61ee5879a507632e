package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaFlags is for commands that speak Kafka to a broker, this appliance or
// any other.
type kafkaFlags struct {
	Kafka []string `name:"kafka" placeholder:"HOST:PORT" default:"127.0.0.1:9092" env:"WEIR_KAFKA" help:"Kafka bootstrap address (${default})."`
}

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 30 * time.Second
)

// connect makes a client and makes sure that a broker answers: kgo alone would
// try for ever.
func (f kafkaFlags) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(f.Kafka...), kgo.ClientID("weir-cli"),
		kgo.RetryTimeout(requestTimeout), kgo.DialTimeout(connectTimeout),
	}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, failf(exitUsage, "%w", err)
	}
	pingCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := cl.Ping(pingCtx); err != nil {
		cl.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failf(exitUnreachable, "no Kafka broker answers at %v (%s): is weir serve running? give its address with --kafka HOST:PORT", f.Kafka, rootCause(err))
	}
	return cl, nil
}

// admin is connect for the commands that only administer.
func (f kafkaFlags) admin(ctx context.Context) (*kadm.Client, error) {
	cl, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

// refused is brokerError with the broker's own words, if it gave any.
func refused(doing, topic string, err error, message string) error {
	if err == nil || message == "" || errors.Is(err, kerr.UnknownTopicOrPartition) {
		return brokerError(doing, topic, err)
	}
	return failf(exitFailed, "%s '%s': %s", doing, topic, message)
}

// brokerError puts a broker's refusal about a thing into a sentence.
func brokerError(doing, thing string, err error) error {
	if err == nil {
		return nil
	}
	var ke *kerr.Error
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return failf(exitNotFound, "%s: topic '%s' does not exist: see weir topic list", doing, thing)
	case isNoSuchGroup(err):
		return noSuchGroup(doing, thing)
	case errors.Is(err, kerr.NonEmptyGroup), errors.Is(err, kerr.UnknownMemberID):
		return failf(exitFailed, "%s: group '%s' has members: stop its consumers first, weir group describe %s names them", doing, thing, thing)
	case errors.Is(err, kerr.TopicAlreadyExists):
		return failf(exitFailed, "%s: topic '%s' exists already", doing, thing)
	case errors.Is(err, kgo.ErrRecordTimeout):
		return failf(exitFailed, "%s '%s': the broker has taken nothing for %s; weir status says whether its disk is full or has failed", doing, thing, requestTimeout)
	case errors.As(err, &ke):
		return failf(exitFailed, "%s '%s': the broker says %s: %s", doing, thing, ke.Message, ke.Description)
	}
	return failf(exitFailed, "%s '%s': %w", doing, thing, err)
}

func isNoSuchGroup(err error) bool { return errors.Is(err, kerr.GroupIDNotFound) }
