// Package firmwareconfig is the appliance's one file, weir.yaml: its keys, its
// defaults, the board profiles and the checks.
//
// [Load] lays three layers over one another: the defaults in the code, the board
// profile, the file. A key that is not in the table is an error that names the
// nearest one. The outcome is a [Config], plain values that cmd/weir maps to the
// Options of each part; [Config.YAML] prints it so that reading it again gives
// the same Config.
//
// The structs below are the table of keys: their tags carry the name, the range
// and the sentence that docs/configuration.md prints.
package firmwareconfig

import "time"

// Config is everything that can be configured. The zero value is not useful:
// start from [Default] or [Load].
type Config struct {
	Site        string `yaml:"site" doc:"Name of this site, unique in the fleet. It is the mirror's origin and the fleet's member name. Empty: the host's name."`
	Profile     string `yaml:"profile" oneof:"auto|pi-zero-2|pi-4|gateway-x86" doc:"Board profile laid under this file. auto picks one by memory and architecture."`
	InsecureLAN bool   `yaml:"insecure_lan" doc:"Accept listening beyond loopback without TLS or without passwords. The console shows it in red."`

	Data     Data       `yaml:"data" doc:"Where records live and how much of the disk they may take."`
	Kafka    Kafka      `yaml:"kafka" doc:"The Kafka listener and the broker's keys, by Kafka's names."`
	MQTT     MQTT       `yaml:"mqtt" doc:"The device-facing MQTT 3.1.1 and 5 listener."`
	HTTP     HTTP       `yaml:"http" doc:"Console, metrics, health and the admin API."`
	TLS      TLS        `yaml:"tls" doc:"The identity of the listeners that encrypt. weir init makes one; changed files are taken in without a restart."`
	Auth     Auth       `yaml:"auth" doc:"Who may do what: one set of users and access rules for Kafka, MQTT and HTTP. See security.md."`
	Topics   []Topic    `yaml:"topics" doc:"Topics that exist from the first start. Existing topics are left as they are."`
	Routes   []Route    `yaml:"routes" doc:"MQTT to Kafka, first match wins, unless it says continue. What no route matches goes to the topic mqtt."`
	Downlink []Downlink `yaml:"downlink" doc:"Kafka to MQTT: records of a topic published to devices."`
	Upstream []Upstream `yaml:"upstream" doc:"MQTT brokers that the site has already: Weir subscribes there and publishes there."`
	Plugins  Plugins    `yaml:"plugins" doc:"Limits of WASM plugins. The plugins themselves are deployed by weir plugin deploy."`
	Mirror   Mirror     `yaml:"mirror" doc:"Flows to and from other clusters."`
	Fleet    Fleet      `yaml:"fleet" doc:"How sites find one another (serf gossip)."`
	Storage  Storage    `yaml:"storage" doc:"How acknowledged data reaches the disk."`
	Clock    Clock      `yaml:"clock" doc:"How far the machine's clock is trusted. Ages are measured by a clock that does not jump; see guarantees.md."`
	Runtime  Runtime    `yaml:"runtime" doc:"What the process may take of the board."`
	Log      Log        `yaml:"log" doc:"Weir's own log, on stderr."`
}

// Data is where records live.
type Data struct {
	Dir       string `yaml:"dir" doc:"Data folder, made if missing."`
	OpenFiles int    `yaml:"open-files" min:"0" max:"1048576" doc:"How many files of segments are kept open; those used least are closed for others. 0: three quarters of what the process may open, at most 16384."`
	Budget    Share  `yaml:"budget" doc:"What all records together may take: a size, or a share of the disk such as 80%. The reserve stays free in any case."`
	Policy    string `yaml:"policy" oneof:"reject|drop-oldest|keep-unmirrored" doc:"What topics do that do not say (weir.disk.policy) when the budget is used up: refuse appends, let go of their oldest records, or only of those that every mirror flow has carried away."`
	Reserve   Size   `yaml:"reserve" min:"0" max:"1Ti" doc:"Disk space kept free, taken beforehand as the file ballast, so that reads, deletes, commits, the mirror and a restart work on a disk that others have filled."`

	Trash     Duration `yaml:"trash" min:"0s" max:"8760h" doc:"How long the data of a deleted topic are kept, unless the disk runs full. 0s removes them at once."`
	Endurance Size     `yaml:"endurance" min:"0" max:"1024Ti" doc:"Bytes that the disk stands being written (TBW, by its data sheet); 0 is unknown. Weir warns when it will not last data.lifetime, and the commit profile auto is flash."`
	Lifetime  Duration `yaml:"lifetime" min:"24h" max:"438000h" doc:"How long the disk is to last."`
}

// Kafka is the Kafka listener and the broker keys.
type Kafka struct {
	Listen     []KafkaListener `yaml:"listen" doc:"Where to listen, one or several entries: an address, or an address with what clients of that listener are told to dial."`
	Advertised string          `yaml:"advertised" kind:"address" doc:"Address told to the clients of the one listener whose entry does not say. Empty: the one each client dialled."`

	NumPartitions             int      `yaml:"num.partitions" min:"1" max:"10000" doc:"Partitions of a topic created without a count."`
	AutoCreateTopics          bool     `yaml:"auto.create.topics.enable" doc:"Create a topic when a client first asks for it."`
	RetentionHours            int64    `yaml:"log.retention.hours" min:"-1" max:"1000000" doc:"Hours a record is kept; -1 keeps it for ever."`
	RetentionBytes            int64    `yaml:"log.retention.bytes" min:"-1" max:"1152921504606846976" doc:"Bytes a partition may hold; -1 sets no limit."`
	SegmentBytes              Size     `yaml:"log.segment.bytes" min:"64Ki" max:"1Gi" doc:"Size at which a segment file is closed and the next begun."`
	RetentionCheck            Duration `yaml:"log.retention.check.interval" min:"10ms" max:"24h" doc:"How often retention is applied (Kafka's log.retention.check.interval.ms)."`
	CleanerEnable             bool     `yaml:"log.cleaner.enable" doc:"Compact topics with cleanup.policy=compact. Without it they grow for ever."`
	CleanerMapBytes           Size     `yaml:"log.cleaner.dedupe.buffer.size" min:"1Ki" max:"1Gi" doc:"Memory for the keys of one log while it is compacted, 32 bytes each. With too little a log is compacted in several goes."`
	CleanerIOBytes            Size     `yaml:"log.cleaner.io.max.bytes.per.second" min:"0" max:"1Ti" doc:"What compaction may read and write together in a second, so that it leaves the disk to others. 0: no limit."`
	CleanerBackoff            Duration `yaml:"log.cleaner.backoff" min:"10ms" max:"24h" doc:"How often there is a look for logs to compact (Kafka's log.cleaner.backoff.ms)."`
	GroupMaxSize              int      `yaml:"group.max.size" min:"1" max:"100000" doc:"Members of one consumer group, of either protocol."`
	GroupMinSessionTimeout    Duration `yaml:"group.min.session.timeout" min:"1ms" max:"1h" doc:"Least session.timeout.ms of classic members (Kafka's group.min.session.timeout.ms)."`
	GroupMaxSessionTimeout    Duration `yaml:"group.max.session.timeout" min:"1s" max:"24h" doc:"Greatest session.timeout.ms of classic members (Kafka's group.max.session.timeout.ms)."`
	GroupInitialDelay         Duration `yaml:"group.initial.rebalance.delay" min:"0s" max:"1h" doc:"How long the first member of a classic group waits for others (Kafka's group.initial.rebalance.delay.ms)."`
	ConsumerSessionTimeout    Duration `yaml:"group.consumer.session.timeout" min:"1s" max:"24h" doc:"Silence after which a member of the consumer protocol is removed (Kafka's group.consumer.session.timeout.ms)."`
	ConsumerHeartbeatInterval Duration `yaml:"group.consumer.heartbeat.interval" min:"100ms" max:"1h" doc:"How often members of the consumer protocol are told to send a heartbeat (Kafka's group.consumer.heartbeat.interval.ms)."`
	ConsumerMigration         string   `yaml:"group.consumer.migration.policy" oneof:"bidirectional|upgrade|downgrade|disabled" doc:"Whether a group that has members may go from the classic protocol to the consumer protocol, and back, while its members are restarted one by one."`
	GroupMaxProtocols         int      `yaml:"group.max.protocols" min:"1" max:"1000" doc:"Assignors that one classic member offers."`
	GroupMaxSubscription      Size     `yaml:"group.max.subscription.bytes" min:"4Ki" max:"64Mi" doc:"Subscriptions of all members of one group together, regular expressions included."`
	GroupMaxRegex             Size     `yaml:"group.max.regex.bytes" min:"16" max:"64Ki" doc:"Length of the regular expression that one member of the consumer protocol subscribes by."`
	GroupMaxAssignment        Size     `yaml:"group.max.assignment.bytes" min:"4Ki" max:"64Mi" doc:"Assignments of all members of one classic group together."`
	MaxIDBytes                Size     `yaml:"max.id.bytes" min:"16" max:"4Ki" doc:"Length of group ids, member ids, group.instance.ids and transactional.ids."`
	MaxGroups                 int      `yaml:"max.groups" min:"1" max:"1000000" doc:"Consumer groups that have members."`
	MaxOffsets                int      `yaml:"max.committed.offsets" min:"1" max:"100000000" doc:"Committed offsets of all groups together."`
	OffsetMetadataMaxBytes    Size     `yaml:"offset.metadata.max.bytes" min:"0" max:"1Mi" doc:"Text that a client may keep beside a committed offset."`
	OffsetsRetentionMinutes   int64    `yaml:"offsets.retention.minutes" min:"1" max:"10000000" doc:"Minutes the offsets of a group without members are kept."`
	OffsetsRetentionCheck     Duration `yaml:"offsets.retention.check.interval" min:"100ms" max:"24h" doc:"How often there is a look for offsets that have expired (Kafka's offsets.retention.check.interval.ms)."`
	TransactionMaxTimeout     Duration `yaml:"transaction.max.timeout" min:"1s" max:"24h" doc:"The most a producer may set as its transaction.timeout.ms (Kafka's transaction.max.timeout.ms). Readers of what is committed wait that long for a producer that is gone."`
	TransactionalIDExpiration Duration `yaml:"transactional.id.expiration" min:"1m" max:"87600h" doc:"How long a transactional.id that is not used is known (Kafka's transactional.id.expiration.ms)."`
	MaxTransactionalIDs       int      `yaml:"max.transactional.ids" min:"1" max:"1000000" doc:"Transactional ids known at a time."`
	TransactionCheck          Duration `yaml:"transaction.abort.timed.out.transaction.cleanup.interval" min:"10ms" max:"1h" doc:"How often there is a look for transactions that take too long (Kafka's key with .ms)."`
	TransactionPartitions     int      `yaml:"transaction.max.partitions" min:"1" max:"100000" doc:"Partitions of one transaction."`
	ProducerIDExpiration      Duration `yaml:"producer.id.expiration" min:"1m" max:"87600h" doc:"How long a partition knows an idle idempotent producer, so that it recognises what is sent twice (Kafka's producer.id.expiration.ms)."`
	MaxProducers              int      `yaml:"max.producers.per.partition" min:"5" max:"1000000" doc:"Idempotent producers that one partition remembers, about 250 bytes each; the one idle longest is forgotten first, and what it sends twice after that is kept twice."`
	MaxAborted                int      `yaml:"max.aborted.transactions.per.partition" min:"10" max:"10000000" doc:"Aborted transactions that one partition remembers, 32 bytes each, until retention or compaction has removed their records. With more it takes part in no further transaction."`
	MessageMaxBytes           Size     `yaml:"message.max.bytes" min:"1Ki" max:"64Mi" doc:"Largest record batch."`
	MaxRequestBytes           Size     `yaml:"socket.request.max.bytes" min:"64Ki" max:"1Gi" doc:"Largest Produce request."`
	MaxQueuedBytes            Size     `yaml:"queued.max.request.bytes" min:"1Mi" max:"4Gi" doc:"Memory of all requests being received."`
	MaxOtherBytes             Size     `yaml:"other.request.max.bytes" min:"64Ki" max:"64Mi" doc:"Largest request of those that clients send while they work, other than Produce: Fetch, Metadata, joins and commits."`
	MaxAdminBytes             Size     `yaml:"admin.request.max.bytes" min:"4Ki" max:"16Mi" doc:"Largest administrative request. One can cost some hundred times its size while it is decoded."`
	MaxRequestPartitions      int      `yaml:"max.request.partitions" min:"100" max:"1000000" doc:"Partitions that one Produce or Fetch names, and those of one fetch session."`
	MaxRequestElements        int      `yaml:"max.request.elements" min:"1000" max:"10000000" doc:"Elements of all arrays of one request that may be larger than admin.request.max.bytes, other than Produce and Fetch; up to 80 bytes of memory each."`
	MaxDecompressed           Size     `yaml:"max.decompressed.bytes" min:"1Mi" max:"1Gi" doc:"What one compressed batch may decompress to where Weir looks into it: for compacted topics, MQTT, plugins and mirrors. More is refused as corrupt."`
	MaxFetchBytes             Size     `yaml:"fetch.max.bytes" min:"64Ki" max:"1Gi" doc:"Largest Fetch answer."`
	MaxFetchSessions          int      `yaml:"max.incremental.fetch.session.cache.slots" min:"0" max:"100000" doc:"Incremental fetch sessions (KIP-227) kept for consumers; 0: none, each request then names all its partitions."`
	MaxFetchPartitions        int      `yaml:"max.incremental.fetch.session.partitions" min:"1000" max:"10000000" doc:"Partitions that all fetch sessions remember together, about 150 bytes each. A session that finds no room is told to do without."`
	FetchMaxWait              Duration `yaml:"fetch.max.wait" min:"100ms" max:"1h" doc:"How long a Fetch waits for data at most, whatever the client asks (fetch.max.wait.ms)."`
	MaxInFlight               int      `yaml:"max.in.flight.requests" min:"1" max:"100000" doc:"Requests of one connection that wait for their answers; the next is not read before."`
	MaxQueuedReplies          int      `yaml:"max.queued.replies" min:"1" max:"1000" doc:"Answers, other than Produce's, that wait on one connection for a client that does not read."`
	MaxAutoCreate             int      `yaml:"max.auto.created.topics" min:"1" max:"10000" doc:"Topics that one Metadata request creates; clients ask again for the rest."`
	MaxDescribed              int      `yaml:"max.request.partition.size.limit" min:"1" max:"100000" doc:"Partitions in one answer of DescribeTopicPartitions."`
	MaxIdle                   Duration `yaml:"connections.max.idle" min:"10s" max:"24h" doc:"How long a connection may ask nothing before it is closed (Kafka's connections.max.idle.ms)."`
	SetupTimeout              Duration `yaml:"connection.setup.timeout" min:"1s" max:"10m" doc:"Time a connection may take until its first request, login included."`
	ReadTimeout               Duration `yaml:"request.read.timeout" min:"1s" max:"10m" doc:"Time in which each 64 KiB of a request must arrive once it has begun."`
	WriteTimeout              Duration `yaml:"response.write.timeout" min:"1s" max:"10m" doc:"Time a client may leave an answer unread, more by its size at 4 KiB/s."`
	MaxConnections            int      `yaml:"max.connections" min:"1" max:"100000" doc:"Open connections; one more is closed at once."`
	MaxConnectionsPerIP       int      `yaml:"max.connections.per.ip" min:"1" max:"100000" doc:"Open connections of one address."`
	MaxConnectionRate         int      `yaml:"max.connection.creation.rate" min:"0" max:"1000000" doc:"New connections per second; more wait to be accepted. 0: no limit. For single addresses there is the quota connection_creation_rate."`
	QuotaSamples              int      `yaml:"quota.window.num" min:"1" max:"3600" doc:"Windows of a quota that a client may have saved up and take at once."`
	QuotaSampleSeconds        int      `yaml:"quota.window.size.seconds" min:"1" max:"3600" doc:"Length of one of them in seconds."`
	QuotaEntities             int      `yaml:"quota.max.entities" min:"1" max:"100000" doc:"Users, client ids and addresses that have quotas of their own."`
	QuotaClients              int      `yaml:"quota.max.clients" min:"100" max:"1000000" doc:"Clients whose use is counted one by one; those beyond share one account."`
	MaxPartitions             int      `yaml:"max.partitions" min:"100" max:"100000" doc:"Partitions of all topics together."`
}

// KafkaListener is one place where Kafka clients connect.
type KafkaListener struct {
	Address    string `yaml:"address" listener:"kafka.listen" alone:"true" doc:"host:port with a protocol before it unless it is PLAINTEXT, as in SASL_SSL://0.0.0.0:9093. Port 0 picks one. An entry that is only this may be written without the key."`
	Advertised string `yaml:"advertised" doc:"host:port that clients of this listener are told to dial, where a NAT, a tunnel or a load balancer stands between. Empty: the address each client dialled, which suits any number of networks."`
}

// MQTT is the device-facing listener.
type MQTT struct {
	Listen              []MQTTListener `yaml:"listen" doc:"Where to listen, one or several entries: an address, or an address with what that listener asks of its clients. Without any: 127.0.0.1:1883."`
	ProxyProtocol       []string       `yaml:"proxy_protocol" doc:"Addresses or networks (10.0.0.7, 10.1.0.0/16) of load balancers that put a PROXY protocol header before each connection. It is required from them and taken from nobody else."`
	Origins             []string       `yaml:"websocket_origins" doc:"Sites whose pages may open WebSockets here, as hosts such as app.example.com or *.example.com. The host itself always may."`
	Anonymous           string         `yaml:"anonymous" oneof:"auto|allow|refuse" doc:"Whether devices may connect without name and password; they are User:ANONYMOUS then. auto allows it on loopback, and elsewhere with insecure_lan."`
	ClientID            string         `yaml:"client_id" doc:"Client identifiers that a user may have: * is any, %u the user's name alone, %u-* what begins with it and a separator. Others are refused (0x85). Anonymous clients have no name to be bound to."`
	MaxConnections      int            `yaml:"max_connections" min:"1" max:"1000000" doc:"Connected devices; one more is refused."`
	MaxConnectionsPerIP int            `yaml:"max_connections_per_ip" min:"1" max:"1000000" doc:"Connected devices of one address, loopback excepted."`
	MaxRatePerIP        int            `yaml:"max_connection_rate_per_ip" min:"0" max:"1000000" doc:"New connections per second of one address, loopback excepted; more are refused. 0: any number."`
	MaxPublishRate      int            `yaml:"max_publish_rate" min:"0" max:"10000000" doc:"Messages per second from one device. What is beyond gets reason 0x97 in MQTT 5; a 3.1.1 device is read more slowly; QoS 0 is dropped and counted. A second's worth may come at once. 0: any number."`
	MaxPublishBytes     Size           `yaml:"max_publish_bytes" min:"0" max:"64Gi" doc:"The same in bytes of topic names and payloads per second. 0: any number."`
	MaxSessions         int            `yaml:"max_sessions" min:"1" max:"1000000" doc:"Sessions kept, connected or not."`
	MaxWaitingWills     int            `yaml:"max_waiting_wills" min:"1" max:"1000000" doc:"Wills whose time has come and which cannot be published yet, as on a full disk. Each is as long as its CONNECT, 16 KiB at most. What is beyond is lost, counted (weir_mqtt_wills_lost_total) and logged."`
	SessionExpiry       Duration       `yaml:"session_expiry" min:"0s" max:"8760h" doc:"Longest life of a session without a connection."`
	MaxKeepAlive        Duration       `yaml:"max_keep_alive" min:"10s" max:"18h12m15s" doc:"Longest keep alive of an MQTT 5 device; one that asks for more, or for none, is told this."`
	ConnectTimeout      Duration       `yaml:"connect_timeout" min:"1s" max:"1m" doc:"Time a connection may take until its CONNECT is there."`
	WriteTimeout        Duration       `yaml:"write_timeout" min:"1s" max:"10m" doc:"Time a device may leave what is sent to it unread."`
	MaxFilters          int            `yaml:"max_filters" min:"1" max:"100000" doc:"Subscriptions of one device."`
	MaxTopicLevels      int            `yaml:"max_topic_levels" min:"1" max:"1000" doc:"Levels of a topic name or filter."`
	MaxTopicBytes       Size           `yaml:"max_topic_bytes" min:"16" max:"65535" doc:"Length of a topic name or filter."`
	MaxOutgoing         Size           `yaml:"max_outgoing" min:"16Ki" max:"64Mi" doc:"Memory for what waits to be sent to one device."`
	MaxPacket           Size           `yaml:"max_packet" min:"1Ki" max:"64Mi" doc:"Largest packet a device may send."`
	ReceiveMaximum      int            `yaml:"receive_maximum" min:"1" max:"65535" doc:"Unacknowledged QoS 1 and 2 publishes from one device."`
	MaxInflight         int            `yaml:"max_inflight" min:"1" max:"65535" doc:"Unacknowledged QoS 1 and 2 publishes to one device."`
	MaxRetained         int            `yaml:"max_retained" min:"0" max:"10000000" doc:"Retained messages."`
	MaxRetainedBytes    Size           `yaml:"max_retained_bytes" min:"0" max:"4Gi" doc:"Memory for retained messages."`
	SysInterval         Duration       `yaml:"sys_interval" min:"1s" max:"1h" doc:"How often the $SYS topics are sent to those who are subscribed, as far as they have changed."`
	ServerReference     string         `yaml:"server_reference" doc:"Where MQTT 5 devices are sent when Weir shuts down: HOST:PORT, or several with blanks between. Empty: they are told no other server."`
	MaxTopics           int            `yaml:"max_topics" min:"1" max:"100000" doc:"Kafka topics that routes with captures may make."`
	Sparkplug           Sparkplug      `yaml:"sparkplug" doc:"Follow the edge nodes of Sparkplug B, topics spBv1.0/GROUP/TYPE/NODE[/DEVICE]: see guarantees.md."`
}

// Sparkplug follows edge nodes.
type Sparkplug struct {
	Enable          bool     `yaml:"enable" doc:"Know from births, deaths and sequence numbers which edge nodes and devices are online, mark the records of data that came without a birth or after a gap with the header mqtt.sparkplug-stale, and ask the edge node for its birth then (NCMD, Node Control/Rebirth)."`
	MaxNodes        int      `yaml:"max_nodes" min:"1" max:"100000" doc:"Edge nodes followed. Those that are offline make room for others; the messages of what is beyond are stored, marked as stale."`
	MaxDevices      int      `yaml:"max_devices" min:"1" max:"1000000" doc:"Devices followed, of all edge nodes together."`
	RebirthInterval Duration `yaml:"rebirth_interval" min:"1s" max:"24h" doc:"How often one edge node is asked for its birth, at most."`
}

// MQTTListener is one place where devices connect.
type MQTTListener struct {
	Address           string   `yaml:"address" listener:"mqtt.listen" alone:"true" doc:"host:port, with mqtts:// before it for TLS, ws:// or wss:// for WebSockets, or unix:// and the path of a Unix socket. Port 0 picks one. An entry that is only this may be written without the key."`
	Auth              []string `yaml:"auth" oneof:"users|certificates|tokens|anonymous" doc:"How devices may say who they are, some of these. None: every way that is configured, and mqtt.anonymous."`
	ClientAuth        string   `yaml:"client.auth" oneof:"default|none|requested|required" doc:"Whether devices show a certificate. default: as tls.client.auth says, or as auth needs it. With auth users and required, they need both."`
	MaxConnections    int      `yaml:"max_connections" min:"0" max:"1000000" doc:"Connected devices here; one more is refused. 0: as many as mqtt.max_connections."`
	MaxConnectionRate int      `yaml:"max_connection_rate" min:"0" max:"1000000" doc:"New connections per second here; more wait. A second's worth may come at once. 0: any number."`
	MaxPublishRate    int      `yaml:"max_publish_rate" min:"0" max:"10000000" doc:"Messages per second of all devices here together, as mqtt.max_publish_rate for one. 0: any number."`
	MaxPublishBytes   Size     `yaml:"max_publish_bytes" min:"0" max:"64Gi" doc:"Bytes per second of all devices here together. 0: any number."`
}

// HTTP is the console's listener.
type HTTP struct {
	Listen    []string `yaml:"listen" listener:"http.listen" doc:"Where to listen, one or several: host:port, with https:// before it for TLS. Port 0 picks one. Requests need a login (basic or bearer) once there is a user, and beyond loopback in any case."`
	Hosts     []string `yaml:"hosts" doc:"Further host names under which browsers may use the console, beside addresses and localhost."`
	MaxUpload Size     `yaml:"max_upload" min:"64Ki" max:"256Mi" doc:"Largest plugin file the admin API takes."`
}

// TLS is the identity of the listeners that encrypt.
type TLS struct {
	Cert       string   `yaml:"cert" doc:"PEM file of the server's certificate, followed by what leads to its authority."`
	Key        string   `yaml:"key" doc:"PEM file of its key."`
	ClientCA   string   `yaml:"client.ca" doc:"PEM file of the authorities whose client certificates are taken. Empty: none are."`
	ClientAuth string   `yaml:"client.auth" oneof:"none|requested|required" doc:"Whether clients of Kafka and MQTT show a certificate (Kafka's ssl.client.auth). Browsers are asked, never forced."`
	Names      []string `yaml:"principal.mapping.rules" doc:"How a certificate's subject becomes a user's name (Kafka's ssl.principal.mapping.rules): RULE:pattern/replacement/[L|U] or DEFAULT, first match wins. None: the whole subject, as in User:CN=pump-017,OU=plant."`
}

// Auth is users and access rules.
type Auth struct {
	SuperUsers      []string `yaml:"super.users" doc:"Principals that may do everything, such as User:admin."`
	AllowEveryone   string   `yaml:"allow.everyone.if.no.acl.found" oneof:"auto|true|false" doc:"Whether everybody may do what no access rule is about. auto: as long as no listener asks clients who they are."`
	Mechanisms      []string `yaml:"sasl.enabled.mechanisms" doc:"SASL mechanisms offered. None: SCRAM-SHA-256, SCRAM-SHA-512, PLAIN and, with oauth.jwks, OAUTHBEARER."`
	PlainWithoutTLS bool     `yaml:"plain_without_tls" doc:"Take passwords (PLAIN, MQTT, HTTP) over connections without TLS beyond loopback."`
	Iterations      int      `yaml:"scram.iterations" min:"4096" max:"16384" doc:"Hash iterations of the passwords set here."`
	MaxReauth       Duration `yaml:"max.reauth" min:"0s" max:"8760h" doc:"How long a Kafka login holds (connections.max.reauth.ms); clients log in again by themselves; the login of those too old to know (KIP-368) holds. 0s: for ever."`
	MaxUsers        int      `yaml:"max_users" min:"1" max:"1000000" doc:"Users that can log in by a password."`
	MaxRules        int      `yaml:"max_rules" min:"1" max:"1000000" doc:"Access rules."`
	FailureDelay    Duration `yaml:"failure_delay" min:"1ms" max:"1m" doc:"How long the answer to a failed login is held back; twice as long with each further one from that address."`
	MaxFailureDelay Duration `yaml:"max_failure_delay" min:"1ms" max:"1m" doc:"How long at most."`
	MaxFailedFrom   int      `yaml:"max_failed_addresses" min:"16" max:"1000000" doc:"Addresses whose failed logins are counted; beyond them the oldest are forgotten."`
	MaxRemembered   int      `yaml:"max_remembered_answers" min:"16" max:"1000000" doc:"What one connection remembers of the access rules' answers."`
	MaxAuditQueue   int      `yaml:"max_audit_queue" min:"16" max:"100000" doc:"Audit events that wait to be written; more are counted as lost."`
	Audit           string   `yaml:"audit" oneof:"auto|true|false" doc:"Whether logins, refusals and changes are written to the topic __weir_audit. auto: once a listener asks clients who they are."`
	Groups          []Group  `yaml:"groups" doc:"Groups of users, for access rules such as weir acl add Group:pumps publish --mqtt 'dev/%u/#'."`
	OAuth           OAuth    `yaml:"oauth" doc:"JSON Web Tokens, for OAUTHBEARER, as MQTT password and as HTTP bearer."`
}

// Group is users that rules may be for together.
type Group struct {
	Name    string   `yaml:"name" doc:"Name; the principal is Group:NAME."`
	Members []string `yaml:"members" doc:"Names of users, as they stand behind User: in a principal. They need not exist yet."`
}

// OAuth is the tokens that are taken.
type OAuth struct {
	JWKS       string   `yaml:"jwks" doc:"The issuer's public keys: a file, or an https URL, whose keys are kept for starts without a network. Empty: no tokens are taken."`
	Issuer     string   `yaml:"issuer" doc:"Issuer (iss) that tokens must name."`
	Audience   string   `yaml:"audience" doc:"Audience (aud) that tokens must name."`
	Claim      string   `yaml:"principal.claim" doc:"Claim that is the user's name."`
	Groups     string   `yaml:"groups.claim" doc:"Claim that lists the user's groups, beside auth.groups: a text or a list of texts. Empty: none does."`
	Algorithms []string `yaml:"algorithms" doc:"Signatures taken. None: RS256 and ES256."`
}

// Topic is a topic that exists from the first start.
type Topic struct {
	Name       string            `yaml:"name" doc:"Name."`
	Partitions int               `yaml:"partitions" min:"0" max:"10000" doc:"Partitions; 0 takes num.partitions."`
	Configs    map[string]string `yaml:"configs" doc:"Topic configs, by Kafka's names."`
}

// Route maps MQTT publishes to a Kafka topic.
type Route struct {
	Filter    string            `yaml:"filter" doc:"MQTT topic filter. A level written {name} matches as + does, {name...} as # does; both can be used in the keys below."`
	Topic     string            `yaml:"topic" doc:"Kafka topic; {name} stands for a captured level."`
	Key       string            `yaml:"key" doc:"Record key; {name} for a captured level, {topic} for the MQTT topic name. Empty: {topic}."`
	Partition int               `yaml:"partition" min:"-1" max:"9999" doc:"Partition; -1 is by the key."`
	Headers   map[string]string `yaml:"headers" doc:"Further record headers; values may use {name}."`
	Timestamp string            `yaml:"timestamp" doc:"JSON pointer to the time in the payload, such as /ts: a number, or a text as of RFC 3339. Empty, or where there is none: the time of arrival."`
	Unit      string            `yaml:"timestamp_unit" doc:"Unit of a number: s, ms, us or ns. Empty: ms."`
	Continue  bool              `yaml:"continue" doc:"Let the messages go on to the routes below, too: each that matches stores a record, up to and with the first without continue; at most 16. All are stored, or none, before the device has its answer. MQTT subscribers get a message once; the further records have the header mqtt.copy."`
	Drop      bool              `yaml:"drop" doc:"Acknowledge the messages and store nothing."`
}

// Downlink publishes a Kafka topic's records to devices.
type Downlink struct {
	Topic  string `yaml:"topic" doc:"Kafka topic to read."`
	To     string `yaml:"to" doc:"MQTT topic to publish to; {key}, {header.NAME}, {topic} and {id}, which names the record, are replaced."`
	QoS    int    `yaml:"qos" min:"0" max:"2" doc:"QoS of the publishes."`
	Retain bool   `yaml:"retain" doc:"Publish as retained messages."`
	Reply  Reply  `yaml:"reply" doc:"Answers of devices, brought back to who wrote the records."`
}

// Reply brings answers to a downlink's records to Kafka.
type Reply struct {
	To      string   `yaml:"to" doc:"MQTT topic of answers, which devices of MQTT 5 get as Response Topic; as downlink's to, ending in a level of text and {id}, such as devices/{key}/reply/{id}. Empty: no answers are awaited."`
	Topic   string   `yaml:"topic" doc:"Kafka topic of answers to records without the header kafka_replyTopic. Empty: they go by routes."`
	Topics  []string `yaml:"topics" doc:"Kafka topics, by name or with * and ?, that the header kafka_replyTopic may name; they must exist. None: it may name none."`
	Timeout Duration `yaml:"timeout" min:"1s" max:"8760h" doc:"How old a record may be when its answer comes. A later one goes by routes, with the header mqtt.reply."`
}

// Upstream is an MQTT broker that the site has already.
type Upstream struct {
	Name        string          `yaml:"name" doc:"Name, unique in this file."`
	URL         string          `yaml:"url" doc:"mqtt://HOST:PORT, mqtts://, ws:// or wss://."`
	ClientID    string          `yaml:"client_id" doc:"Client identifier there; the session with what was not delivered hangs on it. Empty: weir.SITE.NAME."`
	Username    string          `yaml:"username" doc:"User there."`
	Password    string          `yaml:"password" doc:"Password."`
	CA          string          `yaml:"ca" doc:"PEM file of the authorities trusted with mqtts and wss. Empty: the system's."`
	Cert        string          `yaml:"cert" doc:"PEM file of the client certificate, for a broker that wants one."`
	Key         string          `yaml:"key" doc:"PEM file of its key."`
	In          []UpstreamTopic `yaml:"in" doc:"Messages to take from there. They go by routes, as a device's do."`
	Out         []UpstreamTopic `yaml:"out" doc:"Messages to publish there."`
	MaxInflight int             `yaml:"max_inflight" min:"1" max:"16384" doc:"Messages of each direction that wait for an acknowledgement; no more are read meanwhile."`
	KeepAlive   Duration        `yaml:"keep_alive" min:"1s" max:"18h" doc:"Keep alive of the connection."`
	RetryMax    Duration        `yaml:"retry_max" min:"1s" max:"24h" doc:"Longest pause between attempts to connect."`
}

// UpstreamTopic is messages of one direction.
type UpstreamTopic struct {
	Filter string `yaml:"filter" doc:"MQTT topic filter."`
	QoS    int    `yaml:"qos" min:"0" max:"1" doc:"QoS, at most. A message of QoS 2 goes on with QoS 1: across a crash of the link QoS 2 would not be exactly once, and QoS 1 says so: a message may come twice, none is lost." why:"across a crash of the link QoS 2 would not be exactly once; with QoS 1 a message may come twice, and none is lost"`
	Local  string `yaml:"local_prefix" doc:"What topic names begin with here, before what filter matches."`
	Remote string `yaml:"remote_prefix" doc:"What they begin with there."`
}

// Plugins bounds what guests may take.
type Plugins struct {
	Max         int      `yaml:"max" min:"1" max:"1000" doc:"Deployed plugins."`
	Memory      Size     `yaml:"memory" min:"1Mi" max:"1Gi" doc:"Memory of one instance whose manifest does not say."`
	MaxMemory   Size     `yaml:"max_memory" min:"1Mi" max:"1Gi" doc:"The most memory a manifest may ask for."`
	TotalMemory Size     `yaml:"total_memory" min:"1Mi" max:"64Gi" doc:"Memory of all instances together."`
	CallTime    Duration `yaml:"call_time" min:"1ms" max:"1m" doc:"Time one call may take where the manifest does not say."`
	MaxCallTime Duration `yaml:"max_call_time" min:"1ms" max:"10m" doc:"The most time a manifest may ask for."`
}

// Mirror lists the flows.
type Mirror struct {
	Flows []Flow `yaml:"flows" doc:"One entry per flow, independent of the others."`
}

// Flow pushes topics of this appliance to another cluster.
type Flow struct {
	Name        string   `yaml:"name" doc:"Name, unique in this file. A renamed flow is a new one: it starts from the beginning."`
	To          []string `yaml:"to" kind:"address" doc:"Bootstrap addresses of the cluster that receives: Apache Kafka or another Weir."`
	Topics      []string `yaml:"topics" doc:"Topics to mirror: names, or patterns with * and ?. Internal topics only when named in full."`
	Exclude     []string `yaml:"exclude" doc:"Topics not to mirror although topics matches them."`
	Rename      string   `yaml:"rename" doc:"Name at the target. Empty: {site}.{topic}. {topic} alone keeps names."`
	Compression string   `yaml:"compression" oneof:"none|gzip|snappy|lz4|zstd" doc:"Codec of small batches that are merged; others pass as they are."`
	OnGap       string   `yaml:"on_gap" oneof:"halt|gap-and-continue" doc:"What to do when records cannot be mirrored any more: stop the partition, or write a gap record and go on."`
	MaxInFlight Size     `yaml:"max_in_flight" min:"1Mi" max:"1Gi" doc:"Memory for what is fetched and not yet acknowledged."`
	RetryMax    Duration `yaml:"retry_max" min:"1s" max:"24h" doc:"Longest pause between attempts to reach the target."`
	Replication int      `yaml:"replication_factor" min:"0" max:"100" doc:"Of topics made at the target; 0 leaves it to the target."`
	TLS         FlowTLS  `yaml:"tls" doc:"Encryption of the link."`
	SASL        FlowSASL `yaml:"sasl" doc:"How the flow logs in at the target."`
}

// FlowTLS is the encryption of a flow.
type FlowTLS struct {
	Enable     bool   `yaml:"enable" doc:"Use TLS."`
	CA         string `yaml:"ca" doc:"PEM file of the authorities trusted. Empty: the system's."`
	Cert       string `yaml:"cert" doc:"PEM file of the client certificate, for a target that wants one."`
	Key        string `yaml:"key" doc:"PEM file of its key."`
	ServerName string `yaml:"server_name" doc:"Name expected in the target's certificate. Empty: the host dialled."`
}

// FlowSASL is a user of the target cluster.
type FlowSASL struct {
	Mechanism string `yaml:"mechanism" oneof:"none|PLAIN|SCRAM-SHA-256|SCRAM-SHA-512" doc:"SASL mechanism."`
	Username  string `yaml:"username" doc:"User."`
	Password  string `yaml:"password" doc:"Password."`
}

// Fleet is serf's configuration.
type Fleet struct {
	Bind      string            `yaml:"bind" kind:"address" doc:"Gossip address (TCP and UDP). Empty: no fleet."`
	Advertise string            `yaml:"advertise" kind:"address" doc:"Gossip address told to other sites. Empty: bind."`
	Join      []string          `yaml:"join" kind:"address" doc:"Sites to join at start; they need not be up."`
	Key       string            `yaml:"key" doc:"Gossip encryption key, 16, 24 or 32 bytes in base64, the same at every site."`
	Tags      map[string]string `yaml:"tags" doc:"Tags shown to other sites."`
}

// Storage says how acknowledged data reaches the disk.
type Storage struct {
	CommitProfile      string   `yaml:"commit.profile" oneof:"auto|sync|flash|wear|relaxed" doc:"sync starts a commit round when the last ends. flash gathers for 20 ms, and for 100 ms until a block of 4 KiB is full, wear for 1 s, which spares SD cards and eMMC. auto is flash on these and where data.endurance is given, and sync elsewhere. All of them acknowledge only what is on disk. relaxed acknowledges before that and syncs within 1 s, except for topics whose flush.messages is 1: a power cut can lose acknowledged records."`
	CommitLinger       Duration `yaml:"commit.linger" min:"0s" max:"10s" doc:"How long a round gathers, instead of the profile's time; 0s takes the profile's."`
	CommitBytes        Size     `yaml:"commit.max.bytes" min:"64Ki" max:"256Mi" doc:"Bytes that may wait for one commit round; further appends wait."`
	WALFileBytes       Size     `yaml:"wal.file.bytes" min:"64Ki" max:"1Gi" doc:"Size of one write-ahead log file; at least twice commit.max.bytes."`
	WALFiles           int      `yaml:"wal.files" min:"2" max:"64" doc:"Most files of the write-ahead log."`
	WritebackBytes     Size     `yaml:"writeback.max.bytes.per.second" min:"0" max:"1Ti" doc:"How fast segments are written to the disk ahead of the checkpoint, which then keeps it from producers for less time. Faster bursts are left to the checkpoint. 0: nothing is written ahead."`
	CheckpointInterval Duration `yaml:"checkpoint.interval" min:"0s" max:"10m" doc:"How long the write-ahead log may hold what the segments were not synced for. Shorter recovers faster, longer writes less. 0s takes the profile's: 10 s in sync, 1 m in the others."`
}

// Clock says how far the machine's clock is trusted.
type Clock struct {
	MaxJump      Duration `yaml:"max_jump" min:"1m" max:"8760h" doc:"Largest jump of the machine's clock that is followed at once. A larger one is followed when it is confirmed."`
	ConfirmAfter Duration `yaml:"confirm_after" min:"1s" max:"24h" doc:"How long the kernel must say without a break that a time service (NTP) keeps its clock, to confirm a jump."`
	Battery      bool     `yaml:"battery" doc:"The board has a battery-backed clock: after any time switched off it is trusted at once."`
}

// Runtime is what the process may take of the board.
type Runtime struct {
	MemoryLimit Size `yaml:"memory_limit" min:"0" max:"1Ti" doc:"Soft memory limit of the process (GOMEMLIMIT); 0 sets none."`
	GCPercent   int  `yaml:"gc_percent" min:"10" max:"1000" doc:"Heap growth between collections (GOGC)."`
}

// Log is Weir's own log.
type Log struct {
	Level  string `yaml:"level" oneof:"debug|info|warn|error" doc:"Least level shown."`
	Format string `yaml:"format" oneof:"text|json" doc:"Form of each line."`
}

// Default is the configuration of a run without file and without board profile:
// an appliance on loopback.
func Default() Config {
	return Config{
		Profile: "auto",
		Data:    Data{Dir: "data", Budget: "100%", Policy: "reject", Reserve: 64 << 20, Trash: Duration(24 * time.Hour), Lifetime: Duration(5 * 365 * 24 * time.Hour)},
		Kafka: Kafka{
			Listen: []KafkaListener{{Address: "127.0.0.1:9092"}}, NumPartitions: 1, AutoCreateTopics: true,
			RetentionHours: 168, RetentionBytes: -1, RetentionCheck: Duration(5 * time.Minute), SegmentBytes: 64 << 20,
			CleanerEnable: true, CleanerMapBytes: 16 << 20, CleanerIOBytes: 16 << 20, CleanerBackoff: Duration(15 * time.Second),
			TransactionMaxTimeout: Duration(15 * time.Minute), TransactionalIDExpiration: Duration(7 * 24 * time.Hour), MaxTransactionalIDs: 10_000, ProducerIDExpiration: Duration(24 * time.Hour),
			GroupMaxSize: 500, GroupMinSessionTimeout: Duration(6 * time.Second), GroupMaxSessionTimeout: Duration(30 * time.Minute), GroupInitialDelay: Duration(3 * time.Second),
			ConsumerSessionTimeout: Duration(45 * time.Second), ConsumerHeartbeatInterval: Duration(5 * time.Second), MaxGroups: 1000, MaxOffsets: 100_000, OffsetMetadataMaxBytes: 4096,
			OffsetsRetentionMinutes: 7 * 24 * 60, MessageMaxBytes: 1<<20 + 12, MaxRequestBytes: 32 << 20, MaxQueuedBytes: 128 << 20, MaxFetchBytes: 55 << 20,
			MaxFetchSessions: 1000, MaxConnections: 512, MaxConnectionsPerIP: 256, QuotaSamples: 11, QuotaSampleSeconds: 1, MaxPartitions: 10_000,
			MaxProducers: 4096, MaxAborted: 100_000, MaxRequestPartitions: 10_000, MaxRequestElements: 100_000,
			MaxOtherBytes: 1 << 20, MaxAdminBytes: 64 << 10, MaxDecompressed: 32 << 20, MaxFetchPartitions: 100_000, FetchMaxWait: Duration(30 * time.Second),
			MaxInFlight: 256, MaxQueuedReplies: 4, MaxAutoCreate: 64, MaxDescribed: 2000, MaxIdle: Duration(10 * time.Minute),
			SetupTimeout: Duration(10 * time.Second), ReadTimeout: Duration(30 * time.Second), WriteTimeout: Duration(30 * time.Second),
			ConsumerMigration: "bidirectional", GroupMaxProtocols: 32, GroupMaxSubscription: 1 << 20, GroupMaxRegex: 1 << 10, GroupMaxAssignment: 1 << 20, MaxIDBytes: 255,
			TransactionPartitions: 10_000, TransactionCheck: Duration(time.Second), OffsetsRetentionCheck: Duration(10 * time.Minute), QuotaEntities: 1000, QuotaClients: 10_000,
		},
		MQTT: MQTT{
			Listen: []MQTTListener{{Address: "127.0.0.1:1883", ClientAuth: clientAuthDefault}}, Anonymous: "auto", ClientID: "*", MaxConnections: 5_000, MaxRatePerIP: 500, MaxConnectionsPerIP: 1_000, MaxSessions: 10_000, MaxWaitingWills: 10_000,
			MaxKeepAlive: Duration(time.Hour), SysInterval: Duration(10 * time.Second), ConnectTimeout: Duration(10 * time.Second), WriteTimeout: Duration(30 * time.Second),
			MaxFilters: 256, MaxTopicLevels: 16, MaxTopicBytes: 1 << 10, MaxOutgoing: 256 << 10,
			SessionExpiry: Duration(7 * 24 * time.Hour), MaxPacket: 1_000_000, ReceiveMaximum: 1_024, MaxInflight: 1_024,
			MaxRetained: 100_000, MaxRetainedBytes: 64 << 20, MaxTopics: 1_000,
			Sparkplug: Sparkplug{MaxNodes: 1_000, MaxDevices: 10_000, RebirthInterval: Duration(10 * time.Second)},
		},
		HTTP: HTTP{Listen: []string{"127.0.0.1:8080"}, MaxUpload: 32 << 20},
		TLS:  TLS{ClientAuth: "none"},
		Auth: Auth{AllowEveryone: "auto", Iterations: 4096, MaxReauth: Duration(time.Hour), MaxUsers: 10_000, MaxRules: 10_000, FailureDelay: Duration(100 * time.Millisecond), MaxFailureDelay: Duration(5 * time.Second), MaxFailedFrom: 4096, MaxRemembered: 1024, MaxAuditQueue: 1024, Audit: "auto", OAuth: OAuth{Claim: "sub"}},
		Plugins: Plugins{
			Max: 64, Memory: 16 << 20, MaxMemory: 64 << 20, TotalMemory: 256 << 20,
			CallTime: Duration(100 * time.Millisecond), MaxCallTime: Duration(10 * time.Second),
		},
		Storage: Storage{
			WritebackBytes: 32 << 20,
			CommitProfile:  "auto", CommitBytes: 4 << 20, WALFileBytes: 16 << 20, WALFiles: 8,
		},
		Clock:   Clock{MaxJump: Duration(time.Hour), ConfirmAfter: Duration(5 * time.Minute)},
		Runtime: Runtime{GCPercent: 100},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// withDefaults is implemented by list entries that have defaults of their own.
type withDefaults interface{ setDefaults() }

func (l *MQTTListener) setDefaults() { l.ClientAuth = clientAuthDefault }

func (r *Route) setDefaults() { r.Partition = -1 }

func (d *Downlink) setDefaults() { d.Reply.Timeout = Duration(24 * time.Hour) }

func (u *Upstream) setDefaults() {
	*u = Upstream{MaxInflight: 256, KeepAlive: Duration(30 * time.Second), RetryMax: Duration(time.Minute)}
}

func (t *UpstreamTopic) setDefaults() { t.QoS = 1 }

func (f *Flow) setDefaults() {
	*f = Flow{
		Compression: "lz4", OnGap: "halt", MaxInFlight: 32 << 20, RetryMax: Duration(15 * time.Second),
		SASL: FlowSASL{Mechanism: "none"},
	}
}
