// KafkaJS as a program: what it is asked and how it answers stands in tests/clients/__init__.py.
'use strict'

const readline = require('node:readline')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const LZ4 = require('kafkajs-lz4')
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec

const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4,
}

const kafka = new Kafka({
  brokers: [process.argv[2]],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, maxRetryTime: 2000, retries: 40 },
})

// Without many retries: KafkaJS makes them for a topic that is not there, too.
const admin = () => kafka.admin({ retry: { retries: 2 } })

const requests = []
let wake = () => {}

function tell(event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

const encoded = data => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))
const decoded = text => (text === null ? null : Buffer.from(text, 'base64'))

function tellRecord(partition, { offset, timestamp, key, value, headers }) {
  const pairs = Object.entries(headers || {}).flatMap(([name, values]) =>
    [values].flat().map(header => [name, encoded(header)]))
  tell({
    record: {
      partition, offset: Number(offset), timestamp: Number(timestamp), key: encoded(key), value: encoded(value),
      headers: pairs,
    },
  })
}

async function nextRequest() {
  while (requests.length === 0) await new Promise(resolve => { wake = resolve })
  return requests.shift()
}

async function within(client, work) {
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.disconnect()
  }
}

const create = ({ topic, partitions }) => within(admin(), async admin => {
  const created = await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1 }] })
  if (!created) throw new Error('the topic exists')
})

const describe = ({ topic }) => within(admin(), async admin => {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  tell({ partitions: topics[0].partitions.length })
})

const remove = ({ topic }) => within(admin(), admin => admin.deleteTopics({ topics: [topic] }))

const deleteRecords = ({ topic, before }) => within(admin(), async admin => {
  const kept = Object.entries(before)
  const partitions = kept.map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) }))
  // KafkaJS does not look for the leaders by itself.
  await admin.fetchTopicOffsets(topic)
  await admin.deleteTopicRecords({ topic, partitions })
})

const producer = ({ idempotent }) => kafka.producer({ idempotent, allowAutoTopicCreation: true })

const produce = request => within(producer(request), async client => {
  const messages = request.records.map(({ key, value, timestamp, headers }) => ({
    key: decoded(key), value: decoded(value), timestamp: String(timestamp),
    headers: Object.fromEntries(headers.map(([name, header]) => [name, decoded(header)])),
  }))
  for (let from = 0; from < messages.length; from += 50) {
    await client.send({
      topic: request.topic, acks: -1, compression: CODECS[request.codec], messages: messages.slice(from, from + 50),
    })
  }
})

// One request at a time: KafkaJS numbers the batches of an idempotent producer when they are sent.
const flood = request => within(producer(request), async client => {
  let sent = 0
  while (requests.length === 0) {
    const messages = Array.from({ length: 10 }, () => ({ value: String(sent++), partition: 0 }))
    await client.send({ topic: request.topic, acks: -1, messages })
    tell({ acknowledged: sent })
  }
  requests.shift()
  tell({ sent })
})

// There are no consumers outside of groups in KafkaJS.
async function consume({ topic, from, to }) {
  const left = new Map(Object.entries(to).map(([partition, end]) => [Number(partition), end]))
  const client = kafka.consumer({ groupId: `consume-${process.pid}-${Date.now()}`, maxWaitTimeInMs: 200 })
  await within(client, async () => {
    await client.subscribe({ topic, fromBeginning: true })
    let finished, failed
    const end = new Promise((resolve, reject) => { finished = resolve; failed = reject })
    client.on(client.events.CRASH, ({ payload }) => failed(payload.error))
    await client.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (!left.has(partition) || Number(message.offset) < from[partition]) return
        tellRecord(partition, message)
        if (Number(message.offset) + 1 >= left.get(partition)) left.delete(partition)
        if (left.size === 0) finished()
      },
    })
    for (const [partition, offset] of Object.entries(from)) {
      client.seek({ topic, partition: Number(partition), offset: String(offset) })
    }
    await end
  })
}

const offsets = ({ topic, times }) => within(admin(), async admin => {
  const sorted = found => found.sort((one, other) => one.partition - other.partition)
  const marks = sorted(await admin.fetchTopicOffsets(topic))
  tell({ earliest: marks.map(mark => Number(mark.low)), latest: marks.map(mark => Number(mark.high)) })
  for (const time of times) {
    const found = sorted(await admin.fetchTopicOffsetsByTimestamp(topic, time))
    tell({ time, offsets: found.map(({ offset }) => Number(offset)) })
  }
})

async function group({ topic, group: groupId }) {
  const client = kafka.consumer({
    groupId, heartbeatInterval: 500, sessionTimeout: 30000, maxWaitTimeInMs: 200,
  })
  await within(client, async () => {
    await client.subscribe({ topic, fromBeginning: true })
    await client.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        const offset = String(Number(message.offset) + 1)
        try {
          await client.commitOffsets([{ topic, partition, offset }])
        } catch (error) {
          tell({ not_committed: String(error) })
          throw error
        }
        tellRecord(partition, message)
      },
    })
    await nextRequest()
  })
}

const operations = {
  create, describe, delete: remove, delete_records: deleteRecords, produce, flood, consume, offsets, group,
}

async function serve() {
  for (;;) {
    const request = await nextRequest()
    if (request === null) process.exit(0)
    try {
      await operations[request.do](request)
      tell({ done: true })
    } catch (error) {
      tell({ error: String(error) })
    }
  }
}

readline.createInterface({ input: process.stdin })
  .on('line', line => { requests.push(JSON.parse(line)); wake() })
  .on('close', () => { requests.push(null); wake() })
serve()
