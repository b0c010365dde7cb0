/** From what changed to who must look: one pass over the difference, through the indexes. */
import { clientImpacts } from '../core/authorizer/client-impact.js';
import type { AccountState } from '../core/authorizer/account-state.js';
import type { Flow, FlowTable } from '../core/authorizer/flow-table.js';
import type { StateDelta } from '../core/authorizer/state-delta.js';
import type { ClientId, GatewayId, ResourceId, TokenId } from '../core/model/ids.js';
import type { Cut, GatewayImpact, StepImpacts } from '../core/ports/account-streams.js';

interface Live {
  readonly gateways: ReadonlySet<GatewayId>;
  readonly clients: ReadonlySet<ClientId>;
}

export function stepImpacts(
  delta: StateDelta,
  cuts: readonly Cut[],
  state: AccountState,
  flows: FlowTable,
  live: Live,
): StepImpacts {
  return {
    gateways: gatewayImpacts(delta, cuts, state, flows, live.gateways),
    clients: clientImpacts(delta, state, live.clients),
  };
}

/** Impacts of a step that decides some flows again and changes no row. */
export function flowImpacts(flows: ReadonlySet<Flow>): Map<GatewayId, GatewayImpact> {
  const impacts = new Map<GatewayId, DraftImpact>();
  for (const flow of flows) draftOf(impacts, flow.gatewayId).flows.add(flow);
  return impacts;
}

interface DraftImpact extends GatewayImpact {
  readonly flows: Set<Flow>;
  readonly resources: Set<ResourceId>;
  slugChanged: boolean;
  isGone: boolean;
  readonly deletedTokens: Set<TokenId>;
  readonly cuts: Cut[];
}

function gatewayImpacts(
  delta: StateDelta,
  cuts: readonly Cut[],
  state: AccountState,
  flows: FlowTable,
  live: ReadonlySet<GatewayId>,
): Map<GatewayId, GatewayImpact> {
  const impacts = new Map<GatewayId, DraftImpact>();
  if (live.size === 0) return impacts;
  const onAll = (mark: (impact: DraftImpact) => void): void => {
    for (const gatewayId of live) mark(draftOf(impacts, gatewayId));
  };

  for (const [gatewayId, touched] of flows.touchedBy(delta, state)) {
    for (const flow of touched) draftOf(impacts, gatewayId).flows.add(flow);
  }
  for (const { after } of delta.resources) {
    if (!after) continue;
    for (const flow of flows.ofResource(after.id)) draftOf(impacts, flow.gatewayId).resources.add(after.id);
  }
  for (const { before, after } of delta.accounts) {
    if (!after) onAll((impact) => (impact.isGone = true));
    else if (before && before.slug !== after.slug) onAll((impact) => (impact.slugChanged = true));
  }
  for (const { before, after } of delta.gateways) {
    if (before && !after) draftOf(impacts, before.id).isGone = true;
  }
  for (const { before, after } of delta.tokens) {
    if (before?.kind === 'gateway' && !after) onAll((impact) => impact.deletedTokens.add(before.id));
  }
  for (const cut of cuts) {
    if (cut.kind === 'flow') draftOf(impacts, cut.gatewayId).cuts.push(cut);
    else onAll((impact) => impact.cuts.push(cut));
  }
  return impacts;
}

function draftOf(impacts: Map<GatewayId, DraftImpact>, gatewayId: GatewayId): DraftImpact {
  let impact = impacts.get(gatewayId);
  if (!impact) {
    impact = {
      flows: new Set(),
      resources: new Set(),
      slugChanged: false,
      isGone: false,
      deletedTokens: new Set(),
      cuts: [],
    };
    impacts.set(gatewayId, impact);
  }
  return impact;
}
