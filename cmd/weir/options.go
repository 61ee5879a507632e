package main

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/appliance"
	"github.com/weirmq/weir/appliance/clock"
	"github.com/weirmq/weir/appliance/group"
	"github.com/weirmq/weir/appliance/kafka"
	"github.com/weirmq/weir/appliance/quota"
	"github.com/weirmq/weir/appliance/topic"
	"github.com/weirmq/weir/appliance/txn"
	"github.com/weirmq/weir/appliance/wal"
	"github.com/weirmq/weir/bridge"
	"github.com/weirmq/weir/bridge/mqtt"
	"github.com/weirmq/weir/bridge/sparkplug"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
	"github.com/weirmq/weir/mirror"
	"github.com/weirmq/weir/mirror/membership"
	"github.com/weirmq/weir/plugins"
)

// This file maps the file's keys to the parts' Options, and nothing else.

// checkParts asks each part whether it could run with the configuration, so
// that weir config check finds what only a part can know.
func checkParts(cfg *firmwareconfig.Config) error {
	errs := []error{bridgeOptions(cfg, nil).Validate(), checkAuth(cfg)}
	for i := range cfg.Upstream {
		o, err := upstreamOptions(&cfg.Upstream[i], cfg.Site, nil)
		errs = append(errs, err, o.Validate())
	}
	for _, t := range cfg.Topics {
		errs = append(errs, topic.CheckName(t.Name), topic.CheckConfigs(t.Configs))
	}
	if len(cfg.Mirror.Flows) > 0 {
		options := mirrorOptions(cfg)
		if options.Site == "" {
			options.Site = "site" // the host's name, found by serve
		}
		errs = append(errs, options.Validate())
	}
	return errors.Join(errs...)
}

func brokerOptions(cfg *firmwareconfig.Config, log *slog.Logger) appliance.Options {
	k, s := &cfg.Kafka, &cfg.Storage
	profile := appliance.Profile(s.CommitProfile)
	if s.CommitProfile == "auto" {
		profile = appliance.ProfileAuto
	}
	budget, percent, _ := firmwareconfig.ParseShare(cfg.Data.Budget) // validated
	retention := int64(-1)
	if k.RetentionHours >= 0 {
		retention = k.RetentionHours * time.Hour.Milliseconds()
	}
	trash := time.Duration(cfg.Data.Trash)
	if trash == 0 {
		trash = -1 // a part's 0 is its default
	}
	return appliance.Options{
		Data: cfg.Data.Dir, Listeners: kafkaListeners(cfg), Auth: authOptions(cfg), AuthTokens: tokenOptions(cfg), NoAudit: !cfg.Audits(), MaxAuditQueue: cfg.Auth.MaxAuditQueue, OpenFiles: cfg.Data.OpenFiles, ReserveBytes: int64(cfg.Data.Reserve),
		TrashRetention: trash,
		BudgetBytes:    int64(budget), BudgetPercent: percent,
		Wire: kafka.Options{
			NoAutoCreateTopics: !k.AutoCreateTopics,
			MaxProduceBytes:    int(k.MaxRequestBytes), MaxQueuedBytes: int64(k.MaxQueuedBytes), MaxFetchBytes: int(k.MaxFetchBytes),
			MaxConnections: k.MaxConnections, MaxConnectionsPerIP: k.MaxConnectionsPerIP,
			MaxFetchSessions: orNone(k.MaxFetchSessions), MaxFetchSessionPartitions: k.MaxFetchPartitions, MaxConnectionRate: k.MaxConnectionRate,
			MaxRequestBytes: int(k.MaxOtherBytes), MaxAdminBytes: int(k.MaxAdminBytes), MaxFetchWait: time.Duration(k.FetchMaxWait),
			MaxInFlight: k.MaxInFlight, MaxQueuedReplies: k.MaxQueuedReplies, MaxAutoCreate: k.MaxAutoCreate, MaxDescribedPartitions: k.MaxDescribed, MaxRequestPartitions: k.MaxRequestPartitions, MaxRequestElements: k.MaxRequestElements,
			MaxIdle: time.Duration(k.MaxIdle), HandshakeTimeout: time.Duration(k.SetupTimeout), ReadTimeout: time.Duration(k.ReadTimeout), WriteTimeout: time.Duration(k.WriteTimeout),
		},
		Transactions: txn.Options{CheckInterval: time.Duration(k.TransactionCheck), Expiration: time.Duration(k.TransactionalIDExpiration),
			Limits: txn.Limits{MaxTimeout: time.Duration(k.TransactionMaxTimeout), MaxTransactionalIDs: k.MaxTransactionalIDs, MaxPartitions: k.TransactionPartitions, MaxIDBytes: int(k.MaxIDBytes)}},
		ProducerExpiration: time.Duration(k.ProducerIDExpiration), MaxProducers: k.MaxProducers, MaxAborted: k.MaxAborted,
		Groups:     groupOptions(k),
		Quotas:     quota.Options{Window: time.Duration(k.QuotaSamples*k.QuotaSampleSeconds) * time.Second, MaxEntities: k.QuotaEntities, MaxClients: k.QuotaClients},
		Partitions: int32(k.NumPartitions), MaxPartitions: k.MaxPartitions,
		TopicConfigs: map[string]string{
			"retention.ms":      strconv.FormatInt(retention, 10),
			"retention.bytes":   strconv.FormatInt(k.RetentionBytes, 10),
			"segment.bytes":     strconv.FormatInt(int64(k.SegmentBytes), 10),
			"max.message.bytes": strconv.FormatInt(int64(k.MessageMaxBytes), 10),
			"weir.disk.policy":  cfg.Data.Policy,
		},
		Profile: profile,
		WAL: wal.Options{
			FileBytes: int64(s.WALFileBytes), MaxFiles: s.WALFiles, RoundBytes: int(s.CommitBytes), Linger: time.Duration(s.CommitLinger),
		},
		Clock: clock.Options{
			MaxJump: time.Duration(cfg.Clock.MaxJump), Confirm: time.Duration(cfg.Clock.ConfirmAfter), Battery: cfg.Clock.Battery,
		},
		Endurance: int64(cfg.Data.Endurance), Lifetime: time.Duration(cfg.Data.Lifetime),
		WritebackBytesPerSecond: int64(s.WritebackBytes),
		CheckpointInterval:      time.Duration(s.CheckpointInterval),
		RetentionInterval:       time.Duration(k.RetentionCheck),
		Cleaner: topic.CleanerOptions{
			Disabled: !k.CleanerEnable, Interval: time.Duration(k.CleanerBackoff),
			MapBytes: int(k.CleanerMapBytes), IOBytesPerSecond: int64(k.CleanerIOBytes),
		},
		Log: log,
	}
}

func groupOptions(k *firmwareconfig.Kafka) group.Options {
	delay := time.Duration(k.GroupInitialDelay)
	if delay == 0 {
		delay = -1 // 0 is the default there
	}
	return group.Options{
		MigrationPolicy: k.ConsumerMigration, RetentionCheckInterval: time.Duration(k.OffsetsRetentionCheck), OffsetsRetention: time.Duration(k.OffsetsRetentionMinutes) * time.Minute,
		Limits: group.Limits{
			MinSessionTimeout: time.Duration(k.GroupMinSessionTimeout), MaxSessionTimeout: time.Duration(k.GroupMaxSessionTimeout), InitialRebalanceDelay: delay,
			ConsumerSessionTimeout: time.Duration(k.ConsumerSessionTimeout), ConsumerHeartbeatInterval: time.Duration(k.ConsumerHeartbeatInterval),
			MaxGroups: k.MaxGroups, MaxMembers: k.GroupMaxSize, MaxOffsets: k.MaxOffsets, MaxOffsetMetadataBytes: int(k.OffsetMetadataMaxBytes),
			MaxProtocols: k.GroupMaxProtocols, MaxSubscriptionBytes: int(k.GroupMaxSubscription), MaxRegexBytes: int(k.GroupMaxRegex), MaxAssignmentBytes: int(k.GroupMaxAssignment), MaxIDBytes: int(k.MaxIDBytes),
		},
	}
}

func bridgeOptions(cfg *firmwareconfig.Config, log *slog.Logger) bridge.Options {
	m := &cfg.MQTT
	proxies, _ := m.ProxyNetworks() // validated
	o := bridge.Options{Listeners: mqttListeners(cfg), ProxyFrom: proxies, Origins: m.Origins, MQTT: mqtt.Options{
		MaxConnections: m.MaxConnections, MaxConnectionsPerIP: m.MaxConnectionsPerIP, MaxSessions: m.MaxSessions, MaxWaitingWills: m.MaxWaitingWills,
		MaxRatePerIP: m.MaxRatePerIP, MaxPublishRate: m.MaxPublishRate, MaxPublishBytes: int(m.MaxPublishBytes),
		MaxKeepAlive: time.Duration(m.MaxKeepAlive), ConnectTimeout: time.Duration(m.ConnectTimeout), WriteTimeout: time.Duration(m.WriteTimeout),
		MaxFilters: m.MaxFilters, MaxTopicLevels: m.MaxTopicLevels, MaxTopicBytes: int(m.MaxTopicBytes), MaxOutgoingBytes: int(m.MaxOutgoing),
		MaxSessionExpiry: time.Duration(m.SessionExpiry), MaxPacketBytes: int(m.MaxPacket), ReceiveMaximum: m.ReceiveMaximum,
		MaxInflight: m.MaxInflight, MaxRetained: m.MaxRetained, MaxRetainedBytes: int64(m.MaxRetainedBytes), MaxTopics: m.MaxTopics,
		ServerReference: m.ServerReference, SysInterval: time.Duration(m.SysInterval), Version: versionText(),
		Log: log,
	}}
	o.Sparkplug = bridge.Sparkplug{Enable: m.Sparkplug.Enable, Limits: sparkplug.Limits{
		MaxNodes: m.Sparkplug.MaxNodes, MaxDevices: m.Sparkplug.MaxDevices, RebirthInterval: time.Duration(m.Sparkplug.RebirthInterval),
	}}
	o.Routes = bridgeRoutes(cfg)
	o.Downlinks = bridgeDownlinks(cfg)
	return o
}

func bridgeDownlinks(cfg *firmwareconfig.Config) (out []bridge.Downlink) {
	for _, d := range cfg.Downlink {
		out = append(out, bridge.Downlink{Topic: d.Topic, To: d.To, QoS: byte(d.QoS), Retain: d.Retain, Reply: bridge.Reply{
			To: d.Reply.To, Topic: d.Reply.Topic, Topics: d.Reply.Topics, Timeout: time.Duration(d.Reply.Timeout),
		}})
	}
	return out
}

func bridgeRoutes(cfg *firmwareconfig.Config) (out []bridge.Route) {
	for _, r := range cfg.Routes {
		route := bridge.Route{Filter: r.Filter, Topic: r.Topic, Key: r.Key, Headers: r.Headers, Timestamp: r.Timestamp, TimestampUnit: r.Unit, Continue: r.Continue, Drop: r.Drop}
		if r.Partition >= 0 {
			partition := int32(r.Partition)
			route.Partition = &partition
		}
		out = append(out, route)
	}
	return out
}

func mirrorOptions(cfg *firmwareconfig.Config) mirror.Options {
	o := mirror.Options{Site: cfg.Site}
	for _, f := range cfg.Mirror.Flows {
		flow := mirror.FlowOptions{
			Name: f.Name, To: f.To, Topics: f.Topics, Exclude: f.Exclude, Rename: f.Rename, Compression: f.Compression,
			OnGap: f.OnGap, MaxInFlightBytes: int64(f.MaxInFlight), RetryMax: time.Duration(f.RetryMax), ReplicationFactor: int16(f.Replication),
		}
		if f.TLS.Enable {
			flow.TLS = &mirror.TLSOptions{CA: f.TLS.CA, Cert: f.TLS.Cert, Key: f.TLS.Key, ServerName: f.TLS.ServerName}
		}
		if f.SASL.Mechanism != "none" {
			flow.SASL = &mirror.SASLOptions{Mechanism: f.SASL.Mechanism, Username: f.SASL.Username, Password: f.SASL.Password}
		}
		o.Flows = append(o.Flows, flow)
	}
	return o
}

func pluginOptions(cfg *firmwareconfig.Config, log *slog.Logger) plugins.Options {
	p := &cfg.Plugins
	return plugins.Options{
		GuestMemoryBytes: int64(p.Memory), MaxGuestMemoryBytes: int64(p.MaxMemory), TotalMemoryBytes: int64(p.TotalMemory),
		CallTime: time.Duration(p.CallTime), MaxCallTime: time.Duration(p.MaxCallTime), MaxPlugins: p.Max, Logger: log,
	}
}

func fleetOptions(cfg *firmwareconfig.Config, log *slog.Logger) membership.Options {
	f := &cfg.Fleet
	o := membership.Options{Site: cfg.Site, Bind: f.Bind, Advertise: f.Advertise, Join: f.Join, Tags: f.Tags, Logger: log}
	if f.Key != "" {
		o.Keys = []string{f.Key}
	}
	return o
}

// orNone is the count where 0 means none; in Options 0 is the default.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// topicSpec is a topic of the file as the log makes it.
func topicSpec(t firmwareconfig.Topic) topic.Spec {
	return topic.Spec{Partitions: int32(t.Partitions), Configs: t.Configs}
}

// internalTopic tells the topics that are Weir's own by Kafka's convention.
func internalTopic(name string) bool { return strings.HasPrefix(name, "__") }

// siteName is the configured name, or the host's.
func siteName(cfg *firmwareconfig.Config) (string, error) {
	if cfg.Site != "" {
		return cfg.Site, nil
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "", failf(exitUsage, "this machine has no name: give the site one with --site NAME")
	}
	return firmwareconfig.SiteName(host), nil
}
