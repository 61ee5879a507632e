package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaFlags is for commands that speak Kafka to a broker, this appliance or
// any other.
type kafkaFlags struct {
	Kafka []string `name:"kafka" placeholder:"HOST:PORT" env:"WEIR_KAFKA" help:"Kafka bootstrap address (127.0.0.1:9092)."`
	clientFlags
}

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 30 * time.Second
)

// connect makes a client and makes sure that a broker answers: kgo alone would
// try for ever.
func (f kafkaFlags) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	props, err := f.properties()
	if err != nil {
		return nil, err
	}
	seeds := props.seeds(f.Kafka)
	login, err := props.options()
	if err != nil {
		return nil, failf(exitUsage, "%w", err)
	}
	opts = append(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID("weir-cli"),
		kgo.RetryTimeout(requestTimeout), kgo.DialTimeout(connectTimeout),
	}, login...), opts...)
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
		return nil, unreachable(seeds, err)
	}
	return cl, nil
}

// unreachable says why there is no broker to talk to, as far as can be told.
func unreachable(seeds []string, err error) error {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		text := err.Error() // the broker's own words, which kgo puts behind the code's
		if at := strings.LastIndex(text, kerr.SaslAuthenticationFailed.Description+": "); at >= 0 {
			text = text[at+len(kerr.SaslAuthenticationFailed.Description+": "):]
		}
		return failf(exitFailed, "%s does not let this client in: %s; see --client", strings.Join(seeds, ","), text)
	case errors.As(err, &cert):
		return failf(exitFailed, "%s shows a certificate that is not trusted here: %w; name its authority with ssl.ca.location in --client", strings.Join(seeds, ","), cert.Err)
	case errors.As(err, &record):
		return failf(exitFailed, "%s does not speak TLS: leave security.protocol out, or give its TLS address", strings.Join(seeds, ","))
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return failf(exitUnreachable, "%s closes the connection: does it want TLS or a login? give both with --client FILE, see weir init", strings.Join(seeds, ","))
	}
	return failf(exitUnreachable, "no Kafka broker answers at %s (%s): is weir serve running? give its address with --kafka HOST:PORT", strings.Join(seeds, ","), rootCause(err))
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
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return failf(exitFailed, "%s '%s': not allowed: an administrator can allow it with weir acl add", doing, thing)
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
