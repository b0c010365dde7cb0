import { describe, expect, it } from '@jest/globals';
import { MultiMap } from './multi-map.js';

describe('MultiMap', () => {
  it('keeps each value once per key', () => {
    const map = new MultiMap<string, number>();
    for (const value of [1, 2, 1]) map.add('a', value);
    map.add('b', 1);
    expect([...map.get('a')]).toEqual([1, 2]);
    expect([...map.get('b')]).toEqual([1]);
  });

  it('forgets what is deleted, and deleting what is not there does nothing', () => {
    const map = new MultiMap<string, number>();
    map.add('a', 1);
    map.delete('a', 2);
    map.delete('b', 1);
    expect([...map.get('a')]).toEqual([1]);
    map.delete('a', 1);
    expect(map.get('a').size).toBe(0);
  });

  it('lists all values of all keys', () => {
    const map = new MultiMap<string, number>();
    expect([map.isEmpty, map.allValues()]).toEqual([true, []]);
    map.add('a', 1);
    map.add('b', 1);
    map.add('b', 2);
    expect([map.isEmpty, map.allValues()]).toEqual([false, [1, 1, 2]]);
    for (const value of map.allValues()) map.delete('b', value);
    expect(map.allValues()).toEqual([1]);
  });

  it('an empty set is not kept, so that a key that comes and goes costs nothing', () => {
    const map = new MultiMap<string, number>();
    map.add('a', 1);
    const first = map.get('a');
    map.delete('a', 1);
    map.add('a', 1);
    expect(map.get('a')).not.toBe(first);
  });
});
