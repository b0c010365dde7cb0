import { describe, expect, it } from '@jest/globals';
import { encodeBarrier, selectSerializer } from './frame.js';
import type { Serializer } from './frame.js';

function serializer(vsn?: string): Serializer {
  const selected = selectSerializer(vsn);
  if (!selected) throw new Error(`no serializer for ${vsn}`);
  return selected;
}

const v1 = serializer();
const v2 = serializer('2.0.0');

describe('the choice of a serializer', () => {
  it.each([undefined, '1', '1.0', '1.0.0', '1.9.12'])('vsn %s speaks objects', (vsn) => {
    expect(selectSerializer(vsn)?.version).toBe(1);
  });

  it.each(['2', '2.0', '2.0.0'])('vsn %s speaks arrays', (vsn) => {
    expect(selectSerializer(vsn)?.version).toBe(2);
  });

  it.each([
    '',
    '3.0.0',
    '0',
    '10.0',
    '21',
    '2.0.0.0',
    '2.',
    '2.x',
    ' 2.0.0',
    '2.0.0-rc',
    '__proto__',
    '2'.repeat(9000),
  ])('vsn %j is refused', (vsn) => {
    expect(selectSerializer(vsn)).toBeUndefined();
  });
});

describe('a V1 frame', () => {
  it('is read with its ref in the JSON type it came in', () => {
    for (const ref of [0, 57, -1, 1.5, '9', '', true, false, null]) {
      const decoded = v1.decode(JSON.stringify({ topic: 'client', event: 'phx_join', payload: null, ref }));
      expect(decoded).toEqual({
        ok: true,
        frame: { joinRef: null, ref, topic: 'client', event: 'phx_join', payload: null },
      });
      if (decoded.ok) expect(JSON.parse(v1.encodeOk(decoded.frame))).toMatchObject({ ref });
    }
  });

  it('may lack ref and payload, and may carry members we do not know', () => {
    expect(v1.decode('{"topic":"client","event":"x","join_ref":"3","more":{}}')).toEqual({
      ok: true,
      frame: { joinRef: null, ref: null, topic: 'client', event: 'x', payload: undefined },
    });
  });

  it.each([
    ['', 'not-json'],
    ['{"topic":"client"', 'not-json'],
    ['\u0000', 'not-json'],
    ["{'topic':'client'}", 'not-json'],
    ['null', 'not-a-frame'],
    ['7', 'not-a-frame'],
    ['"client"', 'not-a-frame'],
    ['[null,"1","client","x",{}]', 'not-a-frame'],
    ['{}', 'not-a-frame'],
    ['{"topic":"client"}', 'not-a-frame'],
    ['{"event":"x"}', 'not-a-frame'],
    ['{"topic":1,"event":"x"}', 'not-a-frame'],
    ['{"topic":"client","event":{}}', 'not-a-frame'],
    ['{"topic":"client","event":"x","ref":{}}', 'not-a-frame'],
    ['{"topic":"client","event":"x","ref":[1]}', 'not-a-frame'],
    ['{"topic":"client","event":"x","ref":1e400}', 'not-a-frame'],
  ])('%j is refused as %s', (text, why) => {
    expect(v1.decode(text)).toEqual({ ok: false, why });
  });

  it('takes nothing from a prototype (B5)', () => {
    expect(v1.decode('{"__proto__":{"topic":"client","event":"x"}}')).toEqual({ ok: false, why: 'not-a-frame' });
    expect(v1.decode('{"topic":"client","event":"x","__proto__":{"ref":9,"payload":{"a":1}}}')).toMatchObject({
      frame: { ref: null, payload: undefined },
    });
  });

  it('may name topic and event like members of Object.prototype and gets a plain answer (B5)', () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype']) {
      const decoded = v1.decode(JSON.stringify({ topic: name, event: name, ref: name, payload: { [name]: 1 } }));
      if (!decoded.ok) throw new Error('must decode');
      expect(JSON.parse(v1.encodeError(decoded.frame, 'unmatched topic'))).toEqual({
        topic: name,
        event: 'phx_reply',
        ref: name,
        payload: { status: 'error', response: { reason: 'unmatched topic' } },
      });
    }
  });

  it('B3: reads JSON up to 64 levels deep, and nothing deeper, wherever brackets stand', () => {
    const framed = (payload: string): string => `{"topic":"client","event":"x","payload":${payload}}`;
    const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    expect(v1.decode(framed(nested(63)))).toMatchObject({ ok: true });
    expect(v1.decode(framed(nested(64)))).toEqual({ ok: false, why: 'not-json' });
    expect(v1.decode(framed(`{"a":`.repeat(64) + '1' + '}'.repeat(64)))).toEqual({ ok: false, why: 'not-json' });
    expect(v1.decode(framed(`[${Array.from({ length: 1000 }, () => nested(10)).join(',')}]`))).toMatchObject({
      ok: true,
    });
    const text = '\\"[{'.repeat(100);
    expect(v1.decode(framed(JSON.stringify(text)))).toMatchObject({ ok: true, frame: { payload: text } });
    expect(v1.decode(framed(`["a\\\\",${nested(64)}]`))).toEqual({ ok: false, why: 'not-json' });
  });
});

describe('what we write in V1', () => {
  const to = { joinRef: null, ref: 57, topic: 'client' };

  it('answers ok without any member in the response', () => {
    expect(v1.encodeOk(to)).toBe(
      '{"topic":"client","event":"phx_reply","ref":57,"payload":{"status":"ok","response":{}}}',
    );
  });

  it('answers an error with its reason, and lets nothing replace the reason', () => {
    const text = v1.encodeError(to, 'forbidden', { violated_properties: ['remote_ip'], reason: 'other' });
    expect(JSON.parse(text)).toEqual({
      topic: 'client',
      event: 'phx_reply',
      ref: 57,
      payload: { status: 'error', response: { reason: 'forbidden', violated_properties: ['remote_ip'] } },
    });
  });

  it('pushes payload text as it is, with ref null and no join_ref', () => {
    expect(v1.encodePush('client', 'resource_deleted', '"4f0c1f7e"', 'ignored')).toBe(
      '{"topic":"client","event":"resource_deleted","ref":null,"payload":"4f0c1f7e"}',
    );
  });

  it('closes a channel with an empty payload', () => {
    expect(JSON.parse(v1.encodeClose('client', null))).toEqual({
      topic: 'client',
      event: 'phx_close',
      ref: null,
      payload: {},
    });
  });
});

describe('V2', () => {
  it('reads five places, no more and no fewer', () => {
    expect(v2.decode('["3","4","client","create_flow",{"a":1}]')).toEqual({
      ok: true,
      frame: { joinRef: '3', ref: '4', topic: 'client', event: 'create_flow', payload: { a: 1 } },
    });
    for (const text of [
      '[]',
      '["3","4","client","x"]',
      '["3","4","client","x",{},1]',
      '{"topic":"client","event":"x"}',
      '[[],"4","client","x",{}]',
      '["3",{},"client","x",{}]',
      '["3","4",5,"x",{}]',
      '["3","4","client",null,{}]',
    ])
      expect(v2.decode(text)).toEqual({ ok: false, why: 'not-a-frame' });
    expect(v2.decode('["3"')).toEqual({ ok: false, why: 'not-json' });
  });

  it('repeats both refs in replies and names the join in pushes', () => {
    const to = { joinRef: '3', ref: '4', topic: 'client' };
    expect(v2.encodeOk(to)).toBe('["3","4","client","phx_reply",{"status":"ok","response":{}}]');
    expect(v2.encodeError(to, 'unknown_message')).toBe(
      '["3","4","client","phx_reply",{"status":"error","response":{"reason":"unknown_message"}}]',
    );
    expect(v2.encodePush('client', 'init', '{}', '3')).toBe('["3",null,"client","init",{}]');
    expect(v2.encodeClose('client', '3')).toBe('["3","3","client","phx_close",{}]');
  });
});

describe('the barrier', () => {
  it('is the frame every peer ignores, small enough for a Ping', () => {
    expect(JSON.parse(encodeBarrier(7))).toEqual({ topic: 'phoenix', event: 'phx_error', payload: {}, ref: 7 });
    expect(encodeBarrier(Number.MAX_SAFE_INTEGER).length).toBeLessThanOrEqual(125);
  });
});
