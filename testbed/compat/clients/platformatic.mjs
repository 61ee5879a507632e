// @platformatic/kafka. README.md says what the verbs are.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// The packages are not beside this file: NODE_PATH says where, which import does not know.
const require = createRequire(import.meta.url)
const { Admin, Consumer, ConfigResourceTypes, FetchIsolationLevels, IncrementalAlterConfigOperationTypes, Producer, stringDeserializers, stringSerializers } = require('@platformatic/kafka')
const { BOOTSTRAP, SASL_MECHANISM, SASL_USERNAME, SASL_PASSWORD, CA_FILE, ISOLATION } = process.env

const settings = { clientId: 'compat', bootstrapBrokers: [BOOTSTRAP] }
if (SASL_MECHANISM) {
  settings.tls = { ca: [readFileSync(CA_FILE)] }
  settings.sasl = { mechanism: SASL_MECHANISM, username: SASL_USERNAME, password: SASL_PASSWORD }
}
const records = (topic, name, n, more) => Array.from({ length: n }, (_, i) => ({ topic, key: `k-${i}`, value: `${name}-${i}`, ...more }))

async function version () {
  const manifest = readFileSync(`${process.env.NODE_PATH}/@platformatic/kafka/package.json`)
  console.log(`@platformatic/kafka ${JSON.parse(manifest).version}`)
}

async function produce (prefix, count, ...codecs) {
  const producer = new Producer({ ...settings, serializers: stringSerializers })
  for (const codec of codecs) {
    const messages = records(`${prefix}-${codec}`, codec, Number(count), { headers: { codec } })
    messages.forEach((m, i) => { m.value = `${codec}-${String(i).padStart(5, '0')}` })
    await producer.send({ messages, compression: codec, acks: -1 })
  }
  await producer.close()
}

async function consume (groupId, topic) {
  const consumer = new Consumer({ ...settings, groupId, deserializers: stringDeserializers, sessionTimeout: 6000, heartbeatInterval: 500 })
  const stream = await consumer.consume({
    topics: [topic], mode: 'committed', fallbackMode: 'earliest', autocommit: true, maxWaitTime: 500,
    isolationLevel: ISOLATION === 'read_committed' ? FetchIsolationLevels.READ_COMMITTED : FetchIsolationLevels.READ_UNCOMMITTED
  })
  stream.on('data', message => { console.log(message.value) })
  stream.on('error', fail)
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await stream.close()
  await consumer.close()
}

async function transact (topic, transactionalId) {
  const producer = new Producer({ ...settings, transactionalId, idempotent: true, serializers: stringSerializers })
  const aborted = await producer.beginTransaction()
  await aborted.send({ messages: records(topic, 'aborted', 10) })
  await aborted.abort()
  const committed = await producer.beginTransaction()
  await committed.send({ messages: records(topic, 'committed', 10) })
  await committed.commit()
  await producer.close()
}

async function admin (topic) {
  const client = new Admin(settings)
  const partitions = async () => (await client.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic).partitions.length
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic }
  await client.createTopics({ topics: [topic], partitions: 3, replicas: 1 })
  expect((await client.listTopics()).includes(topic), true)
  expect(await partitions(), 3)
  await client.incrementalAlterConfigs({ resources: [{ ...resource, configs: [{ name: 'retention.ms', value: '123456', configOperation: IncrementalAlterConfigOperationTypes.SET }] }] })
  const described = await client.describeConfigs({ resources: [{ ...resource, configurationKeys: ['retention.ms'] }] })
  expect(described[0].configs[0].value, '123456')
  await client.createPartitions({ topics: [{ name: topic, count: 5, assignments: null }] })
  expect(await partitions(), 5)
  await client.listGroups()
  await client.deleteTopics({ topics: [topic] })
  await client.close()
}

function expect (got, want) {
  if (got !== want) throw new Error(`got ${got}, want ${want}`)
}

function fail (err) {
  console.error(err)
  process.exit(1)
}

const [verb, ...args] = process.argv.slice(2)
;({ version, produce, consume, transact, admin })[verb](...args).then(() => process.exit(0), fail)
