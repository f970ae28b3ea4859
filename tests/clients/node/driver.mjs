// The official JavaScript client, with its defaults.
//
// The harness sets NAMESPACE, PREFIX, POD, COUNT and IN_FLIGHT in the environment, and KUBECONFIG or the
// variables of a cluster. This prints one line of JSON.
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const { NAMESPACE = 'default', PREFIX, POD, COUNT = '0', IN_FLIGHT = '1' } = process.env;
const config = new k8s.KubeConfig();

async function create(name) {
  const resources = { requests: { cpu: '1m', memory: '1Mi' } };
  const containers = [{ name: 'main', image: 'registry.k8s.io/pause:3.10', resources }];
  const body = { metadata: { name }, spec: { containers } };
  const stored = await config.makeApiClient(k8s.CoreV1Api).createNamespacedPod({ namespace: NAMESPACE, body });
  return stored.metadata.name;
}

async function storm() {
  const created = [];
  const failed = {};
  const names = Array.from({ length: Number(COUNT) }, (_, i) => `${PREFIX}-${i}`);
  const started = performance.now();
  const work = async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      try {
        created.push(await create(name));
      } catch (error) {
        failed[name] = said(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Number(IN_FLIGHT) }, work));
  return { created, failed, seconds: (performance.now() - started) / 1000 };
}

async function whoami() {
  const review = await config.makeApiClient(k8s.AuthenticationV1Api).createSelfSubjectReview({ body: {} });
  return { user: review.status.userInfo.username };
}

// Watch, log, exec and port-forward of a running pod.
async function streams() {
  const all = `/api/v1/namespaces/${NAMESPACE}/pods`;
  const seen = await new Promise((resolve, reject) => {
    const event = (_, pod) => resolve(pod.metadata.name);
    new k8s.Watch(config).watch(all, {}, event, reject).catch(reject);
  });
  const log = new PassThrough();
  await new k8s.Log(config).log(NAMESPACE, POD, 'main', log, { follow: true });
  const out = new PassThrough();
  let printed = '';
  out.on('data', (chunk) => (printed += chunk));
  const command = ['sh', '-c', 'echo out'];
  await new Promise((resolve, reject) => {
    new k8s.Exec(config)
      .exec(NAMESPACE, POD, 'main', command, out, process.stderr, null, false, resolve)
      .catch(reject);
  });
  const [there, back] = [new PassThrough(), new PassThrough()];
  await new k8s.PortForward(config).portForward(NAMESPACE, POD, [80], back, process.stderr, there);
  there.write('ping');
  return { watch: seen, log: `${await first(log)}`, exec: printed, forward: `${await first(back)}` };
}

const first = (stream) => new Promise((resolve) => stream.once('data', resolve));

function said(error) {
  const cause = error.cause ? ` <- ${said(error.cause)}` : '';
  return `${error.name}: ${error.message}${cause}`;
}

const actions = { create: storm, whoami, streams };
let report;
try {
  config.loadFromDefault();
  report = await actions[process.argv[3]]();
} catch (error) {
  report = { error: said(error) };
}
const manifest = new URL('node_modules/@kubernetes/client-node/package.json', import.meta.url);
report.version = `${JSON.parse(readFileSync(manifest)).version} on Node.js ${process.version}`;
console.log(JSON.stringify(report));
process.exit(0);
