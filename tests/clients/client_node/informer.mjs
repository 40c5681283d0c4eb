// The JavaScript client: an informer beside writes, its cache, its restart where it stopped, and a pod that is entered.
import assert from 'node:assert';
import { PassThrough } from 'node:stream';
import { readFileSync } from 'node:fs';
import * as k8s from '@kubernetes/client-node';

const { NAMESPACE: namespace, IMAGE: image, NODE: node } = process.env;
const SOON_MS = 60_000;

async function until(what, check) {
    for (const ends = Date.now() + SOON_MS; Date.now() < ends; ) {
        const found = await check();
        if (found) return found;
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`not in time: ${what}`);
}

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const mergePatch = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
const configMap = (name, data) => ({ metadata: { name, labels: { informed: 'yes' } }, data });

async function informs() {
    const seen = [];
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'informed=yes' });
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const informer = k8s.makeInformer(config, path, list, 'informed=yes');
    for (const verb of ['add', 'update', 'delete']) {
        informer.on(verb, (object) => seen.push(`${verb} ${object.metadata.name} ${object.data?.n ?? ''}`.trim()));
    }
    let failure;
    // The client calls its own end of a watch an error, too.
    informer.on('error', (error) => (failure ??= error.type === 'aborted' ? undefined : error));
    await core.createNamespacedConfigMap({ namespace, body: configMap('before', { n: '0' }) });
    await informer.start();
    await core.createNamespacedConfigMap({ namespace, body: configMap('during', { n: '1' }) });
    await until('add', () => seen.includes('add during 1'));
    await core.patchNamespacedConfigMap({ namespace, name: 'during', body: { data: { n: '2' } } }, mergePatch);
    await until('update', () => seen.includes('update during 2'));
    await core.deleteNamespacedConfigMap({ namespace, name: 'before' });
    await until('delete', () => seen.some((line) => line.startsWith('delete before')));
    assert.deepEqual(informer.list(namespace).map((object) => object.metadata.name), ['during']);
    // What happens while it does not watch is found out when it watches again.
    await informer.stop();
    await core.createNamespacedConfigMap({ namespace, body: configMap('between', { n: '3' }) });
    await core.deleteNamespacedConfigMap({ namespace, name: 'during' });
    await informer.start();
    await until('what came between', () => seen.includes('add between 3'));
    await until('what went between', () => seen.some((line) => line.startsWith('delete during')));
    assert.equal(informer.get('between', namespace).data.n, '3');
    await informer.stop();
    assert.equal(failure, undefined);
    return seen.length;
}

async function enters() {
    const container = { name: 'it', image, command: ['sh', '-c', 'echo hello; sleep 1000'] };
    const spec = { containers: [container], terminationGracePeriodSeconds: 0 };
    await core.createNamespacedPod({ namespace, body: { metadata: { name: 'entered' }, spec } });
    const read = () => core.readNamespacedPod({ namespace, name: 'entered' });
    await until('the pod runs', async () => (await read()).status.phase === 'Running');
    let said = '';
    const out = new PassThrough();
    out.on('data', (chunk) => (said += chunk));
    const ended = new Promise((resolve, reject) => {
        const exec = new k8s.Exec(config);
        const command = ['sh', '-c', 'echo inside; exit 3'];
        exec.exec(namespace, 'entered', 'it', command, out, out, null, false, resolve).catch(reject);
    });
    const status = await ended;
    assert.equal(said, 'inside\n');
    assert.equal(status.details.causes[0].message, '3');
    let logged = '';
    const log = new PassThrough();
    log.on('data', (chunk) => (logged += chunk));
    const following = await new k8s.Log(config).log(namespace, 'entered', 'it', log, { follow: true });
    await until('the log', () => logged.includes('hello'));
    following.abort();
    const usage = () => new k8s.Metrics(config).getNodeMetrics();
    await until('usage', async () => (await usage()).items.some((item) => item.metadata.name === node));
    await core.deleteNamespacedPod({ namespace, name: 'entered' });
}

async function applies() {
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { a: '1' } };
    await objects.patch(body, undefined, undefined, 'node', true, k8s.PatchStrategy.ServerSideApply);
    const found = await objects.read(body);
    assert.equal(found.metadata.managedFields[0].operation, 'Apply');
    await objects.delete(body);
    await assert.rejects(objects.read(body), (error) => error.code === 404);
}

const count = await informs();
await enters();
await applies();
const { version } = JSON.parse(readFileSync('node_modules/@kubernetes/client-node/package.json'));
console.log(`client-node ${version}: ${count} events of an informer, exec, log, usage, server-side apply`);
