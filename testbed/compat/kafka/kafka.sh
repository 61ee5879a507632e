#!/bin/sh
# A real Apache Kafka for tests: one node, KRaft combined mode, loopback only.
#
#   kafka.sh fetch                        resolve the jars from Maven Central into .cache (once)
#   kafka.sh format DIR PORT CPORT [k=v]  make DIR a formatted broker; PORT is Kafka's, CPORT the controller's
#   kafka.sh run DIR                      run it in the foreground: the pid of this command is the broker's
#   kafka.sh tool CLASS ARG...            run one of Kafka's tools, e.g. org.apache.kafka.tools.TopicCommand
#   kafka.sh compile DIR FILE...          compile Java sources against the jars into DIR (needs a JDK)
#   kafka.sh classpath                    print the class path
#
# KAFKA_VERSION is another version than the pom's, KAFKA_CLASSES a folder of classes before the jars,
# KAFKA_HEAP the JVM's heap (-Xmx), KAFKA_JVM further options; KAFKA_CACHE another folder for the jars.
# Stop a broker with kill PID.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=${KAFKA_VERSION:-$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")}
cache=${KAFKA_CACHE:-$here/../../../.cache}
jars=$cache/kafka-$version

for tool in java mvn; do
  command -v $tool >/dev/null || { echo "kafka.sh: $tool is not installed; real Kafka needs a JDK 17 and Maven" >&2; exit 3; }
done

fetch() {
  [ -e "$jars/.complete" ] && [ ! "$here/pom.xml" -nt "$jars/.complete" ] && return
  mkdir -p "$cache"
  exec 9>"$cache/kafka-$version.lock"
  if command -v flock >/dev/null; then flock 9; fi
  [ -e "$jars/.complete" ] && [ ! "$here/pom.xml" -nt "$jars/.complete" ] && return
  rm -rf "$jars"
  mvn -q -B -f "$here/pom.xml" -Dkafka.version="$version" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  : >"$jars/.complete"
  exec 9>&-
}

kafka() { # exec, so that the caller's pid is the JVM's
  exec java -Xmx${KAFKA_HEAP:-512m} ${KAFKA_JVM:--Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1} -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$here/log4j2.properties" -cp "${KAFKA_CLASSES:+$KAFKA_CLASSES:}$jars/*" "$@"
}

format() {
  dir=$1 port=$2 cport=$3
  shift 3
  mkdir -p "$dir"
  {
    cat <<CONF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$cport
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$cport
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.hours=-1
num.network.threads=2
num.io.threads=2
background.threads=2
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=2000
log.cleaner.dedupe.buffer.size=16777216
CONF
    for kv; do echo "$kv"; done
  } >"$dir/server.properties"
  kafka kafka.tools.StorageTool format -t "MkU3OEVBNTcwNTJENDM2Qg" -c "$dir/server.properties" >&2
}

cmd=${1:-}
[ $# -gt 0 ] && shift
case $cmd in
fetch) fetch ;;
format) fetch; format "$@" ;;
run) fetch; kafka kafka.Kafka "$1/server.properties" ;;
tool) fetch; kafka "$@" ;;
compile) fetch; dir=$1; shift; mkdir -p "$dir"; exec javac -nowarn -d "$dir" -cp "$jars/*" "$@" ;;
classpath) fetch; echo "$jars/*" ;;
*) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
