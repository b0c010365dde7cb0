/** The bad line does what it says: nothing is lost, turned round or told, but what was cut. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { TcpProxy } from './tcp-proxy.js';

let server: Server;
let proxy: TcpProxy;
let near: Socket;
let far: Socket;

beforeEach(async () => {
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await TcpProxy.listen(() => (server.address() as AddressInfo).port);
  near = connect({ port: proxy.port, host: '127.0.0.1' });
  near.on('error', () => undefined);
  [far] = (await once(server, 'connection')) as [Socket];
  far.on('error', () => undefined);
});

afterEach(async () => {
  near.destroy();
  await proxy.close();
  server.close();
});

/** Until so many bytes have come. */
async function read(from: Socket, length: number): Promise<string> {
  let text = '';
  while (text.length < length) text += String((await once(from, 'data'))[0] as Buffer);
  return text;
}

/** By whatever means: `once` would fail at a reset. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => {
      resolve();
    });
  });
}

/** Long enough for what is under way on loopback to arrive. */
async function aWhile(): Promise<void> {
  for (let times = 0; times < 20; times += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a line through the proxy', () => {
  it('passes both directions', async () => {
    near.write('there');
    expect(await read(far, 5)).toBe('there');
    far.write('back');
    expect(await read(near, 4)).toBe('back');
  });

  it('that is silent in one direction keeps what is sent, in order, and passes the other', async () => {
    proxy.silence(['toTarget']);
    let heard = '';
    far.on('data', (chunk) => (heard += String(chunk)));
    for (const word of ['one ', 'two ', 'three']) near.write(word);
    far.write('back');
    expect(await read(near, 4)).toBe('back');
    await aWhile();
    expect(heard).toBe('');
    proxy.heal();
    near.write(' four');
    while (heard.length < 18) await once(far, 'data');
    expect(heard).toBe('one two three four');
  });

  it('that is slow delays, and keeps the order when it is repaired', async () => {
    proxy.slow(60);
    const from = performance.now();
    near.write('slow');
    expect(await read(far, 4)).toBe('slow');
    expect(performance.now() - from).toBeGreaterThan(50);
    near.write('one ');
    proxy.heal();
    near.write('two');
    expect(await read(far, 7)).toBe('one two');
  });

  it('that is silent tells neither side that the other has gone; once repaired it does', async () => {
    proxy.silence();
    let isTold = false;
    far.on('close', () => (isTold = true));
    far.resume();
    near.destroy();
    await aWhile();
    expect(isTold).toBe(false);
    const told = closed(far);
    proxy.heal();
    await told;
    expect(proxy.connections).toBe(0);
  });

  it('that is cut ends on both sides; one that refuses takes nobody until it is repaired', async () => {
    const ends = Promise.all([closed(near), closed(far)]);
    proxy.cut();
    await ends;

    proxy.refuse();
    const refused = connect({ port: proxy.port, host: '127.0.0.1' });
    refused.on('error', () => undefined);
    await closed(refused);

    proxy.heal();
    near = connect({ port: proxy.port, host: '127.0.0.1' });
    near.on('error', () => undefined);
    [far] = (await once(server, 'connection')) as [Socket];
    far.on('error', () => undefined);
    near.write('again');
    expect(await read(far, 5)).toBe('again');
  });
});
