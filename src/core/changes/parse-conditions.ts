import type { ConditionSource } from '../model/rows.js';
import { membersOf, parseJson } from './parse-json.js';

/**
 * `policies.conditions`: a JSON list of `{property, operator, values}`. One entry of another shape, also one with a key
 * we do not know, makes the whole list unreadable: a condition that is not understood must not be left out. Values that
 * are null count as none. What properties and operators mean is the authorizer's business.
 */
export function parseConditions(text: string | null): readonly ConditionSource[] | 'unreadable' {
  const list = parseJson(text);
  if (!Array.isArray(list)) return 'unreadable';
  const conditions: ConditionSource[] = [];
  for (const entry of list as readonly unknown[]) {
    const condition = parseCondition(entry);
    if (!condition) return 'unreadable';
    conditions.push(condition);
  }
  return conditions;
}

function parseCondition(entry: unknown): ConditionSource | undefined {
  const members = membersOf(entry);
  if (members?.size !== 3) return undefined;
  const property = members.get('property');
  const operator = members.get('operator');
  const values = members.get('values') === null ? [] : members.get('values');
  if (typeof property !== 'string' || typeof operator !== 'string' || !isTextList(values)) return undefined;
  return { property, operator, values };
}

function isTextList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((element) => typeof element === 'string');
}
