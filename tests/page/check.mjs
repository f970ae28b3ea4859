// Opens the status page in a real browser. It fails on accessibility violations (axe), errors in the
// console, requests to other hosts, numbers that do not change, and a page that needs scripts. With a
// second argument it writes screenshots to that folder.
//
//   node check.mjs http://127.0.0.1:8080/ [FOLDER]

import assert from 'node:assert/strict';
import { join } from 'node:path';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const [url, folder] = process.argv.slice(2);
const origin = new URL(url).origin;
const views = [
  { name: 'light', colorScheme: 'light', viewport: { width: 1280, height: 900 }, shot: {} },
  { name: 'dark', colorScheme: 'dark', viewport: { width: 1280, height: 900 }, shot: {} },
  { name: 'narrow', colorScheme: 'light', viewport: { width: 390, height: 844 }, shot: { clip: { x: 0, y: 0, width: 390, height: 1500 } } },
  { name: 'narrow-dark', colorScheme: 'dark', viewport: { width: 390, height: 844 } },
];
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

// A profile of its own, which is removed at the end.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

async function open(options) {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => { if (message.type() !== 'log') complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith('data:')) complaints.push(`request to ${request.url()}`);
  });
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
}

const text = (page, selector) => page.locator(selector).innerText();
const state = (page, wanted) => page.waitForFunction((wanted) => document.getElementById('live').textContent === wanted, wanted);

async function accessible(page) {
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate((rules) => window.axe.run(document, { runOnly: rules }), rules);
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map((node) => `    ${node.html}\n`).join('')}`);
  assert.equal(violations.length, 0, told.join('\n'));
  assert.ok(passes.length > 20, `axe has checked ${passes.length} rules only`);
  return passes.length;
}

try {
  for (const { name, shot, ...options } of views) {
    const { page, complaints, close } = await open(options);
    await state(page, 'Live');
    const checked = await accessible(page);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, `${name}: the page is wider than its window`);
    if (folder && shot) await page.screenshot({ path: join(folder, `status-${name}.png`), fullPage: true, ...shot });
    assert.deepEqual(complaints, [], name);
    await close();
    console.log(`${name}: ${checked} rules of axe hold, nothing on the console`);
  }

  const { page, close } = await open({});
  await state(page, 'Live');
  const before = await text(page, '#outcomes');
  await page.waitForFunction((before) => document.getElementById('outcomes').innerText !== before, before);
  console.log('live: the numbers move');
  await page.getByRole('button', { name: 'Pause' }).click();
  await state(page, 'Paused');
  await page.getByRole('button', { name: 'Resume' }).click();
  await state(page, 'Live');
  await page.locator('#namespaces .scroll').focus();
  await page.waitForFunction((before) => document.getElementById('outcomes').innerText !== before, await text(page, '#outcomes'));
  assert.ok(await page.evaluate(() => document.activeElement.closest('#namespaces')), 'the focus stays where it is');
  console.log('live: it can be paused, and leaves the focus alone');
  await close();

  const plain = await open({ javaScriptEnabled: false });
  assert.match(await text(plain.page, '#conflicts'), /absorbed since the start/);
  assert.match(await text(plain.page, '#namespaces'), /ml-training/);
  assert.match(await text(plain.page, 'header'), /Scripts are off/);
  assert.equal(await plain.page.getByRole('button').count(), 0, 'no button without a use');
  await plain.close();
  console.log('without scripts: every section is there');
} finally {
  await browser.close();
}
