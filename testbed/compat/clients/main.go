// Command clients drives the Kafka clients that are written in Go, each as its
// users do; README.md says what the verbs are. It is a module of its own, so that
// they are no dependency of the product.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

const (
	limit          = time.Minute // for a verb other than consume
	sessionTimeout = 6 * time.Second
	heartbeat      = 500 * time.Millisecond
	perTransaction = 10
)

// client is what a library has to do.
type client interface {
	produce(ctx context.Context, topic, codec string, values []string) error
	// consume calls seen with each value until ctx ends, then commits and leaves.
	consume(ctx context.Context, group, topic string, seen func(value string)) error
	transact(ctx context.Context, topic, id string) error
	admin(ctx context.Context, topic string) error
}

var libraries = map[string]struct {
	client client
	module string
}{
	"franz-go": {franz{}, "github.com/twmb/franz-go"},
	"sarama":   {saramaClient{}, "github.com/IBM/sarama"},
	"kafka-go": {kafkaGo{}, "github.com/segmentio/kafka-go"},
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(library, verb string, args []string) error {
	l, ok := libraries[library]
	if !ok {
		return fmt.Errorf("no library %s", library)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch verb {
	case "version":
		fmt.Println(library, moduleVersion(l.module))
		return nil
	case "produce":
		count, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		for _, codec := range args[2:] {
			if err := l.client.produce(ctx, args[0]+"-"+codec, codec, numbered(codec+"-%05d", count)); err != nil {
				return fmt.Errorf("%s: %w", codec, err)
			}
		}
		return nil
	case "consume":
		return consume(l.client, args[0], args[1])
	case "transact":
		return l.client.transact(ctx, args[0], args[1])
	case "admin":
		return l.client.admin(ctx, args[0])
	}
	return fmt.Errorf("no verb %s", verb)
}

// consume prints values until stdin ends.
func consume(c client, group, topic string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	return c.consume(ctx, group, topic, func(value string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(out, value)
		out.Flush()
	})
}

func numbered(format string, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf(format, i)
	}
	return values
}

func moduleVersion(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version[1:]
		}
	}
	return "unknown"
}

func bootstrap() string { return os.Getenv("BOOTSTRAP") }

func readCommitted() bool { return os.Getenv("ISOLATION") == "read_committed" }

// security is what the environment asks for; nil is plain text.
type security struct {
	mechanism, user, password string
	tls                       *tls.Config
}

func securityOf() *security {
	mechanism := os.Getenv("SASL_MECHANISM")
	if mechanism == "" {
		return nil
	}
	pem, err := os.ReadFile(os.Getenv("CA_FILE"))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		panic(fmt.Sprintf("CA_FILE %s holds no certificate: %v", os.Getenv("CA_FILE"), err))
	}
	return &security{mechanism, os.Getenv("SASL_USERNAME"), os.Getenv("SASL_PASSWORD"), &tls.Config{RootCAs: roots}}
}
