// kafkajs. README.md says what the verbs are. Its Java-like partitioner is the one that its own migration guide names.
'use strict'
const fs = require('node:fs')
const lz4 = require('lz4js')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer))
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd()).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd()).decompress(buffer))
})
const zstd = () => new Promise(resolve => require('zstd-codec').ZstdCodec.run(z => resolve(new z.Simple())))

const types = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }
const { BOOTSTRAP, SASL_MECHANISM, SASL_USERNAME, SASL_PASSWORD, CA_FILE, ISOLATION } = process.env

const security = SASL_MECHANISM && {
  ssl: { ca: [fs.readFileSync(CA_FILE, 'utf8')] },
  sasl: { mechanism: SASL_MECHANISM.toLowerCase(), username: SASL_USERNAME, password: SASL_PASSWORD }
}
const kafka = new Kafka({ clientId: 'compat', brokers: [BOOTSTRAP], logLevel: logLevel.ERROR, logCreator: () => entry => console.error(JSON.stringify(entry)), ...security })
const newProducer = more => kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...more })
const records = (name, n, more) => Array.from({ length: n }, (_, i) => ({ key: `k-${i}`, value: `${name}-${i}`, ...more }))

async function version () {
  console.log(`kafkajs ${require('kafkajs/package.json').version}`)
}

async function produce (prefix, count, ...codecs) {
  const producer = newProducer()
  await producer.connect()
  for (const codec of codecs) {
    const messages = records(codec, Number(count), { headers: { codec } })
    messages.forEach((m, i) => { m.value = `${codec}-${String(i).padStart(5, '0')}` })
    await producer.send({ topic: `${prefix}-${codec}`, compression: types[codec], acks: -1, messages })
  }
  await producer.disconnect()
}

async function consume (groupId, topic) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, readUncommitted: ISOLATION !== 'read_committed' })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => { console.log(message.value.toString()) } })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await consumer.disconnect()
}

async function transact (topic, transactionalId) {
  const producer = newProducer({ transactionalId, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const aborted = await producer.transaction()
  await aborted.send({ topic, messages: records('aborted', 10) })
  await aborted.abort()
  const committed = await producer.transaction()
  await committed.send({ topic, messages: records('committed', 10) })
  await committed.commit()
  await producer.disconnect()
}

async function admin (topic) {
  const client = kafka.admin()
  await client.connect()
  const partitions = async () => (await client.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  expect(await client.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 3 }] }), true)
  expect((await client.listTopics()).includes(topic), true)
  expect(await partitions(), 3)
  await client.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '123456' }] }] })
  const described = await client.describeConfigs({ includeSynonyms: false, resources: [{ ...resource, configNames: ['retention.ms'] }] })
  expect(described.resources[0].configEntries[0].configValue, '123456')
  await client.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  expect(await partitions(), 5)
  await client.listGroups()
  await client.describeCluster()
  await client.deleteTopics({ topics: [topic] })
  await client.disconnect()
}

function expect (got, want) {
  if (got !== want) throw new Error(`got ${got}, want ${want}`)
}

const [verb, ...args] = process.argv.slice(2)
;({ version, produce, consume, transact, admin })[verb](...args).then(() => process.exit(0), err => { console.error(err); process.exit(1) })
