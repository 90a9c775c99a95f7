// A DynamoDB server of its own on a free port of 127.0.0.1, with faults on demand: prints its URL and serves until its input ends.
//
//   node dynalite_server.js FOLDER     FOLDER: where npm has installed dynalite
//
// Each line of its input is a command, and has one line as its answer:
//
//   {"call": "PutItem", "body": {…}}           the answer of the service, {"status": 200, "body": {…}}
//   {"fault": {"code": "ThrottlingException", "status": 400, "count": 3, "targets": ["Scan"], "after": 1}}
//                                              the next requests of these kinds are refused; code "reset": the connection is cut
//   {"unprocessed": 2}                         the next batches are processed by half
//   {"delay": 20}                              milliseconds before each answer
//   {"requests": true}                         all requests so far, [{"target": "Scan", "body": {…}}], which are then forgotten

const http = require('http')
const path = require('path')
const readline = require('readline')

const dynalite = require(path.join(process.argv[2], 'node_modules', 'dynalite'))
const inner = dynalite({ createTableMs: 20, deleteTableMs: 20, updateTableMs: 20 })
let faults = []
let unprocessed = 0
let delay = 0
let requests = []

const AUTHORIZATION =
  'AWS4-HMAC-SHA256 Credential=key/20260101/eu-central-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0'

function send (headers, body, done) {
  const { port } = inner.address()
  const request = http.request({ host: '127.0.0.1', port, method: 'POST', headers }, (response) => {
    const pieces = []
    response.on('data', (piece) => pieces.push(piece))
    response.on('end', () => done(response.statusCode, response.headers, Buffer.concat(pieces)))
  })
  request.end(body)
}

function refuse (response, status, code) {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' })
  response.end(JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${code}`, message: `injected ${code}` }))
}

function serve (request, response, body) {
  const target = (request.headers['x-amz-target'] || '').split('.')[1]
  requests.push({ target, body: JSON.parse(body) })
  const fault = faults.find((fault) => (!fault.targets || fault.targets.includes(target)) && fault.count > 0)
  if (fault && fault.after > 0) {
    fault.after -= 1
  } else if (fault) {
    fault.count -= 1
    if (fault.code === 'reset') return request.socket.destroy()
    return refuse(response, fault.status || 400, fault.code)
  }
  let left
  if (target === 'BatchWriteItem' && unprocessed > 0) {
    unprocessed -= 1
    const parsed = JSON.parse(body)
    const [table] = Object.keys(parsed.RequestItems)
    const items = parsed.RequestItems[table]
    const half = items.splice(Math.ceil(items.length / 2))
    if (half.length > 0) left = { [table]: half }
    body = Buffer.from(JSON.stringify(parsed))
  }
  const headers = { ...request.headers, 'content-length': body.length, 'accept-encoding': 'identity' }
  send(headers, body, (status, of, answer) => {
    if (left && status === 200) {
      answer = Buffer.from(JSON.stringify({ ...JSON.parse(answer), UnprocessedItems: left }))
    }
    response.writeHead(status, { 'content-type': of['content-type'], 'content-length': answer.length })
    response.end(answer)
  })
}

const server = http.createServer((request, response) => {
  const pieces = []
  request.on('data', (piece) => pieces.push(piece))
  request.on('end', () => setTimeout(() => serve(request, response, Buffer.concat(pieces)), delay))
})

function command (line, answer) {
  const given = JSON.parse(line)
  if (given.call) {
    const headers = {
      'x-amz-target': `DynamoDB_20120810.${given.call}`,
      'content-type': 'application/x-amz-json-1.0',
      'x-amz-date': '20260101T000000Z',
      authorization: AUTHORIZATION
    }
    return send(headers, JSON.stringify(given.body), (status, _, body) => {
      answer({ status, body: body.length > 0 ? JSON.parse(body) : {} })
    })
  }
  if (given.fault) faults.push({ after: 0, ...given.fault })
  if (given.faults === false) faults = []
  if (given.unprocessed !== undefined) unprocessed = given.unprocessed
  if (given.delay !== undefined) delay = given.delay
  if (given.requests) {
    answer(requests)
    requests = []
    return
  }
  answer({})
}

inner.listen(0, '127.0.0.1', () => {
  server.listen(0, '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${server.address().port}`)
    const lines = readline.createInterface({ input: process.stdin })
    lines.on('line', (line) => command(line, (reply) => console.log(JSON.stringify(reply))))
    lines.on('close', () => process.exit(0))
  })
})
