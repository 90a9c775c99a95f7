// livy-client 1.0.1 from npm, unchanged: livy_client.js FOLDER PORT, where FOLDER has it installed.

const assert = require('assert')
const [folder, port] = process.argv.slice(2)
const LivyClient = require(require.resolve('livy-client', { paths: [folder] }))

// Waits until an object of the client tells of a state.
const until = (of, state) => new Promise((resolve, reject) => {
    of.once(state, resolve)
    of.once('error', reject)
})

async function main() {
    const client = new LivyClient({ host: '127.0.0.1', port: Number(port) })
    const session = await client.createSession({ kind: 'sql', name: 'from node' }, { autoupdate: false })
    assert.deepStrictEqual(await session.state(), { id: session.id, state: 'idle' })
    const statement = await session.run({ code: 'select 40 + 2 as answer' }, { updateInterval: 20 })
    const ended = await until(statement, 'available')
    assert.deepStrictEqual(ended.output.data['application/json'].data, [[42]])
    assert.strictEqual((await session.statements()).length, 1)
    assert.ok((await session.log({ from: 0, size: 5 })).log.length > 0)
    const long = 'select count(*) from generate_series(1, 4000000) a cross join generate_series(1, 1000000) b where a.value <> b.value'
    const cancelled = await session.run({ code: long }, { updateInterval: 20 })
    assert.deepStrictEqual(await cancelled.cancel(), { msg: 'canceled' })
    await until(cancelled, 'cancelled')
    assert.strictEqual((await client.sessions()).length, 1)
    assert.deepStrictEqual(await session.kill(), { msg: 'deleted' })
    assert.strictEqual((await client.sessions()).length, 0)
}

main().then(() => process.exit(0), error => {
    console.error(error)
    process.exit(1)
})
