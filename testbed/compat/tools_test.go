package compat_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/testbed/compat"
	"github.com/weirmq/weir/testbed/site"
)

// step is one call of one of the distribution's command line tools.
type step struct {
	tool  string // as the distribution's script is called
	args  string // {broker} is Weir's address, {dir} a folder
	stdin string
	want  string // a regular expression of its output
}

// toolClasses are what the scripts start; the second name where the newer release has another.
var toolClasses = map[string][]string{
	"kafka-topics":              {"org.apache.kafka.tools.TopicCommand"},
	"kafka-configs":             {"kafka.admin.ConfigCommand"},
	"kafka-get-offsets":         {"org.apache.kafka.tools.GetOffsetShell"},
	"kafka-consumer-groups":     {"org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"},
	"kafka-console-producer":    {"kafka.tools.ConsoleProducer", "org.apache.kafka.tools.ConsoleProducer"},
	"kafka-console-consumer":    {"org.apache.kafka.tools.consumer.ConsoleConsumer"},
	"kafka-verifiable-producer": {"org.apache.kafka.tools.VerifiableProducer"},
	"kafka-verifiable-consumer": {"org.apache.kafka.tools.VerifiableConsumer"},
	"kafka-producer-perf-test":  {"org.apache.kafka.tools.ProducerPerformance"},
	"kafka-consumer-perf-test":  {"org.apache.kafka.tools.ConsumerPerformance"},
	"kafka-delete-records":      {"org.apache.kafka.tools.DeleteRecordsCommand"},
	"kafka-leader-election":     {"org.apache.kafka.tools.LeaderElectionCommand"},
	"kafka-log-dirs":            {"org.apache.kafka.tools.LogDirsCommand"},
	"kafka-broker-api-versions": {"kafka.admin.BrokerApiVersionsCommand", "org.apache.kafka.tools.BrokerApiVersionsCommand"},
	"kafka-cluster":             {"org.apache.kafka.tools.ClusterTool"},
	"kafka-transactions":        {"org.apache.kafka.tools.TransactionsCommand"},
	"kafka-acls":                {"kafka.admin.AclCommand", "org.apache.kafka.tools.AclCommand"},
}

// toolSteps are a day of an administrator, in order.
var toolSteps = []step{
	{"kafka-broker-api-versions", "--bootstrap-server {broker}", "", `Produce\(0\): `},
	{"kafka-cluster", "cluster-id --bootstrap-server {broker}", "", `Cluster ID: \S{16,}`},
	{"kafka-topics", "--bootstrap-server {broker} --create --topic tools --partitions 3 --replication-factor 1 --config retention.ms=86400000", "", `Created topic tools`},
	{"kafka-topics", "--bootstrap-server {broker} --list", "", `(?m)^tools$`},
	{"kafka-topics", "--bootstrap-server {broker} --alter --topic tools --partitions 4", "", ``},
	{"kafka-topics", "--bootstrap-server {broker} --describe --topic tools", "", `PartitionCount: 4\b(?s:.*)retention.ms=86400000(?s:.*)Leader: 1\b`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type topics --entity-name tools --add-config segment.bytes=1048576,max.message.bytes=100000", "", `Completed updating config for topic tools`},
	{"kafka-configs", "--bootstrap-server {broker} --describe --entity-type topics --entity-name tools", "", `segment.bytes=1048576 .*DYNAMIC_TOPIC_CONFIG:segment.bytes=1048576`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type topics --entity-name tools --delete-config max.message.bytes", "", `Completed updating config for topic tools`},
	{"kafka-configs", "--bootstrap-server {broker} --describe --all --entity-type brokers --entity-name 1", "", `advertised.listeners=`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type brokers --entity-default --add-config log.retention.ms=7200000", "", `Completed updating default config for brokers`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type brokers --entity-name 1 --add-config log.segment.bytes=2097152", "", `Completed updating config for broker 1`},
	{"kafka-configs", "--bootstrap-server {broker} --describe --entity-type brokers --entity-default", "", `log.retention.ms=7200000 sensitive=false synonyms=\{DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7200000`},
	{"kafka-configs", "--bootstrap-server {broker} --describe --entity-type brokers --entity-name 1", "", `log.segment.bytes=2097152 sensitive=false synonyms=\{DYNAMIC_BROKER_CONFIG:log.segment.bytes=2097152, .*DEFAULT_CONFIG:log.segment.bytes=67108864`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type brokers --entity-name 1 --delete-config log.segment.bytes", "", `Completed updating config for broker 1`},
	{"kafka-console-producer", "--bootstrap-server {broker} --topic tools --property parse.key=true --property key.separator=:", "a:one\nb:two\nc:three\n", ``},
	{"kafka-console-consumer", "--bootstrap-server {broker} --topic tools --from-beginning --max-messages 3 --group console --timeout-ms 30000", "", `Processed a total of 3 messages`},
	{"kafka-verifiable-producer", "--bootstrap-server {broker} --topic tools --max-messages 500 --acks -1 --value-prefix 1", "", `"acked":500`},
	{"kafka-verifiable-consumer", "--bootstrap-server {broker} --topic tools --group-id verifiable --max-messages 503 --reset-policy earliest --session-timeout 6000", "", `shutdown_complete`},
	{"kafka-producer-perf-test", "--topic tools --num-records 20000 --record-size 200 --throughput -1 --producer-props bootstrap.servers={broker} acks=all compression.type=lz4", "", `20000 records sent`},
	{"kafka-consumer-perf-test", "--bootstrap-server {broker} --topic tools --messages 20503 --group perf --timeout 30000", "", `(?m)^\d{4}-.*, 20503, `},
	{"kafka-get-offsets", "--bootstrap-server {broker} --topic tools --time -1", "", `(?m)^tools:3:\d+$`},
	{"kafka-get-offsets", "--bootstrap-server {broker} --topic tools --time -2", "", `(?m)^tools:0:0$`},
	{"kafka-get-offsets", "--bootstrap-server {broker} --topic tools --time -3", "", `(?m)^tools:0:\d+$`},
	{"kafka-configs", "--bootstrap-server {broker} --alter --entity-type clients --entity-name slow --add-config producer_byte_rate=100000,request_percentage=50,controller_mutation_rate=5", "", `Completed updating config for client slow`},
	{"kafka-configs", "--bootstrap-server {broker} --describe --entity-type clients --entity-name slow", "", `controller_mutation_rate=5`},
	{"kafka-leader-election", "--bootstrap-server {broker} --election-type PREFERRED --topic tools --partition 0", "", `already elected`},
	{"kafka-delete-records", "--bootstrap-server {broker} --offset-json-file {dir}/delete.json", "", `partition: tools-0\s+low_watermark: 100`},
	{"kafka-log-dirs", "--bootstrap-server {broker} --describe --topic-list tools", "", `"partition":"tools-3","size":\d\d+`},
	{"kafka-console-consumer", "--bootstrap-server {broker} --topic tools --from-beginning --max-messages 3 --group next --consumer-property group.protocol=consumer --timeout-ms 30000", "", `Processed a total of 3 messages`},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --describe --group next", "", `next +tools +0 `},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --list", "", `(?m)^console$`},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --describe --group perf", "", `perf +tools +0 +\d+ +\d+ +0 `},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --describe --group perf --state", "", `Empty`},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --group perf --reset-offsets --to-earliest --topic tools --execute", "", `perf +tools +0 +100\b`},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --delete-offsets --group console --topic tools", "", `Successful`},
	{"kafka-consumer-groups", "--bootstrap-server {broker} --timeout 60000 --delete --group perf --group verifiable", "", `Deletion of requested consumer groups .* was successful`},
	{"kafka-transactions", "--bootstrap-server {broker} list", "", `TransactionalId`},
	{"kafka-transactions", "--bootstrap-server {broker} describe-producers --topic tools --partition 0", "", `ProducerId`},
	{"kafka-transactions", "--bootstrap-server {broker} find-hanging --broker-id 1", "", `ProducerId`},
	{"kafka-topics", "--bootstrap-server {broker} --delete --topic tools", "", ``},
	{"kafka-topics", "--bootstrap-server {broker} --list --topic tools", "", `^\s*$`},
}

// The command line tools of two releases of Apache Kafka do a day's work of an
// administrator, each against an appliance of its own.
func TestKafkasOwnTools(t *testing.T) {
	t.Parallel()
	for _, version := range compat.JavaVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := startWeir(t, "")
			dir := t.TempDir()
			deletion := `{"version":1,"partitions":[{"topic":"tools","partition":0,"offset":100}]}`
			if err := os.WriteFile(filepath.Join(dir, "delete.json"), []byte(deletion), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, st := range toolSteps {
				st.run(t, version, s, dir)
			}
		})
	}
}

func (st step) run(t *testing.T, version string, s *site.Site, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	classes := toolClasses[st.tool]
	class := classes[0]
	if version != compat.JavaVersions[0] {
		class = classes[len(classes)-1]
	}
	d := compat.JavaTool(version, class)
	args := strings.Fields(strings.NewReplacer("{broker}", s.Addresses().Kafka, "{dir}", dir).Replace(st.args))
	cmd := exec.CommandContext(ctx, d.Argv[0], slices.Concat(d.Argv[1:], args)...)
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdin = strings.NewReader(st.stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", st.tool, st.args, err, out.String())
	}
	if !regexp.MustCompile(st.want).Match(out.Bytes()) || strings.Contains(out.String(), "Exception") {
		t.Errorf("%s %s: no %q in:\n%s", st.tool, st.args, st.want, out.String())
	}
}
