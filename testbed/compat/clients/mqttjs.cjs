// The MQTT driver of MQTT.js; see README.md.
const mqtt = require('mqtt');
const assert = require('node:assert');

const url = `mqtt://${process.env.MQTT_HOST}:${process.env.MQTT_PORT}`;
const names = (n, what) => Array.from({ length: n }, (_, i) => `${what}-${String(i).padStart(4, '0')}`);

async function connect(level, clientId, clean) {
  const five = level === '5';
  const client = await mqtt.connectAsync(url, {
    clientId, clean, protocolVersion: five ? 5 : 4, reconnectPeriod: 0,
    properties: five ? { sessionExpiryInterval: clean ? 0 : 600, topicAliasMaximum: 10 } : undefined,
    autoAssignTopicAlias: five, autoUseTopicAlias: five, resubscribe: false,
  });
  return client;
}

// collect keeps what a client is sent. It must be called before the connection is up.
function collect(client) {
  const got = [];
  client.on('message', (topic, payload, packet) => got.push({ topic, text: payload.toString(), packet }));
  return got;
}

async function until(what, done) {
  for (const end = Date.now() + 30000; !done();) {
    if (Date.now() > end) throw new Error(what());
    await new Promise((r) => setTimeout(r, 5));
  }
}

async function session(level, clientId, clean) {
  const five = level === '5';
  const client = mqtt.connect(url, {
    clientId, clean, protocolVersion: five ? 5 : 4, reconnectPeriod: 0, resubscribe: false,
    properties: five ? { sessionExpiryInterval: clean ? 0 : 600, topicAliasMaximum: 10 } : undefined,
  });
  const got = collect(client);
  const connack = await new Promise((resolve, reject) => { client.once('connect', resolve); client.once('error', reject); });
  return { client, got, present: connack.sessionPresent };
}

async function check(level, prefix) {
  const pub = await connect(level, prefix + '-p', false);
  let sub = await session(level, prefix + '-s', false);
  await sub.client.subscribeAsync(prefix + '/t/+', { qos: 2 });
  for (const qos of [0, 1, 2]) {
    await Promise.all(names(200, 'q' + qos).map((p) => pub.publishAsync(`${prefix}/t/${qos}`, p, { qos })));
  }
  await until(() => `${sub.got.length} messages of 600`, () => sub.got.length >= 600);
  for (const qos of [0, 1, 2]) {
    assert.deepStrictEqual(sub.got.map((m) => m.text).filter((t) => t.startsWith('q' + qos)), names(200, 'q' + qos), 'QoS ' + qos);
  }
  await sub.client.endAsync();
  await Promise.all(names(100, 'away').map((p) => pub.publishAsync(prefix + '/t/away', p, { qos: 2 })));
  sub = await session(level, prefix + '-s', false);
  assert(sub.present, 'the session is gone');
  await until(() => `${sub.got.length} messages of 100`, () => sub.got.length >= 100);
  assert.deepStrictEqual(sub.got.map((m) => m.text), names(100, 'away'), 'what was missed');
  await pub.publishAsync(prefix + '/kept', 'state', { qos: 1, retain: true });
  const late = await session(level, prefix + '-l', true);
  await late.client.subscribeAsync(prefix + '/kept', { qos: 1 });
  await until(() => 'no retained message', () => late.got.length >= 1);
  assert(late.got[0].packet.retain, 'no RETAIN');
  if (level === '5') {
    await late.client.subscribeAsync(prefix + '/props', { qos: 2, properties: { subscriptionIdentifier: 7 } });
    await pub.publishAsync(prefix + '/props', 'x', { qos: 2, properties: {
      contentType: 'text/plain', responseTopic: 'answer', correlationData: Buffer.from([0, 1]), userProperties: { b: ['1', '3'], a: '2' } } });
    await until(() => 'no message with properties', () => late.got.length >= 2);
    const p = late.got[1].packet.properties;
    assert.strictEqual(p.contentType + p.responseTopic + p.correlationData.toString('hex') + p.subscriptionIdentifier, 'text/plainanswer00017');
    assert.deepStrictEqual({ ...p.userProperties }, { b: ['1', '3'], a: '2' });
    const other = await session(level, prefix + '-o', true);
    for (const c of [late, other]) await c.client.subscribeAsync(`$share/g/${prefix}/work`, { qos: 1 });
    late.got.length = 0;
    await Promise.all(names(100, 'job').map((j) => pub.publishAsync(prefix + '/work', j, { qos: 1 })));
    await until(() => `${late.got.length} and ${other.got.length} of 100 shared`, () => late.got.length + other.got.length >= 100);
    assert.deepStrictEqual([...late.got, ...other.got].map((m) => m.text).sort(), names(100, 'job'));
    assert(late.got.length > 0 && other.got.length > 0, 'one member got everything');
    await other.client.endAsync();
  }
  for (const c of [late.client, sub.client, pub]) await c.endAsync();
}

const [verb, level, prefix] = process.argv.slice(2);
if (verb === 'version') {
  console.log('MQTT.js', require('mqtt/package.json').version);
} else {
  check(level, prefix).catch((err) => { console.error(err); process.exit(1); });
}
